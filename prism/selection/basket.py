"""Rows on their way into a selection: as many as the budget holds, of those that the rules let in."""

from array import array
from collections.abc import Callable, Sequence

from prism.selection.rules import Rule
from prism.selection.strategies import Strategy, Task


class Basket:
    """What was taken so far: `places` in order, and the response tokens that they take.

    Args:
        told: hears of every row that is taken.
        passes_over: rows that the token budget no longer holds are passed over; else the first of them is the end.
    """

    def __init__(self, task: Task, rules: Sequence[Rule], told: Callable[[int], None], passes_over: bool) -> None:
        self._task, self._rules, self._told, self._passes_over = task, rules, told, passes_over
        self.places = array("q")
        self.tokens = 0

    @property
    def full(self) -> bool:
        return len(self.places) == self._task.most

    def fill(self, candidates: Strategy) -> None:
        """Take candidates until the budget is used or they run out."""
        task, longest = self._task, self._task.most_tokens
        while not self.full and (place := candidates.next(longest - self.tokens)) is not None:
            cost = int(task.tokens[place])
            fits = self.tokens + cost <= longest
            if cost > longest or (self._passes_over and not fits):
                continue
            if not self._admitted(place, cost):
                continue
            if not fits:
                return
            self.places.append(place)
            self.tokens += cost
            self._told(place)
            for rule in self._rules:
                rule.took(place, cost)

    def _admitted(self, place: int, cost: int) -> bool:
        spent = self.tokens if self._task.by_tokens else len(self.places)
        for rule in self._rules:
            if not rule.admits(place, cost, spent):
                rule.refused += 1
                return False
        return True
