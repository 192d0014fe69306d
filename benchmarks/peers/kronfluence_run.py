"""Kronfluence: pairwise scores of one query, with the identity strategy or another that is fitted on the same samples.

Its factors are fitted at the data's own labels (empirical Fisher), on the samples that are scored; damping is its own
heuristic, 0.1 of each module's mean eigenvalue.
"""

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

    def get_attention_mask(self, batch: Batch) -> torch.Tensor:
        return batch["attention_mask"]

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


def collate(samples: Sequence[Sample]) -> Batch:
    batch = common.collate(samples)
    lengths = torch.tensor([len(sample) for sample in samples])
    return {**batch, "attention_mask": (torch.arange(batch["input_ids"].shape[1]) < lengths[:, None]).long()}


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
    identity = args.strategy == "identity"
    fitted_on = [] if identity else workload.samples[: args.rows]
    start = now()
    analyzer.fit_all_factors(
        args.strategy,
        [collate([fitted_on[i] for i in batch]) for batch in common.plan(fitted_on, args.batch_tokens)],
        per_device_batch_size=1,
        factor_args=FactorArguments(strategy=args.strategy, use_empirical_fisher=True),
    )
    fitting = now() - start
    clock = pairwise.compute_dot_products_with_loader = Clock()

    def run(samples: Sequence[Sample]) -> tuple[float, common.Scores]:
        batches = common.plan(samples, args.batch_tokens)
        analyzer.compute_pairwise_scores(
            "scores",
            args.strategy,
            query_dataset=[collate([workload.query])],
            train_dataset=[collate([samples[i] for i in batch]) for batch in batches],
            per_device_query_batch_size=1,
            per_device_train_batch_size=1,
            score_args=ScoreArguments(damping_factor=0.0 if identity else None),
            overwrite_output_dir=True,
        )
        found = analyzer.load_pairwise_scores("scores")
        ordered = torch.empty(len(samples))
        ordered[torch.tensor([i for batch in batches for i in batch])] = found["all_modules"][0]
        return clock.seconds, ordered.numpy()

    return common.Peer(
        run,
        "inner product with the query's gradient"
        + (", exact" if identity else f", preconditioned by {args.strategy} fitted on the same rows"),
        "the pass over the samples alone; loading the model, making the batches and the query's gradient are outside",
        f"handed to its data loader ready-made: by length, at most {args.batch_tokens} padded tokens",
        {"strategy": args.strategy, "fitting_seconds": round(fitting, 2)},
    )


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--strategy", choices=("identity", "diagonal", "kfac", "ekfac"), default="identity")
    common.run("kronfluence", ("kronfluence",), prepare, parser.parse_args())


if __name__ == "__main__":
    main()
