"""Greedy coverage of the target pairs: a pair whose margin the chosen rows raise already attracts fewer of the next."""

from typing import Any

import numpy as np
import numpy.typing as npt

from prism.errors import ConfigError, DataError
from prism.selection.gains import spill
from prism.selection.strategies import Task

Floats = npt.NDArray[np.float64]
CELLS = 1 << 20  # of the matrix that are worked on at once
LISTED = 1 << 11  # rows that are kept at hand between looks at the whole pool
TRIED = 8  # of them whose gains are computed at first
SLACK = 1e-12  # what rounding may add to a gain, in nats


def log_preference(margins: Floats) -> Floats:
    """log pi = logsigmoid(m) of margins m = l(y-) - l(y+), nats, any shape."""
    return -np.logaddexp(0.0, -margins)


def expit(values: Floats) -> Floats:
    """sigmoid, any shape."""
    return np.exp(-np.logaddexp(0.0, -values))


class Coverage:
    """Greedy maximisation of F(S) = (1/|Q|) sum_q log sigmoid(m_q + eta sum_{z in S} (S+_zq - S-_zq)).

    That is the mean log preference that the pairs will have, to first order in the weights, after one SGD step of size
    eta on each chosen row. m_q = l(y-) - l(y+) is a pair's margin now. Every pick is the row that raises F the most
    (with a token budget: the most per response token), ties by id; it ends where none raises F. The first picks follow
    the weights 1 - pi_q; as margins grow, so do the weights of the pairs that are left behind.

    Each pick is exact, though few gains are computed for it. As log sigmoid is concave, a row's gain is at most
    (eta / |Q|) g . s with g_q = S+_zq - S-_zq, its row of the matrix, and s_q = sigmoid(-m_q); and while s moves by d,
    that bound moves by at most (eta / |Q|) (||max(g, 0)|| ||max(d, 0)|| + ||min(g, 0)|| ||min(d, 0)||). Rows whose
    bound lies below the best gain found need no look. F is concave in the margins, but as rows may lower margins it is
    not submodular: how far the greedy is from the best selection has no general bound.

    `step` is eta. Unless given, it is such that the rows that `top` would choose move the margins by one nat on
    average (mean over the pairs of the absolute change): enough for log sigmoid to bend, and independent of the scale
    of gradients and of the budget.
    """

    skips = True

    def __init__(self, task: Task) -> None:
        if task.order == "bottom":
            raise ConfigError("strategy 'coverage' has no bottom: swap chosen and rejected of the target")
        gains = task.pair_gains("coverage")
        width = len(gains.margins)
        self._matrix = spill(gains.blocks(), len(task.scores), width, gains.scratch)
        self._margins = gains.margins.copy()
        self._before = float(log_preference(self._margins).mean())
        self._by_id, self._tokens, self._room = task.by_id, task.tokens, task.most_tokens
        self._cost = np.maximum(1, task.tokens).astype(np.float64) if task.by_tokens else np.ones(len(task.scores))
        self.step = self._default_step(task) if task.step is None else task.step
        self._rate = self.step / width
        self._open = np.zeros(len(task.scores), dtype=np.bool_)
        self._open[task.ranked] = True
        self._norms = np.zeros((2, len(task.scores)))  # of max(g, 0) and min(g, 0)
        self._upper = np.full(len(task.scores), -np.inf)  # bound of the gain per cost, at the last look
        self._look(norms=True)
        self._list(LISTED)
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
        best, gain = self._best()
        if best is None:
            return None
        if gain <= 0:
            self.notices.append("no other row raises the predicted log preference of the target")
            return None
        self._open[best] = False
        return best

    def took(self, place: int) -> None:
        self._margins += self.step * self._matrix[place].astype(np.float64)

    def upcoming(self, count: int) -> list[int]:
        rows = np.flatnonzero(self._open)
        return [int(row) for row in rows[np.argsort(-self._upper[rows], kind="stable")[:count]]]

    def _best(self) -> tuple[int | None, float]:
        """The open row with the highest gain per cost, and that."""
        count = LISTED
        while True:
            best, value = self._best_listed()
            if value > self._others():
                return best, value
            if not self._open.any():
                return None, -np.inf
            self._look()
            self._list(count)
            count *= 2

    def _best_listed(self) -> tuple[int | None, float]:
        slots = np.flatnonzero(self._open[self._listed])
        bound = self._rate * (self._block @ expit(-self._margins))[slots] / self._cost[self._listed[slots]] + SLACK
        order = np.argsort(-bound, kind="stable")
        slots, bound = slots[order], bound[order]
        best, value, first, size = None, -np.inf, 0, TRIED
        while first < len(slots) and bound[first] >= value:
            tried = slots[first : first + size]
            rows = self._listed[tried]
            moved = log_preference(self._margins + self.step * self._block[tried])
            gains = (moved - log_preference(self._margins)).mean(1) / self._cost[rows]
            for row, gain in zip(rows.tolist(), gains.tolist(), strict=True):
                if gain > value or (gain == value and best is not None and self._by_id[row] < self._by_id[best]):
                    best, value = row, gain
            first, size = first + size, 2 * size
        return best, value

    def _others(self) -> float:
        """No less than the gain per cost of any open row that is not listed."""
        if not len(self._rest):
            return -np.inf
        moved = expit(-self._margins) - self._since
        drift = self._rate * np.array([np.linalg.norm(np.maximum(moved, 0)), np.linalg.norm(np.minimum(moved, 0))])
        return float((self._upper[self._rest] + drift @ self._growth).max()) + SLACK

    def _list(self, count: int) -> None:
        """Keep the `count` rows at hand that may be best."""
        rows = np.flatnonzero(self._open)
        if count < len(rows):
            order = np.argpartition(-self._upper[rows], count)
            rows, self._rest = rows[order[:count]], rows[order[count:]]
        else:
            self._rest = np.empty(0, dtype=np.int64)
        self._listed = np.sort(rows)
        self._block = self._matrix[self._listed].astype(np.float64)
        self._growth = self._norms[:, self._rest] / self._cost[self._rest]
        self._since = expit(-self._margins)

    def _look(self, norms: bool = False) -> None:
        """Bound the gains of all rows at the margins as they are; rows that are not finite close.

        In float32, whose rounding in an inner product of |Q| terms stays below |Q| 2^-24 ||g|| ||s||.
        """
        weights = expit(-self._margins)
        narrow, each = weights.astype(np.float32), max(1, CELLS // len(weights))
        for first in range(0, len(self._open), each):
            rows = slice(first, first + each)
            block = self._matrix[rows]
            if norms:
                self._norms[0, rows] = np.linalg.norm(np.maximum(block, 0).astype(np.float64), axis=1)
                self._norms[1, rows] = np.linalg.norm(np.minimum(block, 0).astype(np.float64), axis=1)
            self._upper[rows] = block @ narrow
        rounding = len(weights) * 2.0**-24 * np.linalg.norm(weights) * np.hypot(*self._norms)
        self._upper = self._rate * (self._upper + rounding) / self._cost
        self._open &= np.isfinite(self._upper)

    def _default_step(self, task: Task) -> float:
        rows = task.ranked[np.cumsum(task.tokens[task.ranked], dtype=np.int64) <= task.most_tokens][: task.most]
        total = np.zeros(self._matrix.shape[1])
        for first in range(0, len(rows), LISTED):
            total += self._matrix[np.sort(rows[first : first + LISTED])].sum(0, dtype=np.float64)
        change = float(np.abs(total).mean())
        if not change or not np.isfinite(change):
            raise DataError("the best rows change no pair's margin: there is nothing to cover. Give a coverage_step")
        return 1 / change
