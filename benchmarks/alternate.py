"""Passes that take turns, A B C A B C …, so that a noisy machine disturbs all alike; and what came of them."""

import gc
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Outcome:
    """Seconds of one pass by its own clock; the scores against the first direction, where it makes any."""

    seconds: float
    scores: Floats | None = None
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Pass:
    """What `run` computes, over the first `rows` rows of the workload; `once`: too slow to be repeated."""

    key: str
    computes: str
    rows: int
    tokens: int
    run: Callable[[], Outcome]
    once: bool = False
    details: dict[str, Any] = field(default_factory=dict)


class NotRun(Exception):
    """A pass that can't be run here, or was stopped; the message says why. `below`: samples per second that it did not
    reach."""

    def __init__(self, reason: str, below: float | None = None) -> None:
        super().__init__(reason)
        self.below = below


@dataclass
class Timed:
    """A pass with its outcomes so far, or the problem that ended it."""

    made: Pass
    outcomes: list[Outcome] = field(default_factory=list)
    problem: str = ""
    below: float | None = None

    @property
    def seconds(self) -> float:
        return statistics.median(o.seconds for o in self.outcomes)

    @property
    def rate(self) -> float | None:
        """Samples per second, by the median; None where nothing ran."""
        return self.made.rows / self.seconds if self.outcomes else None

    def as_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "pass": self.made.key,
            "computes": self.made.computes,
            "rows": self.made.rows,
            "tokens": self.made.tokens,
            **self.made.details,
        }
        if self.outcomes:
            times = [o.seconds for o in self.outcomes]
            found |= {
                "seconds": [round(t, 4) for t in times],
                "samples_per_second": round(self.made.rows / self.seconds, 3),
                "slowest": round(self.made.rows / max(times), 3),
                "fastest": round(self.made.rows / min(times), 3),
                "tokens_per_second": round(self.made.tokens / self.seconds, 1),
                **self.outcomes[-1].details,
            }
        if self.problem:
            found["problem"] = self.problem
        if self.below:
            found["below"] = self.below
        return found


def alternated(
    passes: Sequence[Pass],
    repeats: int,
    after_each: Callable[[list[Timed]], None] = lambda _: None,
    time_for: Callable[[float], bool] = lambda _: True,
) -> list[Timed]:
    """Every pass `repeats` times, in turns; one that can't go on keeps what it has. `after_each` sees every turn;
    `time_for` is asked whether another turn of so many seconds may begin."""
    timed = [Timed(p) for p in passes]
    lasted = 0.0
    for turn in range(repeats):
        if not time_for(lasted):
            break
        start = time.perf_counter()
        for one in timed:
            if one.problem or (one.made.once and turn):
                continue
            gc.collect()
            try:
                one.outcomes.append(one.made.run())
                said = f"{one.outcomes[-1].seconds:.1f} s"
            except NotRun as reason:
                one.problem = said = str(reason)
                one.below = reason.below
            print(f"  {turn + 1}/{repeats} {one.made.key}: {said}", file=sys.stderr, flush=True)
        after_each(timed)
        lasted = time.perf_counter() - start
    return timed
