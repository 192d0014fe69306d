"""Models that compute in float64 throughout, though their code says float32: softmaxes, norms, routers."""

from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class Doubled(TorchFunctionMode):
    """Every request for float32 inside is one for float64."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        func = torch.Tensor.double if func is torch.Tensor.float else func
        args = tuple(map(_double, args))
        return func(*args, **{name: _double(value) for name, value in (kwargs or {}).items()})


def _double(value: Any) -> Any:
    return torch.float64 if value is torch.float32 else value
