"""dattri-LLM: TracIn at one checkpoint (Grad-Dot), gradients streamed straight into scoring.

`--mode instance` scores whole samples, on the route that its cost rule chooses; `--mode token` scores single tokens,
which are summed here by sample. The model is frozen but for the embedding, as its documentation advises for a probe,
and linear layers take the forward pass that forms no weight gradient.
"""

import argparse
import re
from collections.abc import Iterator, Sequence
from typing import Any

import common
import numpy as np
import torch
from clock import now
from dattri_llm import AttributionArguments, AttributionTask, HookManagerConfig, TracInAttributor
from dattri_llm.gradient.streaming import GradientStreamer
from workload import Sample, Workload

Batch = dict[str, torch.Tensor]
COMPUTES = {
    "instance": "inner product with the query's gradient, exact; its cost rule forms the samples' gradients or doesn't",
    "token": "inner product with the query's gradient, exact; products of single tokens, summed by sample",
}


class Stamped:
    """A gradient source that notes when it is begun."""

    def __init__(self, source: GradientStreamer) -> None:
        self._source = source
        self.start = 0.0

    def __iter__(self) -> Iterator[Any]:
        self.start = now()
        return iter(self._source)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)


class Clocked(TracInAttributor):
    """With a clock around the pass over the training data, and batches that are made beforehand."""

    seconds = 0.0

    def generate_train_rep(self, train_dataset: Any, **kwargs: Any) -> GradientStreamer:
        task = self.require_task("attribute")
        return GradientStreamer(
            task.model,
            train_dataset,
            self.args,
            batch_size=1,
            loss_fn=self.train_loss_fn(),
            config=kwargs["hook_config"],
            collate_fn=single,
        )

    def score_sources(self, train_source: Any, test_source: Any, **kwargs: Any) -> Any:
        stamped = Stamped(train_source)
        found = super().score_sources(stamped, test_source, **kwargs)
        self.seconds = now() - stamped.start
        return found


def single(items: list[Batch]) -> Batch:
    (batch,) = items
    return batch


def prepare(workload: Workload, args: argparse.Namespace) -> common.Peer:
    network = common.load_network(workload, args.parameters)
    network.get_input_embeddings().weight.requires_grad_(True)
    patterns = [f"^{re.escape(name)}$" for name in common.linear_modules(network, args.parameters)]
    hooks = HookManagerConfig(invasive_linear_io=patterns, capture_style=args.capture, include_frozen=True)
    query = [{key: value[0] for key, value in common.collate([workload.query]).items()}]
    scratch = str(common.scratch("dattri"))

    def run(samples: Sequence[Sample]) -> tuple[float, common.Scores]:
        batches = common.plan(samples, args.batch_tokens)
        mean = max(1, len(samples) // len(batches))  # what the cost rule takes for the batch size
        arguments = AttributionArguments(output_dir=scratch, per_device_train_batch_size=mean, use_cpu=True)
        attributor = Clocked(arguments, task=AttributionTask(common.summed_loss, network))
        result = attributor.attribute(
            [common.collate([samples[i] for i in batch]) for batch in batches],
            query,
            hook_config=hooks,
            attribution_granularity=args.mode,
        )
        rows = result.scores[:, 0].numpy()
        if args.mode == "token":
            rows = np.add.reduceat(rows, np.flatnonzero(np.asarray(result.row_token_ids) == 0))
        ordered = np.empty(len(samples), dtype=np.float32)
        ordered[[i for batch in batches for i in batch]] = rows
        return attributor.seconds, ordered

    return common.Peer(
        run,
        COMPUTES[args.mode],
        "the pass over the samples alone, with its hashing of samples; loading the model, making the batches and the "
        "query's gradient are outside",
        f"handed to its data loader ready-made: by length, at most {args.batch_tokens} padded tokens",
        {"mode": args.mode, "capture_style": args.capture, "hooks": "invasive_linear_io, include_frozen"},
    )


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--mode", choices=tuple(COMPUTES), default="instance")
    parser.add_argument("--capture", choices=("auto", "factorized", "materialized"), default="auto")
    args = parser.parse_args()
    common.run(f"dattri-llm, {args.mode}", ("dattri-llm", "dattri"), prepare, args)


if __name__ == "__main__":
    main()
