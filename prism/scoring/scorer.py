"""Score the samples of one shard after another, in batches that fit into memory."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from prism.data import Encoded, collate, plan_batches
from prism.model import Model
from prism.model.memory import make_room, out_of_memory
from prism.scoring.calibrate import tolerance
from prism.scoring.choose import Chosen
from prism.scoring.engine import BatchScores, Engine

Floats = npt.NDArray[np.float64]
Advance = Callable[[int, int], None]


@dataclass(frozen=True)
class Scored:
    """losses, norms [n] and scores [n, K] of n samples, NaN where there is none; `fits` [n]: false where a sample alone
    is too long for the memory; `notes`: what a resumed run, or the reader of a shard, has to know."""

    losses: Floats
    scores: Floats
    norms: Floats
    fits: npt.NDArray[np.bool_]
    notes: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def nothing(cls, directions: int) -> "Scored":
        """Of no sample at all."""
        return cls(np.empty(0), np.empty((0, directions)), np.empty(0), np.empty(0, dtype=bool))


class Scorer:
    """An engine, the token budget of its batches, and how near it was to the exact scores so far.

    The budget halves where memory runs out. An inexact engine is compared with its reference on two samples of each
    shard; where the two differ by more than they may, the reference takes over.
    """

    def __init__(self, model: Model, chosen: Chosen, directions: int, batch_tokens: int) -> None:
        self.engine: Engine = chosen.engine
        self.budget = batch_tokens
        self.error = 0.0
        self._reference = chosen.reference
        self._model, self._directions = model, directions
        self._squares = np.zeros(2)

    def recall(self, notes: Mapping[str, Any]) -> None:
        """Go on as the pass that left these notes on a shard did."""
        self.budget = notes.get("batch_tokens", self.budget)
        self._compared(np.array(notes.get("difference", (0, 0))))
        if self._reference is not None and notes.get("engine") == self._reference.name:
            self.engine, self._reference = self._reference, None

    def score(self, samples: Sequence[Encoded], advance: Advance) -> Scored:
        """Raises ModelError where the engine can't go on."""
        before = self.budget
        scored = self._all(samples, advance)
        notes: dict[str, Any] = {"engine": self.engine.name}
        if self._reference is not None and len(samples):
            squares = self._differences(samples, scored)
            self._compared(squares)
            notes["difference"] = squares.tolist()
            if self.error > tolerance(self._model):
                self.engine, self._reference = self._reference, None
                scored = self._all(samples, lambda *_: None)
                notes["engine"] = self.engine.name
        if self.budget != before:
            notes["halved_from"] = before
        return Scored(scored.losses, scored.scores, scored.norms, scored.fits, {**notes, "batch_tokens": self.budget})

    def _all(self, samples: Sequence[Encoded], advance: Advance) -> Scored:
        count, lengths = len(samples), [len(s) for s in samples]
        losses, norms = np.full(count, np.nan), np.full(count, np.nan)
        scores, fits = np.full((count, self._directions), np.nan), np.ones(count, dtype=bool)
        batches = plan_batches(lengths, self.budget)
        while batches:
            batch = batches.pop(0)
            result = self._try(self.engine, [samples[i] for i in batch])
            if result is not None:
                losses[batch], scores[batch] = _numpy(result.losses), _numpy(result.scores)
                if result.norms is not None:
                    norms[batch] = _numpy(result.norms)
            elif len(batch) == 1:
                fits[batch] = False
            else:
                self.budget = max(1, len(batch) * lengths[batch[-1]] // 2)
                rest = [i for b in (batch, *batches) for i in b]
                batches = [[rest[i] for i in b] for b in plan_batches([lengths[i] for i in rest], self.budget)]
                continue
            advance(len(batch), sum(lengths[i] for i in batch))
        return Scored(losses, scores, norms, fits)

    def _try(self, engine: Engine | None, samples: Sequence[Encoded]) -> BatchScores | None:
        """None where memory does not suffice."""
        assert engine is not None
        try:
            return engine.score(collate(samples).to(self._model.device))
        except Exception as error:
            if not out_of_memory(error):
                raise
        make_room()
        return None

    def _differences(self, samples: Sequence[Encoded], scored: Scored) -> Floats:
        """(squared differences from the reference, of a short and a long sample; mean square of all scores, twice)."""
        finite = [i for i in np.argsort([len(s) for s in samples], kind="stable") if math.isfinite(scored.scores[i, 0])]
        places = sorted({finite[len(finite) // 4], finite[3 * len(finite) // 4]}) if finite else []
        exact = self._try(self._reference, [samples[i] for i in places]) if places else None
        if exact is None:
            return np.zeros(2)
        squares = np.square(scored.scores[places, 0] - _numpy(exact.scores[:, 0]))
        return np.array([squares.sum(), len(places) * np.square(scored.scores[finite, 0]).mean()])

    def _compared(self, squares: Floats) -> None:
        self._squares = self._squares + squares
        self.error = math.sqrt(self._squares[0] / self._squares[1]) if self._squares[1] else 0.0


def _numpy(t: torch.Tensor) -> Floats:
    values: Floats = t.double().cpu().numpy()
    return values
