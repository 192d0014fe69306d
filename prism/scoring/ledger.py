"""What one forward and backward pass brings in: scores and squared gradient norms, by parameter."""

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn

from prism.data import Batch
from prism.scoring.products import (
    elementwise_products,
    embedding_products,
    linear_products,
    rows_met,
    wide,
)
from prism.scoring.rows import Even, Rows, Uneven, Unknown, Untappable
from prism.scoring.targets import Factors, Target

Arrived = Callable[[torch.Tensor], None]
View = Callable[[torch.Tensor], torch.Tensor]  # what of a tensor [K, *shape of a parameter] one use of it concerns


class Ledger:
    """Adds up products as output gradients arrive. Another ledger overrides `matrix`, `vector` and `lookup`.

    Args:
        directions: parameter name → [K, *shape].
        norms: also squared gradient norms.
        outside: modules after the decoder, which see response tokens only, some samples at a time.
        tied: names of parameters that are both the embedding and the output head.
    """

    def __init__(
        self,
        batch: Batch,
        directions: Mapping[str, torch.Tensor],
        norms: bool,
        outside: Collection[nn.Module],
        tied: Collection[str],
    ) -> None:
        self.batch, self.norms = batch, norms
        self.scores: dict[str, torch.Tensor] = {}
        self.squares: dict[str, torch.Tensor] = {}
        self.paused = False
        self._directions, self._outside, self._tied = directions, outside, tied
        self._seen: set[Hashable] = set()
        self._headed: dict[nn.Module, int] = {}
        self._ids: dict[str, torch.Tensor] = {}
        self._met: dict[str, list[tuple[torch.Tensor | None, torch.Tensor]]] = {}

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Modules may be run inside without being tapped."""
        self.paused = True
        try:
            yield
        finally:
            self.paused = False

    def follow(self, output: torch.Tensor, arrived: Arrived) -> torch.Tensor:
        """The same output, whose gradient `arrived` is called with; the graph begins here where it has not before."""
        if not torch.is_grad_enabled():
            return output
        if not output.requires_grad:
            output = output.detach().requires_grad_().clone()  # a leaf could not be changed in place downstream

        def hook(gradient: torch.Tensor) -> None:
            with torch.no_grad():
                arrived(gradient)

        output.register_hook(hook)  # type: ignore[no-untyped-call]
        return output

    def rows(self, module: nn.Module, output: torch.Tensor) -> Rows:
        """Which samples the rows of a module's output belong to; to be asked once per call, in the forward pass."""
        batch, width = self.batch.ids.shape
        shape = output.shape
        if len(shape) >= 3 and shape[:2] == (batch, width):
            return Even(batch)
        if module in self._outside and len(shape) == 3 and shape[0] == 1:
            return self._part(module, shape[1])
        if len(shape) >= 3 and shape[0] == batch and shape[1:-1].numel() % width == 0:
            return Even(batch)
        if len(shape) == 2 and shape[0] == batch * width:
            return Even(batch)
        return Unknown(shape)

    def _part(self, module: nn.Module, count: int) -> Rows:
        """The next `count` response tokens, which are those of whole samples."""
        start = self._headed.get(module, 0)
        owner = self.batch.owner[start : start + count]
        if len(owner) < count:
            return Unknown(torch.Size((1, count)))
        self._headed[module] = start + count
        return Uneven(owner, start)

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
        """A weight [out, in], or [in, out] where `transposed`, or one expert's; x [rows, in], d [rows, out]."""
        if isinstance(target, Factors):
            if transposed and expert is None:
                x, d = d, x
            self._factors(target, rows, x, d, expert or 0)
            return
        x, d = rows(x), rows(d)
        self.matrix(target, rows, x, d, _view(expert, transposed), expert)
        if self.norms and target in self._tied:
            if target not in self._ids or transposed:
                raise Untappable(f"{target} is tied in a way whose gradient norm is not known")
            ids = self._ids[target] if rows.samples is None else self._ids[target][rows.samples]
            self._met.setdefault(target, []).append((rows.samples, rows_met(ids, x, d)))

    def _factors(self, factors: Factors, rows: Rows, x: torch.Tensor, d: torch.Tensor, expert: int) -> None:
        """y = … + scaling * B (A x): A's inputs are x, and B's output gradients d."""
        a, b = factors.of(expert)
        if factors.a:
            inner = rows(d @ b.to(d.dtype) * factors.scaling)
            self.matrix(factors.a, rows, rows(x), inner, lambda v: factors.part_a(v, expert), expert)
        if factors.b:
            inner = rows(x @ a.to(x.dtype).T * factors.scaling)
            self.matrix(factors.b, rows, inner, rows(d), lambda v: factors.part_b(v, expert), expert)

    def matrix(
        self, name: str, rows: Rows, x: torch.Tensor, d: torch.Tensor, view: View, expert: int | None = None
    ) -> None:
        """One use of a matrix [out, in], with x [b, R, in] and d [b, R, out] by sample."""
        v = view(self._directions[name]).to(d.dtype)
        self._add(name, rows, linear_products(x, d, v, self.norms), (rows.start, expert))

    def looked_up(self, target: Target, ids: torch.Tensor) -> None:
        """To be told in the forward pass, before the output head runs."""
        self._ids[str(target)] = ids

    def embedding(
        self, target: Target, rows: Rows, ids: torch.Tensor, d: torch.Tensor, *, transposed: bool = False
    ) -> None:
        """A weight [vocabulary, width], or its transpose; ids [B, R], d [B, R, width]."""
        name = _plain(target, "an embedding")
        d = rows(d)
        self.lookup(name, rows, ids, d, _view(None, transposed))
        for samples, met in self._met.pop(name, []):
            cross = 2 * (met * wide(d if samples is None else d[samples])).sum((1, 2))
            accumulate(self.squares, name, cross, samples, len(self.batch))

    def lookup(self, name: str, rows: Rows, ids: torch.Tensor, d: torch.Tensor, view: View) -> None:
        """One use of an embedding [vocabulary, width], at ids [B, R] with d [B, R, width]."""
        v = view(self._directions[name]).to(d.dtype)
        self._add(name, rows, embedding_products(ids, d, v, self.norms), "embedding")

    def elementwise(
        self, target: Target, rows: Rows, x: torch.Tensor, d: torch.Tensor, expert: int | None = None
    ) -> None:
        """A weight that x is multiplied with element by element; for a bias x is one."""
        name, view = _plain(target, "elementwise"), _view(expert)
        depth = view(self._directions[name]).dim() - 1
        d = rows(d.flatten(-depth))
        x = rows(x.flatten(-depth)) if x.dim() else x.to(d.dtype)
        self.vector(name, rows, x, d, view, expert)

    def vector(
        self, name: str, rows: Rows, x: torch.Tensor, d: torch.Tensor, view: View, expert: int | None = None
    ) -> None:
        """One use of a weight [width], with d [b, R, width] and x the same or a scalar."""
        v = view(self._directions[name]).to(d.dtype).flatten(1)
        self._add(name, rows, elementwise_products(x, d, v, self.norms), (rows.start, expert))

    def close(self) -> None:
        """To be called after the backward pass."""
        if self._met:
            raise Untappable(f"{next(iter(self._met))} is tied in a way whose gradient norm is not known")

    def _add(self, name: str, rows: Rows, products: tuple[torch.Tensor, torch.Tensor | None], part: Hashable) -> None:
        """`part`: what, of the parameter or of the batch, these products are of; norms add up over different ones."""
        scores, squares = products
        if squares is not None:
            if (name, part) in self._seen:
                raise Untappable(f"{name} is used more than once in a pass, so its gradient norm is not a sum")
            self._seen.add((name, part))
            accumulate(self.squares, name, squares, rows.samples, len(self.batch))
        accumulate(self.scores, name, scores, rows.samples, len(self.batch))


def _view(expert: int | None = None, transposed: bool = False) -> View:
    """Of one expert, or of all; as [out, in] where the parameter is [in, out]."""

    def view(t: torch.Tensor) -> torch.Tensor:
        t = t if expert is None else t[:, expert]
        return t.mT if transposed else t

    return view


def _plain(target: Target, use: str) -> str:
    if isinstance(target, Factors):
        raise Untappable(f"{target}: a LoRA on a weight that is used as {use}")
    return target


def accumulate(
    sums: dict[str, torch.Tensor], name: str, new: torch.Tensor, samples: torch.Tensor | None, batch: int
) -> None:
    """Add `new` [b, …] of these `samples` [b], or of all, to sums[name] [batch, …]."""
    if name not in sums:
        sums[name] = new.new_zeros(batch, *new.shape[1:])
    total = sums[name]
    if samples is None:
        total += new
    else:
        total.index_add_(0, samples, new.to(total.dtype))
