"""Each target pair, or each subtask, takes its best remaining row in turn."""

from collections.abc import Iterator
from itertools import cycle
from typing import Any

import numpy as np
import numpy.typing as npt

from prism.selection.gains import spill
from prism.selection.strategies import Places, Task

FIRST = 64  # of a group's rows that are put in order at once; doubled when they are used up


class Ranking:
    """The rows of one group, best first, ties by id; no more of them are put in order than are asked for."""

    def __init__(self, values: npt.NDArray[Any], candidates: Places, by_id: Places) -> None:
        self._values, self._candidates, self._by_id = values, candidates, by_id
        self._ordered = np.empty(0, dtype=np.int32)

    def upto(self, count: int) -> npt.NDArray[np.int32]:
        """The best `count` rows, or all."""
        if count > len(self._ordered) < len(self._candidates):
            values = self._values[self._candidates]
            room = min(len(values), max(FIRST, 2 * count))
            least = np.partition(values, len(values) - room)[len(values) - room]
            best = self._candidates[values >= least]
            self._ordered = best[np.lexsort((self._by_id[best], -self._values[best]))].astype(np.int32)
        return self._ordered[:count]


class RoundRobin:
    """Turns go round the groups in their order (of the target's pairs, or of the subtasks' names); a group's turn lasts
    until one of its rows is taken, so that what other rules refuse costs it nothing.

    Every group gets its share of the budget, however much larger another's scores are; within its turn each does the
    best that it can. No sum is maximised.
    """

    skips = True

    def __init__(self, task: Task) -> None:
        gains = task.pair_gains("round-robin")
        names, blocks = gains.groups(task.turns)
        signed = blocks if task.order == "top" else (-block for block in blocks)
        matrix = spill(signed, len(task.scores), len(names), gains.scratch, across=True)
        candidates = np.sort(task.ranked)
        for row in matrix:
            candidates = candidates[np.isfinite(row[candidates])]
        self._rankings = [Ranking(row, candidates, task.by_id) for row in matrix]
        self._at = [0] * len(names)
        self._offered = np.zeros(len(task.scores), dtype=np.bool_)
        self._turns: Iterator[int] = cycle(range(len(names)))
        self._mine = next(self._turns)
        self._left = len(candidates)
        self.details = {"turns": task.turns, "groups": len(names)}
        short = not task.by_tokens and task.most < len(names)
        self.notices = [f"{len(names)} groups take turns, but the budget is {task.most} rows"] if short else []

    def next(self, room: int) -> int | None:
        if not self._left:
            return None
        place = self._best_of(self._mine)
        self._offered[place] = True
        self._left -= 1
        return place

    def took(self, place: int) -> None:
        self._mine = next(self._turns)

    def upcoming(self, count: int) -> list[int]:
        each = -(-count // len(self._rankings))
        found = np.concatenate([r.upto(at + each)[at:] for r, at in zip(self._rankings, self._at, strict=True)])
        return [int(place) for place in np.unique(found) if not self._offered[place]]

    def _best_of(self, group: int) -> int:
        while True:
            at = self._at[group]
            place = int(self._rankings[group].upto(at + 1)[at])
            self._at[group] += 1
            if not self._offered[place]:
                return place
