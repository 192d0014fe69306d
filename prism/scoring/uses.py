"""Taps on what a module does with its parameters, for modules of no known class: embeddings, routers and relatives.

While such a module runs, every torch function is watched: one that multiplies by a chosen parameter, adds it or looks
rows up in it is tapped; any other use of it is refused by name.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from prism.scoring.ledger import Ledger
from prism.scoring.rows import Untappable
from prism.scoring.targets import Target, Targets

CASTS = {"to", "type", "type_as", "float", "double", "half", "bfloat16", "contiguous", "clone"}
TURNS = {"t", "T", "mT"}
PRODUCTS = {"matmul", "__matmul__", "mm"}
SUMS = {"add", "__add__", "__radd__"}


@contextmanager
def watched(module: nn.Module, held: Targets, ledger: Ledger) -> Iterator[None]:
    """Tap what `module` does with its parameters in its forward passes inside."""
    own = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        if ledger.paused or not torch.is_grad_enabled():
            return own(*args, **kwargs)
        with _Watch(module, held, ledger):
            return own(*args, **kwargs)

    with replaced_forward(module, forward):
        yield


@contextmanager
def replaced_forward(module: Any, forward: Callable[..., Any]) -> Iterator[None]:
    """The module's forward pass is `forward` inside."""
    before = vars(module).get("forward")
    module.forward = forward
    try:
        yield
    finally:
        del module.forward
        if before is not None:
            module.forward = before


@dataclass(frozen=True)
class _View:
    """A tensor that is a chosen parameter, cast or transposed."""

    targets: list[Target]
    tensor: torch.Tensor  # kept, or another tensor could come by its id
    transposed: bool = False


class _Watch(TorchFunctionMode):
    def __init__(self, module: nn.Module, held: Targets, ledger: Ledger) -> None:
        super().__init__()
        self._module, self._ledger = module, ledger
        weights = {key: _weight(module, key) for key in held}
        self._views = {id(weights[key]): _View(targets, weights[key]) for key, targets in held.items()}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        used = [view for a in (*args, *kwargs.values()) if (view := self._views.get(id(a)))]
        if not used or not isinstance(output, torch.Tensor) or not torch.is_grad_enabled():
            return output
        name = func.__self__.__name__ if func.__name__ == "__get__" else func.__name__
        first = self._views.get(id(args[0])) if args else None
        if name in {"detach", "data"} or (name == "type_as" and first is None) or not output.is_floating_point():
            return output
        if first is not None and name in CASTS | TURNS:
            turned = first.transposed ^ (name in TURNS)
            self._views[id(output)] = replace(first, tensor=output, transposed=turned)
            return output
        if func is F.linear and first is None:
            return self._linear(output, *_named(args, kwargs, "input", "weight", "bias"))
        if func is F.embedding:
            return self._embedding(
                output, *_named(args, kwargs, "input", "weight", "padding_idx", "max_norm", "", "scale_grad_by_freq")
            )
        if name in PRODUCTS and len(used) == 1 and first is None:
            return self._linear(output, args[0], args[1], None, turned=True)
        if name == "bmm" and len(used) == 1 and first is None:
            return self._batched(output, args[0], self._views[id(args[1])])
        if name in SUMS and len(used) == 1 and used[0].tensor.dim() == 1 and output.shape[-1:] == used[0].tensor.shape:
            return self._linear(output, output, output, used[0].tensor)
        raise self._refused(used[0], name)

    def _linear(
        self,
        output: torch.Tensor,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        turned: bool = False,
    ) -> torch.Tensor:
        rows, x = self._ledger.rows(self._module, output), x.detach()
        nothing = _View([], output)
        multiplied, added = self._views.get(id(weight), nothing), self._views.get(id(bias), nothing)

        def arrived(d: torch.Tensor) -> None:
            for target in multiplied.targets:
                self._ledger.linear(target, rows, x, d, transposed=multiplied.transposed ^ turned)
            for target in added.targets:
                self._ledger.elementwise(target, rows, d.new_ones(()), d)

        return self._ledger.follow(output, arrived)

    def _batched(self, output: torch.Tensor, x: torch.Tensor, view: _View) -> torch.Tensor:
        """x [E, tokens, in] by E experts, each of which gets all tokens."""
        if view.transposed or x.shape[1] != self._ledger.batch.ids.numel():
            raise self._refused(view, "bmm")
        rows, x = self._ledger.rows(self._module, output[0]), x.detach()

        def arrived(d: torch.Tensor) -> None:
            for target in view.targets:
                for expert in range(len(x)):
                    self._ledger.linear(target, rows, x[expert], d[expert], transposed=True, expert=expert)

        return self._ledger.follow(output, arrived)

    def _embedding(
        self,
        output: torch.Tensor,
        ids: torch.Tensor,
        weight: torch.Tensor,
        padding: int | None,
        max_norm: float | None,
        _: None,
        by_frequency: bool | None,
    ) -> torch.Tensor:
        view, (batch, width) = self._views[id(weight)], self._ledger.batch.ids.shape
        if max_norm is not None or by_frequency:
            raise self._refused(view, "an embedding with max_norm or scale_grad_by_freq")
        if ids.numel() == ids.shape[-1] == width:  # positions that all samples share
            output = output.reshape(1, width, -1).expand(batch, -1, -1)
            ids = ids.reshape(1, width).expand(batch, -1)
        if ids.shape != (batch, width):
            raise Untappable(f"{view.targets[0]} is looked up at indices of shape {tuple(ids.shape)}")
        rows, ids = self._ledger.rows(self._module, output), ids.clone()
        for target in view.targets:
            self._ledger.looked_up(target, ids)

        def arrived(d: torch.Tensor) -> None:
            if padding is not None:
                d = d * (ids != padding % len(weight))[..., None]
            for target in view.targets:
                self._ledger.embedding(target, rows, ids, d, transposed=view.transposed)

        return self._ledger.follow(output, arrived)

    def _refused(self, view: _View, use: str) -> Untappable:
        return Untappable(f"{view.targets[0]}: a {type(self._module).__name__} uses it in {use}")


def _weight(module: nn.Module, key: str) -> torch.Tensor:
    """As the module sees it: PEFT makes a LoRA part of it while it runs."""
    group, _, name = key.rpartition(".")
    weight: torch.Tensor = getattr(module, name) if not group else getattr(module, group)[name]
    return weight


def _named(args: tuple[Any, ...], kwargs: Mapping[str, Any], *names: str) -> list[Any]:
    """Arguments of a function by name, wherever they were given."""
    return [args[i] if i < len(args) else kwargs.get(name) for i, name in enumerate(names)]
