"""What one forward and backward pass brings in for a curvature: sums over its tokens and samples, by parameter.

The taps are those of scoring; what differs is what is made of a module's inputs and output gradients as they arrive.
"""

from collections.abc import Collection, Hashable, Mapping
from typing import Any

import torch

from prism.curvature.blocks import covariance, summed_squares
from prism.model.scaled import LossScale
from prism.scoring.ledger import Ledger, View
from prism.scoring.products import TILE, rows_met, wide
from prism.scoring.rows import Rows, Untappable
from prism.scoring.targets import Target

Sums = dict[tuple[str, str], torch.Tensor]  # (parameter, statistic) → its sum over a batch
Bases = Mapping[str, tuple[torch.Tensor, torch.Tensor]]


class Statistics(Ledger):
    """Sums of a batch, in float32 or the model's dtype where that is wider.

    - (name, "left"), (name, "right") and (name, "tokens"), of matrices in `factored`: the sums of l_t l_t' and r_t r_t'
      over all tokens that are no padding, and how many those are;
    - (name, "squares"), of all others: the sum over samples of the squared gradient, of the parameter's shape; for
      matrices with (Q_l, Q_r) in `bases` the squares of Q_l' G Q_r.
    """

    statistic = "squares"

    def __init__(
        self, *pass_: Any, scale: LossScale, factored: Collection[str] = (), bases: Bases | None = None
    ) -> None:
        super().__init__(*pass_)
        self._scale = scale.value
        self.sums: Sums = {}
        self._factored, self._bases = factored, bases or {}
        self._used: set[Hashable] = set()
        self._heads: dict[str, list[tuple[torch.Tensor | None, torch.Tensor]]] = {}

    def linear(
        self,
        target: Target,
        rows: Rows,
        x: torch.Tensor,
        d: torch.Tensor,
        *,
        transposed: bool = False,
        expert: int | None = None,
    ) -> None:
        if isinstance(target, str) and expert is None and target in self._factored:
            real = self._real_tokens(target, x)
            for side, t in zip(("right", "left"), self._ordered(x, d, transposed), strict=True):
                self._sum(target, side, covariance(wide(t.flatten(0, -2)) * real[:, None]))
            self._sum(target, "tokens", real.sum())
        elif isinstance(target, str) and expert is None and target in self._bases:
            self._once(target, rows.start)
            right, left = self._ordered(rows(x), rows(d), transposed)
            left, right = (wide(t) @ basis for t, basis in zip((left, right), self._bases[target], strict=True))
            self._sum(target, "squares", summed_squares(left, right, TILE))
        else:
            super().linear(target, rows, x, d, transposed=transposed, expert=expert)

    def matrix(
        self, name: str, rows: Rows, x: torch.Tensor, d: torch.Tensor, view: View, expert: int | None = None
    ) -> None:
        self._once(name, (rows.start, expert))
        total = view(self._total(name, d))[0]
        total += summed_squares(self._true(d), wide(x), TILE)
        if name in self._ids:
            ids = self._ids[name] if rows.samples is None else self._ids[name][rows.samples]
            self._heads.setdefault(name, []).append((rows.samples, rows_met(ids, x, d) / self._scale))

    def lookup(self, name: str, rows: Rows, ids: torch.Tensor, d: torch.Tensor, view: View) -> None:
        """Tokens that a sample has more than once share a row of its gradient. Where the output head has the same
        weight the gradient is E + H, with E of the sample's own tokens only: its square has 2 E H beyond theirs."""
        self._once(name, "embedding")
        total, d = view(self._total(name, d))[0], self._true(d)
        vocabulary, samples = len(total), torch.arange(len(ids), device=ids.device)[:, None]
        rows_of, which = torch.unique(samples * vocabulary + ids, return_inverse=True)
        gradients = d.new_zeros(len(rows_of), d.shape[2]).index_add_(0, which.flatten(), d.flatten(0, 1))
        total.index_add_(0, rows_of % vocabulary, gradients.square())
        for owners, met in self._heads.pop(name, []):
            cross = 2 * met * (d if owners is None else d[owners])
            total.index_add_(0, (ids if owners is None else ids[owners]).flatten(), cross.flatten(0, 1))

    def vector(
        self, name: str, rows: Rows, x: torch.Tensor, d: torch.Tensor, view: View, expert: int | None = None
    ) -> None:
        self._once(name, (rows.start, expert))
        total = view(self._total(name, d))[0]
        total += (wide(x) * self._true(d)).sum(1).square().sum(0).view_as(total)

    def close(self) -> None:
        if self._heads:
            raise Untappable(f"{next(iter(self._heads))} is tied in a way whose squared gradient is not known")

    def _ordered(self, x: torch.Tensor, d: torch.Tensor, transposed: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """(column side, row side) of a weight as it is stored."""
        return (self._true(d), x) if transposed else (x, self._true(d))

    def _true(self, d: torch.Tensor) -> torch.Tensor:
        """An output gradient without the loss's scale."""
        return wide(d) / self._scale

    def _real_tokens(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """Which rows of x [B, T, …, width], [B, heads, T, width] or [B * T, width] are no padding: [rows]."""
        mask, count = self.batch.mask.bool(), x.shape[:-1].numel()
        if x.shape[:2] == mask.shape or count == mask.numel():
            return mask.flatten().repeat_interleave(count // mask.numel())
        if x.dim() == 4 and (x.shape[0], x.shape[2]) == mask.shape:
            return mask[:, None].expand(-1, x.shape[1], -1).flatten()
        raise Untappable(f"{name}: which of its inputs, of shape {tuple(x.shape)}, are padding is not known")

    def _once(self, name: str, part: Hashable) -> None:
        """A sample's gradient has to be known whole before it is squared."""
        if (name, part) in self._used:
            raise Untappable(f"{name} is used more than once in a pass, so its squared gradient is not a sum")
        self._used.add((name, part))

    def _total(self, name: str, like: torch.Tensor) -> torch.Tensor:
        """[1, *shape]."""
        key = (name, self.statistic)
        if key not in self.sums:
            self.sums[key] = wide(like.new_zeros(())).new_zeros(self._directions[name].shape[1:])
        return self.sums[key][None]

    def _sum(self, name: str, statistic: str, new: torch.Tensor) -> None:
        key = (name, statistic)
        self.sums[key] = self.sums[key] + new if key in self.sums else new


class WeightedSum(Statistics):
    """(name, "sum"): the sum over samples of the gradient times its sample's entry of `weights`, [B] by name."""

    statistic = "sum"

    def __init__(self, *pass_: Any, scale: LossScale, weights: Mapping[str, torch.Tensor]) -> None:
        super().__init__(*pass_, scale=scale)
        self._weights = weights

    def matrix(
        self, name: str, rows: Rows, x: torch.Tensor, d: torch.Tensor, view: View, expert: int | None = None
    ) -> None:
        total = view(self._total(name, d))[0]
        total += self._weighted(name, rows, d).flatten(0, 1).T @ wide(x).flatten(0, 1)

    def lookup(self, name: str, rows: Rows, ids: torch.Tensor, d: torch.Tensor, view: View) -> None:
        total = view(self._total(name, d))[0]
        total.index_add_(0, ids.flatten(), self._weighted(name, rows, d).flatten(0, 1))

    def vector(
        self, name: str, rows: Rows, x: torch.Tensor, d: torch.Tensor, view: View, expert: int | None = None
    ) -> None:
        total = view(self._total(name, d))[0]
        total += (wide(x) * self._weighted(name, rows, d)).sum((0, 1)).view_as(total)

    def _weighted(self, name: str, rows: Rows, d: torch.Tensor) -> torch.Tensor:
        """Output gradients [b, R, width] times their samples' weights."""
        true = self._true(d)
        weights = self._weights[name] if rows.samples is None else self._weights[name][rows.samples]
        return true * weights.to(true)[:, None, None]
