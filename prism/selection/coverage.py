"""Greedy coverage of the target pairs: a pair whose margin the chosen rows raise already attracts fewer of the next."""

from typing import Any

import numpy as np
import numpy.typing as npt

from prism.errors import ConfigError, DataError
from prism.selection.gains import spill
from prism.selection.strategies import Places, Task

Floats = npt.NDArray[np.float64]
CELLS = 1 << 20  # of the matrix that are worked on at once
LISTED = 1 << 12  # rows that are kept in view between looks at the whole pool
TRIED = 32  # of them that are computed anew at once
SLACK = 1e-12  # what rounding may add to a gain, in nats


def log_preference(margins: Floats) -> Floats:
    """log pi = logsigmoid(m) of margins m = l(y-) - l(y+), nats, any shape."""
    return -np.logaddexp(0.0, -margins)


class Coverage:
    """Greedy maximisation of F(S) = (1/|Q|) sum_q log sigmoid(m_q + eta sum_{z in S} (S+_zq - S-_zq)).

    That is the mean log preference that the pairs will have, to first order in the weights, after one SGD step of size
    eta on each chosen row. m_q = l(y-) - l(y+) is a pair's margin now. Every pick is the row that raises F the most
    (with a token budget: the most per response token), ties by id; it ends where none raises F. The first picks follow
    the weights 1 - pi_q; as margins grow, so do the weights of the pairs that are left behind.

    Each pick is exact, though few gains are computed anew for it. log sigmoid has a second derivative of at most 1/4,
    so a row's gain grows, while the margins move by d, by no more than eta / (4 |Q|) times
    (||min(g, 0)|| ||max(d, 0)|| + ||max(g, 0)|| ||min(d, 0)||), g_q = S+_zq - S-_zq being its row of the matrix. Rows
    whose bound lies below the best gain found need no look. F is concave in the margins, but as rows may lower margins
    it is not submodular: how far the greedy is from the best selection has no general bound.

    `step` is eta. Unless given, it is such that the rows that `top` would choose move the margins by one nat on
    average (mean over the pairs of the absolute change): enough for log sigmoid to bend, and independent of the scale
    of gradients and of the budget.
    """

    skips = True

    def __init__(self, task: Task) -> None:
        if task.order == "bottom":
            raise ConfigError(
                "strategy 'coverage' has no bottom: it raises preferences. Swap chosen and rejected instead"
            )
        gains = task.pair_gains("coverage")
        width = len(gains.margins)
        self._matrix = spill(gains.blocks(), len(task.scores), width, gains.scratch)
        self._margins = gains.margins.copy()
        self._before = float(log_preference(self._margins).mean())
        self._by_id, self._tokens, self._room = task.by_id, task.tokens, task.most_tokens
        self._cost = np.maximum(1, task.tokens).astype(np.float64) if task.by_tokens else np.ones(len(task.scores))
        self.step = self._default_step(task) if task.step is None else task.step
        self._rate = self.step / (4 * width)
        self._drift = np.zeros(2)  # sums of ||max(d, 0)|| and ||min(d, 0)|| over the picks
        self._open = np.zeros(len(task.scores), dtype=np.bool_)
        self._open[task.ranked] = True
        self._gain = np.full(len(task.scores), -np.inf)
        self._norms = np.zeros((2, len(task.scores)))  # of min(g, 0) and max(g, 0)
        self._seen = np.zeros((2, len(task.scores)))  # the drift when the gain was computed
        self._compute(np.sort(task.ranked), norms=True)
        self._open &= np.isfinite(self._gain)
        self._list()
        self.notices: list[str] = []

    @property
    def details(self) -> dict[str, Any]:
        """The step, and F before and after: mean log preferences, in nats."""
        after = float(log_preference(self._margins).mean())
        return {"step": self.step, "log_preference": self._before, "predicted_log_preference": after}

    def next(self, room: int) -> int | None:
        if room < self._room:
            self._room = room
            self._open &= self._tokens <= room
        best = self._best()
        if best is None:
            return None
        if self._gain[best] <= 0:
            self.notices.append("no other row raises the predicted log preference of the target")
            return None
        self._open[best] = False
        return best

    def took(self, place: int) -> None:
        change = self.step * self._matrix[place].astype(np.float64)
        self._margins += change
        self._drift += np.linalg.norm(np.maximum(change, 0)), np.linalg.norm(np.minimum(change, 0))

    def upcoming(self, count: int) -> list[int]:
        rows = np.flatnonzero(self._open)
        bound = self._bound(rows) / self._cost[rows]
        return rows[np.argsort(-bound, kind="stable")[:count]].tolist()

    def _best(self) -> int | None:
        """The open row with the highest gain per cost."""
        count = LISTED
        while True:
            listed = self._listed[self._open[self._listed]]
            bound = self._bound(listed) / self._cost[listed]
            best, value = None, -np.inf
            size = TRIED
            while len(listed):
                tried = listed[np.argsort(-bound, kind="stable")[:size]]
                self._compute(tried[(self._seen[:, tried] != self._drift[:, None]).any(0)])
                size *= 2
                fresh = self._gain[tried] / self._cost[tried]
                for row, gain in zip(tried.tolist(), fresh.tolist(), strict=True):
                    if gain > value or (gain == value and best is not None and self._by_id[row] < self._by_id[best]):
                        best, value = row, gain
                rest = ~np.isin(listed, tried) & (bound >= value)
                listed, bound = listed[rest], bound[rest]
            if self._unlisted is None or value > self._unlisted_bound():
                return best
            self._list(count)
            count *= 2

    def _list(self, count: int = LISTED) -> None:
        """Look at the whole pool for the `count` rows that may be best, and bound what the others can become."""
        rows = np.flatnonzero(self._open)
        bound = self._bound(rows) / self._cost[rows]
        if len(rows) <= count:
            self._listed, self._unlisted = rows, None
            return
        order = np.argpartition(-bound, count)
        self._listed, others = rows[order[:count]], order[count:]
        growth = (self._norms[:, rows[others]] / self._cost[rows[others]]).max(1)
        self._unlisted = float(bound[others].max()), growth, self._drift.copy()

    def _unlisted_bound(self) -> float:
        assert self._unlisted is not None
        bound, growth, since = self._unlisted
        return float(bound + self._rate * growth @ (self._drift - since)) + SLACK

    def _bound(self, rows: Places) -> Floats:
        """No less than the gain of each of `rows`."""
        drift = self._drift[:, None] - self._seen[:, rows]
        found: Floats = self._gain[rows] + self._rate * (self._norms[:, rows] * drift).sum(0) + SLACK
        return found

    def _compute(self, rows: Places, norms: bool = False) -> None:
        """The gains of `rows` (ascending where many) at the margins as they are."""
        now = log_preference(self._margins)
        each = max(1, CELLS // max(1, len(self._margins)))
        for first in range(0, len(rows), each):
            some = rows[first : first + each]
            block = self._matrix[some].astype(np.float64)
            self._gain[some] = (log_preference(self._margins + self.step * block) - now).mean(1)
            if norms:
                self._norms[0, some] = np.linalg.norm(np.minimum(block, 0), axis=1)
                self._norms[1, some] = np.linalg.norm(np.maximum(block, 0), axis=1)
        self._seen[:, rows] = self._drift[:, None]

    def _default_step(self, task: Task) -> float:
        rows = task.ranked[np.cumsum(task.tokens[task.ranked], dtype=np.int64) <= task.most_tokens][: task.most]
        total = np.zeros(self._matrix.shape[1])
        for first in range(0, len(rows), LISTED):
            total += self._matrix[np.sort(rows[first : first + LISTED])].sum(0, dtype=np.float64)
        change = float(np.abs(total).mean())
        if not change or not np.isfinite(change):
            raise DataError("the best rows change no pair's margin: there is nothing to cover. Give a coverage_step")
        return 1 / change
