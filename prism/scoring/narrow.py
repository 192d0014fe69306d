"""Directions in the types of their parameters, without losing them in float16."""

import math
from collections.abc import Mapping

import torch

from prism.model import Model

TYPICAL = 2.0**-6  # root mean square that a direction gets in float16: far from both ends of what it can hold


def narrowed(model: Model, directions: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Directions [K, *shape] by parameter, in the parameters' own types, and what scores against them are to be
    multiplied by: [K], powers of two, and ones unless the network computes in float16."""
    some = next(iter(directions.values()))
    sizes = torch.ones(len(some), device=some.device)
    if torch.float16 in model.types:
        squares = torch.stack([wide_square(t) for t in directions.values()]).sum(0)
        sizes = torch.tensor([size_of(model, s) for s in squares.tolist()], device=some.device)
    found = {}
    for name, tensor in directions.items():
        shaped = sizes.reshape(-1, *[1] * (tensor.dim() - 1))
        scaled = tensor / shaped if torch.float16 in model.types else tensor
        found[name] = scaled.to(model.parameters[name].dtype)
    return found, sizes


def size_of(model: Model, square: float) -> float:
    """What to divide a direction of this squared norm by before it is kept in the parameters' types."""
    if torch.float16 not in model.types or not (square > 0 and math.isfinite(square)):
        return 1.0
    count = sum(p.numel() for p in model.parameters.values())
    return 2.0 ** round(math.log2(math.sqrt(square / count) / TYPICAL))


def wide_square(directions: torch.Tensor) -> torch.Tensor:
    """Squared norms [K] of directions [K, *shape], one after another."""
    return torch.stack([d.double().square().sum() for d in directions])
