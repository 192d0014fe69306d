"""LoRA adapters folded into their base weights while a pass runs, layer by layer."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from prism.model.parameters import peft_class


@contextmanager
def merged_adapters(network: nn.Module) -> Iterator[None]:
    """Plain LoRA on linear layers computes x (W + s B A)' inside: one matrix product in place of three, for the price
    of making W + s B A anew for each batch, which for more tokens than the layer is wide is the cheaper.

    Only in float32 and wider: in narrower types the sum would lose the adapter's lower digits. Anything but plain LoRA
    (DoRA, quantised bases, several kinds at once) is left as it is.
    """
    kind = peft_class("tuners.lora.layer", "Linear")
    patched: list[Any] = [m for m in network.modules() if type(m) is kind and _plain(m)]
    for module in patched:
        module.forward = partial(_forward, module, module.forward)
    try:
        yield
    finally:
        for module in patched:
            del module.forward


def _plain(module: Any) -> bool:
    base = module.base_layer
    bare = type(base).forward is nn.Linear.forward and not ("forward" in vars(base) or _hooked(base))
    wide = bare and base.weight.dtype in (torch.float32, torch.float64)
    off = module.merged or module.disable_adapters or module.lora_variant or "forward" in vars(module)
    factors = [layers[name] for name in _active(module) for layers in (module.lora_A, module.lora_B)]
    alike = all(f.bias is None and f.weight.dtype == base.weight.dtype and not _hooked(f) for f in factors)
    return wide and not off and alike


def _hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _active(module: Any) -> list[str]:
    return [name for name in module.active_adapters if name in module.lora_A]


def _forward(
    module: Any, plain: Callable[..., torch.Tensor], x: torch.Tensor, *args: Any, **kwargs: Any
) -> torch.Tensor:
    base = module.base_layer
    if x.numel() < base.weight.numel() or args or kwargs:
        return plain(x, *args, **kwargs)
    weight = base.weight
    for name in _active(module):
        factors = module.lora_B[name].weight, module.lora_A[name].weight
        weight = torch.addmm(weight, *factors, alpha=module.scaling[name])
    return F.linear(x, weight, base.bias)
