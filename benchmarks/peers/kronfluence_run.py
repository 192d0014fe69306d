"""Kronfluence: pairwise scores with the identity strategy, one query."""

import argparse
from collections.abc import Sequence
from typing import Any

import common
import kronfluence.score.pairwise as pairwise
import torch
from clock import now
from kronfluence.analyzer import Analyzer, prepare_model
from kronfluence.arguments import FactorArguments, ScoreArguments
from kronfluence.task import Task
from kronfluence.utils.dataset import DataLoaderKwargs
from workload import Sample, Workload

Batch = dict[str, torch.Tensor]


class ResponseLoss(Task):
    """The summed loss of the response tokens, for samples and query alike."""

    def __init__(self, modules: list[str]) -> None:
        self._modules = modules

    def compute_train_loss(self, batch: Batch, model: torch.nn.Module, sample: bool = False) -> torch.Tensor:
        return common.summed_loss(model, batch)

    def compute_measurement(self, batch: Batch, model: torch.nn.Module) -> torch.Tensor:
        return common.summed_loss(model, batch)

    def get_influence_tracked_modules(self) -> list[str]:
        return self._modules


class Clock:
    """In the place of kronfluence's pass over the training data, which follows the query's gradient."""

    def __init__(self) -> None:
        self._pass = pairwise.compute_dot_products_with_loader
        self.seconds = 0.0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        start = now()
        scores = self._pass(*args, **kwargs)
        self.seconds = now() - start
        return scores


def single(items: list[Batch]) -> Batch:
    (batch,) = items
    return batch


def prepare(workload: Workload, args: argparse.Namespace) -> common.Peer:
    network = common.load_network(workload, args.parameters)
    task = ResponseLoss(common.linear_modules(network, args.parameters))
    analyzer = Analyzer(
        "peers",
        prepare_model(network, task),
        task,
        cpu=True,
        disable_tqdm=True,
        output_dir=str(common.scratch("kronfluence")),
    )
    analyzer.set_dataloader_kwargs(DataLoaderKwargs(collate_fn=single))
    analyzer.fit_all_factors("identity", [], factor_args=FactorArguments(strategy="identity"))
    clock = pairwise.compute_dot_products_with_loader = Clock()

    def run(samples: Sequence[Sample]) -> tuple[float, common.Scores]:
        batches = common.plan(samples, args.batch_tokens)
        analyzer.compute_pairwise_scores(
            "scores",
            "identity",
            query_dataset=[common.collate([workload.query])],
            train_dataset=[common.collate([samples[i] for i in batch]) for batch in batches],
            per_device_query_batch_size=1,
            per_device_train_batch_size=1,
            score_args=ScoreArguments(damping_factor=0.0),
            overwrite_output_dir=True,
        )
        found = analyzer.load_pairwise_scores("scores")
        ordered = torch.empty(len(samples))
        ordered[torch.tensor([i for batch in batches for i in batch])] = found["all_modules"][0]
        return clock.seconds, ordered.numpy()

    return common.Peer(
        run,
        "inner product with the query's gradient, exact",
        "the pass over the samples alone; loading the model, making the batches and the query's gradient are outside",
        f"handed to its data loader ready-made: by length, at most {args.batch_tokens} padded tokens",
    )


def main() -> None:
    common.run("kronfluence", ("kronfluence",), prepare, common.parser(__doc__).parse_args())


if __name__ == "__main__":
    main()
