"""Scorers of rows: of all rows of a shard at once, or in batches that fit into the memory."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from prism.data import Encoded, Row
from prism.model.memory import in_fitting_batches
from prism.scoring.scorer import Advance, Scored

Floats = npt.NDArray[np.float64]
Measure = Callable[[Sequence[Row], Sequence[Encoded]], Floats]
MeasureBatch = Callable[[Sequence[Row], Sequence[Encoded]], tuple[Floats, Floats | None]]


class Rowwise:
    """Scores [n, K] that `measure` makes of rows without a model."""

    def __init__(self, name: str, measure: Measure) -> None:
        self._name, self._measure = name, measure

    def recall(self, notes: Mapping[str, Any]) -> None:
        """There is nothing to remember."""

    def score_rows(self, rows: Sequence[Row], samples: Sequence[Encoded], advance: Advance) -> Scored:
        scores = self._measure(rows, samples)
        advance(len(rows), sum(len(s) for s in samples))
        nothing = np.full(len(rows), np.nan)
        return Scored(nothing, scores, nothing, np.ones(len(rows), dtype=bool), {"engine": self._name})


class Batchwise:
    """Scores [n, K], and summed response losses [n] where there are any, that `measure` makes of batches of rows under
    a budget of padded tokens, which halves where memory runs out."""

    def __init__(self, name: str, measure: MeasureBatch, columns: int, batch_tokens: int) -> None:
        self._name, self._measure, self._columns = name, measure, columns
        self.budget = batch_tokens

    def recall(self, notes: Mapping[str, Any]) -> None:
        self.budget = notes.get("batch_tokens", self.budget)

    def score_rows(self, rows: Sequence[Row], samples: Sequence[Encoded], advance: Advance) -> Scored:
        count, lengths, before = len(rows), [len(s) for s in samples], self.budget
        scores, losses = np.full((count, self._columns), np.nan), np.full(count, np.nan)
        fits = np.ones(count, dtype=bool)

        def run(places: list[int]) -> tuple[Floats, Floats | None]:
            return self._measure([rows[i] for i in places], [samples[i] for i in places])

        def take(places: list[int], made: tuple[Floats, Floats | None] | None) -> None:
            if made is None:
                fits[places] = False
            else:
                scores[places] = made[0]
                if made[1] is not None:
                    losses[places] = made[1]
            advance(len(places), sum(lengths[i] for i in places))

        self.budget = in_fitting_batches(lengths, self.budget, run, take)
        notes: dict[str, Any] = {"engine": self._name, "batch_tokens": self.budget}
        said = []
        if self.budget != before:
            notes["halved_from"] = before
            said.append(f"out of memory: batches of at most {self.budget} tokens from here on")
        return Scored(losses, scores, np.full(count, np.nan), fits, notes, said)
