"""What may keep a candidate out of a selection, whatever put it in its place: one small class per rule."""

from decimal import Decimal
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from prism.budget import Budget
from prism.errors import ConfigError
from prism.scoring import ScoreTable, repeated_values


class Rule(Protocol):
    """Asked of every candidate in turn, and told which were chosen."""

    refused: int

    @property
    def reason(self) -> str: ...

    def admits(self, place: int, cost: int, spent: int) -> bool:
        """Whether the row at `place`, of `cost` response tokens, may be chosen when `spent` of the budget is."""
        ...

    def took(self, place: int, cost: int) -> None: ...


class Duplicates:
    """Of rows that say exactly the same, the best placed."""

    reason = "duplicates"

    def __init__(self, contents: npt.NDArray[np.uint64]) -> None:
        self._contents = contents
        self._repeated = set(repeated_values(contents).tolist())
        self._seen: set[int] = set()
        self.refused = 0

    def admits(self, place: int, cost: int, spent: int) -> bool:
        return int(self._contents[place]) not in self._seen

    def took(self, place: int, cost: int) -> None:
        content = int(self._contents[place])
        if content in self._repeated:
            self._seen.add(content)


class Sources:
    """How much of a budget each source has used: rows, or response tokens with `in_tokens`."""

    def __init__(self, scores: ScoreTable, in_tokens: bool) -> None:
        self._codes, self.names = scores.codes("source")
        self._in_tokens = in_tokens
        self.used = [0] * len(self.names)

    def of(self, place: int, cost: int) -> tuple[int, int]:
        """(number of the row's source, how much the row uses)."""
        return int(self._codes[place]), cost if self._in_tokens else 1

    def took(self, place: int, cost: int) -> None:
        source, weight = self.of(place, cost)
        self.used[source] += weight


class Cap:
    """At most so many rows of any one source, or such a share of the budget."""

    reason = "over the cap"

    def __init__(self, scores: ScoreTable, cap: str | int, budget: int, by_tokens: bool) -> None:
        try:
            parsed = Budget.parse(cap)
        except ConfigError as error:
            raise ConfigError(f"cap_per_source: {error}") from error
        if parsed.unit == "tokens":
            raise ConfigError(f"cap_per_source {cap!r} is neither a number of rows nor a share of the budget")
        share = parsed.unit == "share"
        self._most = max(1, int(parsed.amount / Decimal(100) * budget)) if share else int(parsed.amount)
        self._sources = Sources(scores, by_tokens and share)
        self.refused = 0

    def admits(self, place: int, cost: int, spent: int) -> bool:
        source, weight = self._sources.of(place, cost)
        return self._sources.used[source] + weight <= self._most

    def took(self, place: int, cost: int) -> None:
        self._sources.took(place, cost)


def some(names: list[Any], count: int = 8) -> str:
    """The first of many names."""
    return ", ".join(map(str, names[:count])) + ", …" * (len(names) > count)
