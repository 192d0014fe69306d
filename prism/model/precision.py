"""The types that weights are kept in, and the one in which a network computes."""

from collections.abc import Iterator
from typing import Any

import torch

from prism.model.quantized import is_packed

DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def types_of(network: Any) -> set[torch.dtype]:
    """All types that a network computes in."""
    return set(_types(network)) or {torch.float32}


def narrowest(types: set[torch.dtype]) -> torch.dtype:
    """The one of the coarsest rounding."""
    return max(types, key=lambda dtype: torch.finfo(dtype).eps)


def _types(network: Any) -> Iterator[torch.dtype]:
    for module in network.modules():
        for parameter in module.parameters(recurse=False):
            if parameter.dtype in DTYPES.values() and not is_packed(parameter):
                yield parameter.dtype
        if type(module).__module__.startswith("bitsandbytes") and (inside := _inside(module)):
            yield inside


def _inside(module: Any) -> torch.dtype | None:
    """In which a quantised matrix multiplies: 4 bits in a type of their own choice; 8 bits round what they multiply to
    8 bits as well, about as bfloat16 does."""
    own: torch.dtype | None = getattr(module, "compute_dtype", None)
    return torch.bfloat16 if hasattr(module, "state") else own
