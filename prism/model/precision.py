"""The types that weights are kept in, and the one in which a network computes."""

from collections.abc import Iterator
from typing import Any

import torch

DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def precision_of(network: Any) -> torch.dtype:
    """The narrowest type that a network computes in.

    It rounds what goes through the whole network, whatever a chosen parameter is kept in: PEFT keeps the LoRA of a
    bfloat16 model in float32.
    """
    return max(_types(network), key=lambda dtype: torch.finfo(dtype).eps, default=torch.float32)


def _types(network: Any) -> Iterator[torch.dtype]:
    for module in network.modules():
        for parameter in module.parameters(recurse=False):
            if parameter.dtype in DTYPES.values():  # not the integers or bytes of a quantised weight
                yield parameter.dtype
