"""Least and most shares of a budget that single sources make."""

from array import array
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from prism.budget import Budget, Quota
from prism.errors import ConfigError
from prism.scoring import ScoreTable
from prism.selection.rules import Sources, some


class Quotas:
    """A rule that keeps room for the sources that have not had their least yet, and bars those that had their most.

    A row is refused while taking it would leave less room than other sources still have to get. So a selection by
    falling score has the highest sum of scores that the quotas allow (with a budget of rows: the allowed selections are
    the bases of a matroid). Refused rows come up again after the others (`release`): where a source
    turns out to have too few rows, they fill the room that was kept for it.

    Raises:
        ConfigError: a quota is malformed, names a source that the pool has not, or more is asked for than there is.
    """

    reason = "over their quota"

    def __init__(self, scores: ScoreTable, quotas: Sequence[str], budget: int, by_tokens: bool) -> None:
        self._sources = Sources(scores, by_tokens)
        self._budget = budget
        self._unit = "response tokens" if by_tokens else "rows"
        numbers = {name: number for number, name in enumerate(self._sources.names)}
        self._least, self._most = [0] * len(numbers), [budget] * len(numbers)
        seen: set[str] = set()
        for text in quotas:
            quota = Quota.parse(text)
            if quota.source not in numbers:
                raise ConfigError(
                    f"quota {text!r}: the pool has no source {quota.source!r}; it has {some(list(numbers))}"
                )
            if quota.source in seen:
                raise ConfigError(f"quota {text!r}: {quota.source!r} has a quota already; write LEAST..MOST")
            seen.add(quota.source)
            number = numbers[quota.source]
            if quota.least:
                self._least[number] = self._amount(text, quota.least)
            if quota.most:
                self._most[number] = max(1, self._amount(text, quota.most))
        if sum(self._least) > budget:
            raise ConfigError(f"the quotas ask for {sum(self._least)} {self._unit} at least, the budget has {budget}")
        self._open = sum(self._least)
        self._reserving = True
        self._held = array("q")
        self.refused = 0

    def admits(self, place: int, cost: int, spent: int) -> bool:
        source, weight = self._sources.of(place, cost)
        used = self._sources.used[source]
        if used + weight > self._most[source]:
            return False
        owed = max(0, self._least[source] - used)
        if self._reserving and spent + weight + self._open - min(owed, weight) > self._budget:
            self._held.append(place)
            return False
        return True

    def took(self, place: int, cost: int) -> None:
        source, weight = self._sources.of(place, cost)
        self._open -= min(max(0, self._least[source] - self._sources.used[source]), weight)
        self._sources.took(place, cost)

    def release(self) -> npt.NDArray[np.int64]:
        """Rows that were held back for others' sake, in their order; from here on no room is kept."""
        self._reserving = False
        self.refused -= len(self._held)
        return np.array(self._held, dtype=np.int64)

    def notices(self) -> list[str]:
        """Which sources did not get their least."""
        rows = zip(self._sources.names, self._sources.used, self._least, strict=True)
        return [
            f"source {name} makes {used} of the {least} {self._unit} that its quota asks for at least: no "
            "other of its rows fits, or came up"
            for name, used, least in rows
            if used < least
        ]

    def _amount(self, text: str, amount: Budget) -> int:
        if amount.unit == "share":
            return int(amount.amount * self._budget / 100)
        if (amount.unit == "tokens") != (self._unit != "rows"):
            raise ConfigError(f"quota {text!r}: the budget counts {self._unit}; write shares (20%) or {self._unit}")
        return int(amount.amount)
