"""Hooks that turn one forward and backward pass into per-sample scores, layer by layer.

A tap sits on a module that owns chosen parameters. It sees the module's input in the forward pass and its output's
gradient in the backward pass, and adds the products of the two to the scores at once: no weight gradient is ever
formed by autograd, and the graph begins at the lowest tapped module.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from prism.data import Batch
from prism.scoring.products import elementwise_products, embedding_products, linear_products, tied_cross_norms

Products = tuple[torch.Tensor, torch.Tensor | None]


class Untappable(Exception):
    """A chosen parameter is used in a way that taps can't follow; the caller scores sample by sample instead."""


class Taps:
    """Hooks on every module that owns one of `directions`' parameters.

    Args:
        directions: parameter name → [K, *shape], in the model's dtype.
        norms: also squared gradient norms.

    Raises:
        Untappable: at construction, where a parameter's module is of no known kind; during a pass, where it is used in
            an unknown way.
    """

    def __init__(self, network: Any, directions: Mapping[str, torch.Tensor], norms: bool) -> None:
        self.norms = norms
        self._head = network.get_output_embeddings()
        self._directions = directions
        self._scores: dict[str, torch.Tensor] = {}
        self._squares: dict[str, torch.Tensor] = {}
        self._tied: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {}
        self._batch: Batch | None = None
        self._probing = False
        names = {id(p): name for name, p in network.named_parameters(remove_duplicate=False) if name in directions}
        owners = [
            (module, {key: names[id(p)] for key, p in module.named_parameters(recurse=False) if id(p) in names})
            for module in network.modules()
        ]
        self._sites = [(module, held, _kind(module, held)) for module, held in owners if held]
        uses = [name for _, held, _ in self._sites for name in held.values()]
        self._shared = {name for name in uses if uses.count(name) > 1}

    @contextmanager
    def watch(self, batch: Batch) -> Iterator[None]:
        """Hooks in place; run one forward and backward pass of the summed loss inside."""
        self._batch, self._scores, self._squares, self._tied = batch, {}, {}, {}
        handles = [m.register_forward_hook(partial(self._seen, held, kind)) for m, held, kind in self._sites]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            self._batch = None

    def scores(self) -> dict[str, torch.Tensor]:
        """Parameter name → [B, K], of the last pass."""
        return self._scores

    def squares(self) -> dict[str, torch.Tensor]:
        """Parameter name → squared gradient norms [B], of the last pass."""
        for name, uses in self._tied.items():
            if len(uses) != 2 or {u[0].dim() for u in uses} != {2, 3}:
                raise Untappable(f"{name} is shared in a way whose gradient norm is not known")
            (ids, d), (hidden, p) = sorted(uses, key=lambda use: use[0].dim())
            self._squares[name] = self._squares[name] + tied_cross_norms(ids, d, hidden, p)
        self._tied = {}
        return self._squares

    def _seen(self, held: dict[str, str], kind: "Kind", module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if self._probing:
            return output
        if not isinstance(output, torch.Tensor) or not args or not isinstance(args[0], torch.Tensor):
            raise Untappable(f"{', '.join(held.values())}: a {type(module).__name__} that is not called with a tensor")
        if not output.requires_grad:
            output = output.detach().requires_grad_().clone()  # a leaf could not be changed in place downstream
        x = args[0].detach()
        if kind is _embedding and x.dim() == 2 and x.shape[0] == 1:  # position ids that all samples share
            assert self._batch is not None
            x, output = x.expand(len(self._batch), -1), output.expand(len(self._batch), -1, -1)
        output.register_hook(partial(self._arrived, held, kind, module, x))
        return output

    def _arrived(
        self, held: dict[str, str], kind: "Kind", module: nn.Module, x: torch.Tensor, gradient: torch.Tensor
    ) -> None:
        with torch.no_grad():
            headed = module is self._head
            d = self._by_sample(gradient, headed)
            for key, name in held.items():
                if key == "bias":
                    ones = torch.ones((), dtype=d.dtype, device=d.device)
                    self._add(name, elementwise_products(ones, d, self._directions[name], self.norms))
                    continue
                if kind is _embedding:
                    rows = self._ids(x)
                    d = _reaching(module, rows, d)
                else:
                    rows = self._by_sample(x, headed)
                self._probing = True
                try:
                    self._add(name, kind(module, x, rows, d, self._directions[name], self.norms))
                finally:
                    self._probing = False
                if self.norms and name in self._shared:
                    self._tied.setdefault(name, []).append((rows, d))

    def _add(self, name: str, products: Products) -> None:
        scores, squares = products
        if name in self._scores and self.norms and name not in self._shared:
            raise Untappable(f"{name} is used more than once in a pass, so its gradient norm is not a sum")
        self._scores[name] = self._scores[name] + scores if name in self._scores else scores
        if squares is not None:
            self._squares[name] = self._squares[name] + squares if name in self._squares else squares

    def _by_sample(self, t: torch.Tensor, headed: bool) -> torch.Tensor:
        """[B, T, …, width], [B * T, width] or the head's [1, N, width] as [B, R, width], padded with zeros."""
        assert self._batch is not None
        batch, width = self._batch.ids.shape
        if t.dim() >= 3 and t.shape[:2] == (batch, width):
            return t.reshape(batch, -1, t.shape[-1])
        if t.dim() == 2 and t.shape[0] == batch * width:
            return t.reshape(batch, width, -1)
        owner = self._batch.owner
        if headed and t.dim() == 3 and t.shape[:2] == (1, len(owner)):
            counts = torch.bincount(owner, minlength=batch)
            starts = counts.cumsum(0) - counts
            place = torch.arange(len(owner), device=t.device) - starts[owner]
            rows = t.new_zeros(batch, int(counts.max()), t.shape[2])
            rows[owner, place] = t[0]
            return rows
        raise Untappable(f"a module output of shape {tuple(t.shape)} can't be told apart by sample")

    def _ids(self, x: torch.Tensor) -> torch.Tensor:
        assert self._batch is not None
        if x.shape == self._batch.ids.shape:
            return x
        raise Untappable(f"embedding indices of shape {tuple(x.shape)}")


Kind = Callable[[Any, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, bool], Products]


def _linear(
    module: Any, x: torch.Tensor, rows: torch.Tensor, d: torch.Tensor, v: torch.Tensor, norms: bool
) -> Products:
    return linear_products(rows, d, v, norms)


def _conv1d(
    module: Any, x: torch.Tensor, rows: torch.Tensor, d: torch.Tensor, v: torch.Tensor, norms: bool
) -> Products:
    return linear_products(d, rows, v, norms)  # HF's Conv1D holds [in, out]


def _embedding(
    module: Any, x: torch.Tensor, ids: torch.Tensor, d: torch.Tensor, v: torch.Tensor, norms: bool
) -> Products:
    return embedding_products(ids, d, v, norms)


def _reaching(module: Any, ids: torch.Tensor, d: torch.Tensor) -> torch.Tensor:
    """What of an embedding's output gradient reaches its weight: scaled as by Gemma, nothing for the padding row."""
    d = d * getattr(module, "embed_scale", 1.0)
    return d if module.padding_idx is None else d * (ids != module.padding_idx)[..., None]


def _norm(module: Any, x: torch.Tensor, rows: torch.Tensor, d: torch.Tensor, v: torch.Tensor, norms: bool) -> Products:
    """A norm is affine in its weight whatever family wrote it (w * x, (1 + w) * x, …): two evaluations give x."""
    weight = module._parameters["weight"]
    try:
        module._parameters["weight"] = torch.ones_like(weight)
        at_one = module.forward(x)
        module._parameters["weight"] = torch.zeros_like(weight)
        normalised = at_one - module.forward(x)
    finally:
        module._parameters["weight"] = weight
    return elementwise_products(normalised.reshape(d.shape), d, v, norms)


def _kind(module: nn.Module, held: dict[str, str]) -> Kind:
    """What a module computes with its chosen parameters, by its class; the engine's check finds those that differ."""
    known = set(held) <= {"weight", "bias"}
    if known and isinstance(module, nn.Linear):
        return _linear
    if known and isinstance(module, Conv1D):
        return _conv1d
    if known and isinstance(module, nn.Embedding):
        return _embedding
    if (
        known
        and "norm" in type(module).__name__.lower()
        and all(p.dim() == 1 for p in module.parameters(recurse=False))
    ):
        return _norm
    raise Untappable(f"{next(iter(held.values()))}: no rule for the parameters of a {type(module).__name__}")
