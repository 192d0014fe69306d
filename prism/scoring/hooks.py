"""Taps on modules whose output is linear in their parameters: matrix products, norms, DoRA's magnitudes."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle
from transformers.pytorch_utils import Conv1D

from prism.model.parameters import peft_class
from prism.scoring.ledger import Ledger
from prism.scoring.rows import Rows, Untappable
from prism.scoring.targets import Targets, first_of

FORWARDS = {nn.Linear.forward, Conv1D.forward}  # matrix products; relatives that do more are watched


def is_linear_in(module: nn.Module, held: Targets) -> bool:
    """Whether a module is of a class whose output is linear in its parameters; the self-check finds impostors."""
    if not set(held) <= {"weight", "bias"}:
        return False
    return type(module).forward in FORWARDS or _scales(module)


def hooked(module: nn.Module, held: Targets, ledger: Ledger) -> RemovableHandle:
    """A hook on such a module."""

    def seen(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        if ledger.paused:
            return output
        if not isinstance(output, torch.Tensor) or not args or not isinstance(args[0], torch.Tensor):
            raise Untappable(f"{first_of(held)}: a {type(module).__name__} that is not called with a tensor")
        rows = ledger.rows(module, output)
        args, kwargs = tuple(map(_kept, args)), {name: _kept(value) for name, value in kwargs.items()}
        return ledger.follow(output, lambda d: _arrived(module, held, ledger, rows, args, kwargs, d))

    return module.register_forward_hook(seen, with_kwargs=True)


def _arrived(
    module: nn.Module,
    held: Targets,
    ledger: Ledger,
    rows: Rows,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    d: torch.Tensor,
) -> None:
    for target in held.get("bias", ()):
        ledger.elementwise(target, rows, d.new_ones(()), d)
    if "weight" not in held:
        return
    if type(module).forward in FORWARDS:
        for target in held["weight"]:
            ledger.linear(target, rows, args[0], d, transposed=isinstance(module, Conv1D))  # which holds [in, out]
        return
    with ledger.pause():
        scaled = _scaled(module, args, kwargs).expand_as(d)
    for target in held["weight"]:
        ledger.elementwise(target, rows, scaled, d)


def _scales(module: nn.Module) -> bool:
    """Norms, of which families write their own, and the magnitudes of DoRA: affine in a weight of their own."""
    named = "norm" in type(module).__name__.lower()
    dora = peft_class("tuners.lora.dora", "DoraLinearLayer")
    return isinstance(module, dora) or (named and "weight" in module._parameters)


def _scaled(module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> torch.Tensor:
    """What the weight multiplies, whatever family wrote it (w * x, (1 + w) * x, …): by evaluations at 1 and at 0."""
    weight = module._parameters["weight"]
    try:
        module._parameters["weight"] = torch.ones_like(weight)
        at_one = module.forward(*args, **kwargs)
        module._parameters["weight"] = torch.zeros_like(weight)
        scaled: torch.Tensor = at_one - module.forward(*args, **kwargs)
    finally:
        module._parameters["weight"] = weight
    return scaled


def _kept(value: Any) -> Any:
    return value.detach() if isinstance(value, torch.Tensor) else value
