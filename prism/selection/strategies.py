"""In which order candidates come up: one class per strategy, and the table of them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from prism.errors import ConfigError, DataError
from prism.scoring import ScoreTable
from prism.selection.gains import PairGains, Turns
from prism.selection.selection import finite_rows

Order = Literal["top", "bottom"]
Places = npt.NDArray[np.int64]
BLOCK = 1 << 16


@dataclass(frozen=True)
class Task:
    """What a strategy may look at.

    Attributes:
        most: rows that the budget has; `most_tokens`: its response tokens; `by_tokens`: which of them it is.
        gains: the run's scores against each pair; raises RunError where it has none.
    """

    scores: ScoreTable
    order: Order
    most: int
    most_tokens: int
    by_tokens: bool
    gains: Callable[[], PairGains] | None = None
    turns: Turns = "pair"
    step: float | None = None

    @cached_property
    def ranked(self) -> Places:
        """Places of the rows with a finite score, best first, ties by id."""
        direction = "descending" if self.order == "top" else "ascending"
        keys = [("score", direction), ("id", "ascending")]  # Arrow compares strings by code point, as Python does
        table = self.scores.table.select(["score", "id"])
        ranked: Places = pc.sort_indices(table, sort_keys=keys).to_numpy().view(np.int64)
        return ranked[finite_rows(self.scores)[ranked]]

    @cached_property
    def tokens(self) -> npt.NDArray[np.int32]:
        """Response tokens [rows]."""
        return self.scores.column("response_tokens")

    @cached_property
    def by_id(self) -> Places:
        """Each row's place among all ids [rows]."""
        order = pc.sort_indices(self.scores.table.column("id")).to_numpy().view(np.int64)
        found = np.empty(len(order), dtype=np.int64)
        found[order] = np.arange(len(order))
        return found

    def pair_gains(self, strategy: str) -> PairGains:
        """Raises ConfigError where there are none."""
        if self.gains is None:
            raise ConfigError(f"strategy {strategy!r} needs the scores against each target pair: {HOW}")
        return self.gains()


HOW = "a run made with --pair-scores has them (prism select --pair-scores adds them to a finished run)"


class Strategy(Protocol):
    """Names the next candidate, given those that were taken so far. A candidate comes up once.

    `skips`: with a token budget, rows that no longer fit are passed over; else the first of them is the end.
    """

    @property
    def skips(self) -> bool: ...

    @property
    def details(self) -> dict[str, Any]: ...

    @property
    def notices(self) -> list[str]: ...

    def next(self, room: int) -> int | None:
        """The place of the next candidate; None where there is no other worth taking. Rows of more than `room` response
        tokens need not come up any more."""
        ...

    def took(self, place: int) -> None: ...

    def upcoming(self, count: int) -> list[int]:
        """About so many of the next candidates, as far as they are known."""
        ...


@dataclass
class InOrder:
    """Candidates in an order that does not depend on what is taken."""

    places: Places
    skips: bool = False
    details: dict[str, Any] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    at_end: str | None = None

    def __post_init__(self) -> None:
        self._at = 0
        self._rest = self._walk()

    def next(self, room: int) -> int | None:
        place = next(self._rest, None)
        self._at += place is not None
        if place is None and self.at_end:
            self.notices.append(self.at_end)
        return place

    def took(self, place: int) -> None:
        pass

    def upcoming(self, count: int) -> list[int]:
        return list(map(int, self.places[self._at : self._at + count]))

    def _walk(self) -> Iterator[int]:
        for first in range(0, len(self.places), BLOCK):
            yield from self.places[first : first + BLOCK].tolist()


def top(task: Task) -> InOrder:
    """By score: with a budget of rows, no selection has a higher sum of scores."""
    return InOrder(task.ranked)


def per_token(task: Task) -> InOrder:
    """By score per response token, rows that still fit, as long as they add to the sum: the greedy of the knapsack.

    With a token budget, the sum of scores is short of the best one possible by less than the score of the first row
    that did not fit (Dantzig 1957): the order by score per token is optimal where rows can be cut.
    """
    sign = 1 if task.order == "top" else -1
    values = sign * task.scores.column("score")[task.ranked]
    worth = task.ranked[values > 0]
    above = "above" if sign > 0 else "below"
    if not len(worth):
        raise DataError(
            f"no score is {above} zero, so --strategy per-token has nothing to add up; scores that are places or "
            "negative by nature (of rds+ or perplexity, say) have no sum per token: choose --strategy top"
        )
    density = values[values > 0] / np.maximum(1, task.tokens[worth])
    order = np.lexsort((task.by_id[worth], -density))
    left = len(task.ranked) - len(worth)
    end = f"the {left} rows whose score is not {above} zero add nothing to the sum, and are not chosen"
    return InOrder(worth[order], skips=True, at_end=end if left else None)
