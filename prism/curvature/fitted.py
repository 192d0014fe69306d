"""A curvature made of one block per parameter."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from prism.curvature.blocks import Block
from prism.damping import Damping
from prism.errors import DataError, RunError
from prism.target import Direction


@dataclass(frozen=True)
class Fitted:
    """H, block by block, with the `means` of its eigenvalues by parameter."""

    name: str
    damping: Damping
    blocks: Mapping[str, Block]
    means: Mapping[str, float]

    def solve(self, direction: Direction, damping: Damping | None = None) -> Direction:
        """(H + lambda I)^-1 direction, with a lambda of its own for each block where it is relative.

        Raises:
            RunError: the direction is of other parameters.
            DataError: H vanishes altogether, or the solution is not finite.
        """
        damping = damping or self.damping
        if odd := sorted(set(direction.tensors) ^ set(self.means)):
            raise RunError(f"the {self.name} curvature is of other parameters than the direction, such as {odd[0]}")
        damp = dampings(damping, self.means, {name: t.numel() for name, t in direction.tensors.items()})
        solved = {name: self.blocks[name].solve(t, damp[name]) for name, t in direction.tensors.items()}
        return solution(direction, solved, self.name, damping)


def dampings(damping: Damping, means: Mapping[str, float], sizes: Mapping[str, int]) -> dict[str, float]:
    """lambda of each parameter, from the mean eigenvalues and numbers of weights.

    Raises:
        DataError: it is relative to a curvature that vanishes altogether.
    """
    overall = sum(means[name] * size for name, size in sizes.items()) / sum(sizes.values())
    if damping.relative and not overall > 0:
        raise DataError(
            "the curvature vanishes in every parameter: take --curvature identity, or more --curvature-samples"
        )
    return {name: damping.of(means[name], overall) for name in sizes}


def solution(direction: Direction, solved: Mapping[str, torch.Tensor], name: str, damping: Damping) -> Direction:
    """The solved direction, with what made it added to its provenance; raises DataError where it is not finite."""
    found = Direction(solved, {**direction.provenance, "curvature": name, "damping": str(damping)})
    if not found.is_finite():
        raise DataError(f"the {name} curvature's inverse is not finite: raise --damping")
    return found
