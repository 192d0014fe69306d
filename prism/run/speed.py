"""What a method's passes cost, beside a plain pass of PRISM over some of the same rows."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from prism.data import Encoder
from prism.model import Model
from prism.run.prepare import Job
from prism.scoring import Chosen, ScoreTable, first_encoded
from prism.scoring.choose import backward_engine, stacked
from prism.scoring.scorer import Scorer
from prism.target import Direction


class Speed:
    """Seconds of the last pass, and tokens per second of the plain one; both only where a whole pass was made here."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._passes = 0
        self._plain: float | None = None

    @contextmanager
    def of(self, passes: int) -> Iterator[None]:
        """Time one of so many passes."""
        began = time.monotonic()
        yield
        self._seconds, self._passes = time.monotonic() - began, passes

    def compare(self, model: Model, job: Job, encoder: Encoder, direction: Direction) -> None:
        """Time the exact engine with one direction on the pool's first samples."""
        samples = first_encoded(job.pool, encoder)
        if not samples:
            return
        engine, why = backward_engine(model, stacked(model, [direction]), norms=False, probes=samples)
        scorer = Scorer(model, Chosen(engine, why), 1, job.config.batch_tokens)
        for _ in range(2):  # the first one warms up
            began = time.monotonic()
            scorer.score(samples, lambda *_: None)
        self._plain = sum(map(len, samples)) / (time.monotonic() - began)

    def told(self, scores: ScoreTable) -> dict[str, Any] | None:
        """JSON-ready: rows and tokens per second of one pass, the same of the plain pass, and how many of those the
        method takes in all; None where nothing was timed."""
        if self._plain is None:
            return None
        tokens = int(scores.column("tokens").sum(dtype=np.int64))
        plain = tokens / self._plain
        return {
            "passes": self._passes,
            "rows_per_second": round(len(scores) / self._seconds, 2),
            "prism_rows_per_second": round(len(scores) / plain, 2),
            "prism_passes": round(self._passes * self._seconds / plain, 2),
        }
