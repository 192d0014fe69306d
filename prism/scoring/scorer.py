"""Score the samples of one shard after another, in batches that fit into memory."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from prism.data import Encoded, Row, collate
from prism.model import Model
from prism.model.memory import attempt, in_fitting_batches
from prism.scoring.calibrate import scores_in_batches, tolerance
from prism.scoring.choose import Chosen
from prism.scoring.engine import BatchScores, Engine
from prism.scoring.notes import Floats, Notes

Advance = Callable[[int, int], None]


@dataclass(frozen=True)
class Scored:
    """losses, norms [n] and scores [n, K] of n samples, NaN where there is none; `fits` [n]: false where a sample alone
    is too long for the memory; `notes`: what a resumed run, or the reader of a shard, has to know; `said`: what the
    user has."""

    losses: Floats
    scores: Floats
    norms: Floats
    fits: npt.NDArray[np.bool_]
    notes: dict[str, Any] = field(default_factory=dict)
    said: Sequence[str] = ()

    @classmethod
    def nothing(cls, directions: int) -> "Scored":
        """Of no sample at all."""
        return cls(np.empty(0), np.empty((0, directions)), np.empty(0), np.empty(0, dtype=bool))


class Scorer:
    """An engine, the token budget of its batches, and notes on how it has done so far.

    The budget halves where memory runs out. An inexact engine is compared with its reference on two samples of each
    shard; where the two differ by more than they may, the reference takes over.
    """

    def __init__(self, model: Model, chosen: Chosen, directions: int, batch_tokens: int) -> None:
        self.engine: Engine = chosen.engine
        self.budget = batch_tokens
        self._reference = chosen.reference
        self._model, self._directions = model, directions
        self._notes = Notes()

    def recall(self, notes: Mapping[str, Any]) -> None:
        """Go on as the pass that left these notes on a shard did."""
        self.budget = notes.get("batch_tokens", self.budget)
        self._notes.add(notes)
        if self._reference is not None and notes.get("engine") == self._reference.name:
            self._give_up()

    def score_rows(self, _: Sequence[Row], samples: Sequence[Encoded], advance: Advance) -> Scored:
        """`score`, for what feeds rows too."""
        return self.score(samples, advance)

    def score(self, samples: Sequence[Encoded], advance: Advance) -> Scored:
        """Raises ModelError where the engine can't go on."""
        before = self.budget
        notes: dict[str, Any] = {}
        said: list[str] = []
        scored = self._all(samples, advance)
        if self._reference is not None and len(samples):
            squares = self._differences(self._reference, samples, scored)
            if self._notes.error_with(squares) <= tolerance(self._model):
                notes["difference"] = squares.tolist()
            else:
                error = self._notes.error_with(squares)
                said.append(f"the {self.engine.name} engine is off by {error:.1e} of the scores: it is given up")
                self._give_up()
                scored = self._all(samples, lambda *_: None)
        if self.budget != before:
            notes["halved_from"] = before
            said.append(f"out of memory: batches of at most {self.budget} tokens from here on")
        notes |= {"engine": self.engine.name, "batch_tokens": self.budget}
        self._notes.add(notes)
        return replace(scored, notes=notes, said=said)

    def _give_up(self) -> None:
        """Take the exact engine from here on."""
        assert self._reference is not None
        self.engine, self._reference = self._reference, None

    def _all(self, samples: Sequence[Encoded], advance: Advance) -> Scored:
        count, lengths = len(samples), [len(s) for s in samples]
        losses, norms = np.full(count, np.nan), np.full(count, np.nan)
        scores, fits = np.full((count, self._directions), np.nan), np.ones(count, dtype=bool)

        def take(places: list[int], result: BatchScores | None) -> None:
            if result is None and self._reference is not None:
                result = attempt(partial(self._run, self._reference, samples, places))
            if result is None:
                fits[places] = False
            else:
                losses[places], scores[places] = _numpy(result.losses), _numpy(result.scores)
                if result.norms is not None:
                    norms[places] = _numpy(result.norms)
            advance(len(places), sum(lengths[i] for i in places))

        self.budget = in_fitting_batches(lengths, self.budget, partial(self._run, self.engine, samples), take)
        return Scored(losses, scores, norms, fits)

    def _run(self, engine: Engine, samples: Sequence[Encoded], places: Sequence[int]) -> BatchScores:
        return engine.score(collate([samples[i] for i in places]).to(self._model.device))

    def _differences(self, reference: Engine, samples: Sequence[Encoded], scored: Scored) -> Floats:
        """(squared differences from the reference, of a short and a long sample; mean square of all scores, twice)."""
        finite = [i for i in np.argsort([len(s) for s in samples], kind="stable") if math.isfinite(scored.scores[i, 0])]
        if not finite:
            return np.zeros(2)
        places = sorted({finite[len(finite) // 4], finite[3 * len(finite) // 4]})
        exact, _ = scores_in_batches(self._model, reference, [samples[i] for i in places], self.budget)
        squares = np.square(scored.scores[places, 0] - exact)[np.isfinite(exact)]
        return np.array([squares.sum(), len(squares) * np.square(scored.scores[finite, 0]).mean()])


def _numpy(t: torch.Tensor) -> Floats:
    values: Floats = t.double().cpu().numpy()
    return values
