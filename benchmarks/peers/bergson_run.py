"""Bergson: score the samples against an index that holds the query's unprojected gradient.

It has three ways to the same number; `--mode` chooses one:

    gradient  per-sample gradients of each module, formed and multiplied with the query (the default of `bergson score`)
    tokens    attribute_tokens: products of single tokens, no gradient is formed; summed here by sample
    output    token_influence='output': forward-mode derivative of the losses along the query, one pass

The workers are those of `bergson build` and `bergson score`, called in this process.
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bergson.score.score as scoring
import common
import numpy as np
from bergson.build import build_worker
from bergson.config import IndexConfig, PreprocessConfig, ScoreConfig
from bergson.data import load_scores
from clock import now
from datasets import Dataset, disable_progress_bars
from workload import Sample, Workload

COMPUTES = {
    "gradient": "inner product with the query's gradient, exact; gradients of samples formed module by module",
    "tokens": "inner product with the query's gradient, exact; products of single tokens, summed by sample",
    "output": "inner product with the query's gradient, exact; forward-mode derivative along the query",
}


class Stamped:
    """A score writer that notes when it last wrote."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer
        self.last = 0.0

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        self._writer(*args, **kwargs)
        self.last = now()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)


class Clock:
    """In the place of bergson's `create_scorer`: the clock starts when the scorer is there."""

    def __init__(self) -> None:
        self._create = scoring.create_scorer
        self.start = 0.0
        self.writer: Stamped

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        scorer = self._create(*args, **kwargs)
        self.writer = scorer.writer = Stamped(scorer.writer)
        self.start = now()
        return scorer


def dataset(samples: Sequence[Sample]) -> Dataset:
    return Dataset.from_dict(
        {
            "input_ids": [s.input_ids for s in samples],
            "labels": [s.labels for s in samples],
            "length": [len(s) for s in samples],
        }
    )


def prepare(workload: Workload, args: argparse.Namespace) -> common.Peer:
    disable_progress_bars()
    scratch = common.scratch("bergson")
    model = str(workload.adapter if args.parameters == "lora" else workload.model)

    def config(folder: str, tokens: bool = False) -> IndexConfig:
        made = IndexConfig(
            run_path=str(scratch / folder),
            model=model,
            precision="fp32",
            projection_dim=0,
            loss_reduction="sum",
            token_batch_size=args.batch_tokens,
            attribute_tokens=tokens,
        )
        shutil.rmtree(made.partial_run_path, ignore_errors=True)
        made.partial_run_path.mkdir(parents=True)
        return made

    query = config("query")
    build_worker(0, 0, 1, query, PreprocessConfig(), dataset([workload.query]))
    score = ScoreConfig(
        query_path=str(query.partial_run_path), token_influence="output" if args.mode == "output" else "gradient"
    )
    clock = scoring.create_scorer = Clock()
    worker = scoring.output_influence_worker if args.mode == "output" else scoring.score_worker

    def run(samples: Sequence[Sample]) -> tuple[float, common.Scores]:
        index = config("scores", tokens=args.mode == "tokens")
        worker(0, 0, 1, index, score, PreprocessConfig(), dataset(samples))
        return clock.writer.last - clock.start, read(index.partial_run_path)

    return common.Peer(
        run,
        COMPUTES[args.mode],
        "from the first batch to the last written score; loading the model, the query's gradient and saving the "
        "dataset beside the scores are outside",
        f"its own: by length, at most {args.batch_tokens} padded tokens (token_batch_size)",
        {"mode": args.mode},
    )


def read(folder: Path) -> common.Scores:
    stored = load_scores(folder)
    values = np.asarray(stored[:])[:, 0].astype(np.float32)
    return values if stored.offsets is None else np.add.reduceat(values, stored.offsets[:-1])


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--mode", choices=tuple(COMPUTES), default="gradient")
    args = parser.parse_args()
    common.run(f"bergson, {args.mode}", ("bergson",), prepare, args)


if __name__ == "__main__":
    main()
