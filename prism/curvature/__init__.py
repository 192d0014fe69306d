"""Curvature of the SFT loss, applied to the few directions and never to the pool."""

from typing import Protocol

from prism.curvature.identity import Identity
from prism.target import Direction


class Curvature(Protocol):
    """A damped curvature H_lambda, fitted beforehand."""

    @property
    def name(self) -> str: ...

    def solve(self, direction: Direction) -> Direction:
        """H_lambda^-1 applied to a direction: same names, same shapes."""
        ...


__all__ = ["Curvature", "Identity"]
