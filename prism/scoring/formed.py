"""Per-sample gradients, formed one parameter at a time from what its uses in a pass bring in."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from prism.data import Batch
from prism.scoring import products
from prism.scoring.ledger import Arrived, Ledger, View, accumulate
from prism.scoring.maps import CandidateMap
from prism.scoring.products import gradient_products, wide
from prism.scoring.rows import Rows, Untappable

Products = tuple[torch.Tensor, torch.Tensor | None]


class Reused(Untappable):
    """Parameters are used again after their gradient was taken to be complete."""

    def __init__(self, names: set[str]) -> None:
        super().__init__(f"{min(names)} is used more than once in a pass")
        self.names = names


Index = slice | torch.Tensor


@dataclass(frozen=True)
class _Use:
    """What one use of a parameter adds to the gradients [b, *shape] of some samples, of which `view` is its part.

    `rows.samples` [b]: which of the batch; None for all. `form`: the addition for some of these b, in `dtype`.
    """

    rows: Rows
    form: Callable[[Index], torch.Tensor]
    view: View
    dtype: torch.dtype

    def add_to(self, gradients: torch.Tensor, tile: slice, samples: torch.Tensor | None) -> None:
        """Add to the gradients of samples[tile], where `samples` None are all of the batch."""
        own, part = self.rows.samples, self.view(gradients)
        if own is None or own is samples:
            part += self.form(tile)
            return
        wanted = torch.arange(tile.start, tile.stop, device=own.device) if samples is None else samples[tile]
        mine = ((own >= wanted[0]) & (own <= wanted[-1])).nonzero()[:, 0]
        part.index_add_(0, torch.searchsorted(wanted, own[mine]), self.form(mine))


class FormingLedger(Ledger):
    """Forms the gradients, maps them, and adds up the products of what comes out.

    Args:
        scale: by which each sample's gradient is multiplied [B].
        several: names of parameters that are used more than once in a pass: their gradients are complete at its end.
        at_rest: products of parameters that a sample does not use, by name; filled on first use.
    """

    def __init__(
        self,
        batch: Batch,
        directions: Mapping[str, torch.Tensor],
        norms: bool,
        outside: Collection[nn.Module],
        mapping: CandidateMap,
        scale: torch.Tensor,
        several: Collection[str],
        at_rest: dict[str, Products],
    ) -> None:
        super().__init__(batch, directions, norms, outside, ())
        self._mapping, self._scale, self._several, self._at_rest = mapping, scale, several, at_rest
        self._uses: dict[str, list[_Use]] = {}
        self._settled: dict[str, list[Rows]] = {}
        self._reused: set[str] = set()

    def follow(self, output: torch.Tensor, arrived: Arrived) -> torch.Tensor:
        def then(d: torch.Tensor) -> None:
            arrived(d)
            for name in [n for n in self._uses if n not in self._several]:
                self._settle(name)

        return super().follow(output, then)

    def matrix(
        self, name: str, rows: Rows, x: torch.Tensor, d: torch.Tensor, view: View, expert: int | None = None
    ) -> None:
        self._use(name, rows, lambda i: wide(d[i]).mT @ wide(x[i]), view, d)

    def lookup(self, name: str, rows: Rows, ids: torch.Tensor, d: torch.Tensor, view: View) -> None:
        vocabulary = view(self._directions[name]).shape[1]

        def form(i: Index) -> torch.Tensor:
            looked, gradients = ids[i], wide(d[i])
            formed = gradients.new_zeros(len(looked) * vocabulary, gradients.shape[-1])
            places = looked + vocabulary * torch.arange(len(looked), device=looked.device)[:, None]
            formed.index_add_(0, places.flatten(), gradients.flatten(0, 1))
            return formed.view(len(looked), vocabulary, -1)

        self._use(name, rows, form, view, d)

    def vector(
        self, name: str, rows: Rows, x: torch.Tensor, d: torch.Tensor, view: View, expert: int | None = None
    ) -> None:
        shape = view(self._directions[name]).shape[1:]
        gradients = (wide(x) * wide(d)).sum(1).reshape(-1, *shape)
        self._use(name, rows, lambda i: gradients[i], view, d)

    def close(self) -> None:
        """What is used more than once is complete now, and what a sample has not used has the gradient zero."""
        super().close()
        if self._reused:
            raise Reused(self._reused)
        with torch.no_grad():
            for name in list(self._uses):
                self._settle(name)
            for name in self._directions:
                self._rest(name)

    def _use(self, name: str, rows: Rows, form: Callable[[Index], torch.Tensor], view: View, d: torch.Tensor) -> None:
        if any(rows.start == before.start for before in self._settled.get(name, ())):
            self._reused.add(name)
        self._uses.setdefault(name, []).append(_Use(rows, form, view, wide(d[:0]).dtype))

    def _settle(self, name: str) -> None:
        """Take a parameter's gradient to be complete, for the samples that have used it."""
        uses = self._uses.pop(name)
        self._settled.setdefault(name, []).extend(use.rows for use in uses)
        samples = _union([use.rows.samples for use in uses])
        count = len(self.batch) if samples is None else len(samples)
        size = max(1, products.TILE // self._directions[name][0].numel())
        for start in range(0, count, size):
            tile = slice(start, min(start + size, count))
            places = torch.arange(count, device=self.batch.ids.device) if samples is None else samples
            gradients = self._formed(name, uses, tile, samples)
            scale = self._scale[places[tile]].to(gradients.dtype)
            gradients.mul_(scale.view(-1, *(1,) * (gradients.dim() - 1)))
            self._enter(name, self._products(name, gradients), places[tile])

    def _formed(self, name: str, uses: list[_Use], tile: slice, samples: torch.Tensor | None) -> torch.Tensor:
        v = self._directions[name]
        if len(uses) == 1 and _is_all(uses[0].view(v), v):
            return uses[0].form(tile)
        formed = torch.zeros(tile.stop - tile.start, *v.shape[1:], dtype=uses[0].dtype, device=v.device)
        for use in uses:
            use.add_to(formed, tile, samples)
        return formed

    def _products(self, name: str, gradients: torch.Tensor) -> Products:
        return mapped_products(self._mapping, name, gradients, self._directions[name], self.norms)

    def _rest(self, name: str) -> None:
        """Of samples that have not used a parameter."""
        idle = torch.ones(len(self.batch), dtype=torch.bool, device=self.batch.ids.device)
        for rows in self._settled.get(name, ()):
            if rows.samples is None:
                return
            idle[rows.samples] = False
        places = idle.nonzero()[:, 0]
        if len(places):
            if name not in self._at_rest:
                self._at_rest[name] = self._products(name, wide(torch.zeros_like(self._directions[name][:1])))
            scores, squares = self._at_rest[name]
            many = len(places)
            self._enter(name, (scores.expand(many, -1), None if squares is None else squares.expand(many)), places)

    def _enter(self, name: str, found: Products, places: torch.Tensor) -> None:
        scores, squares = found
        accumulate(self.scores, name, scores, places, len(self.batch))
        if squares is not None:
            accumulate(self.squares, name, squares, places, len(self.batch))


def mapped_products(
    mapping: CandidateMap, name: str, gradients: torch.Tensor, v: torch.Tensor, norms: bool
) -> Products:
    """Scores [b, K] and squared norms [b] of mapped gradients [b, *shape]; NaN for samples whose gradient is not
    finite, which some maps, such as the sign, would hide."""
    scores, squares = gradient_products(mapping(name, gradients), v, norms)
    broken = ~gradients.flatten(1).isfinite().all(1)
    scores = scores.masked_fill(broken[:, None], torch.nan)
    return scores, None if squares is None else squares.masked_fill(broken, torch.nan)


def _union(found: list[torch.Tensor | None]) -> torch.Tensor | None:
    """Samples that any of these hold, in order; None are all."""
    some = [samples for samples in found if samples is not None]
    if len(some) < len(found):
        return None
    return some[0] if len(some) == 1 else torch.unique(torch.cat(some))


def _is_all(view: torch.Tensor, of: torch.Tensor) -> bool:
    """Whether a view is of all of a tensor, as it lies."""
    return view.shape == of.shape and view.stride() == of.stride()
