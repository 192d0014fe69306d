"""Curvature of the SFT loss, applied to the few directions and never to the pool."""

from typing import Protocol

from prism.curvature.blocks import Diagonal
from prism.curvature.fitted import Fitted
from prism.curvature.identity import Identity
from prism.damping import Damping
from prism.target import Direction


class Curvature(Protocol):
    """A curvature H, fitted beforehand, with a damping of its own."""

    @property
    def name(self) -> str: ...

    def solve(self, direction: Direction, damping: Damping | None = None) -> Direction:
        """H_lambda^-1 applied to a direction: same names, same shapes; `damping` in place of the curvature's own."""
        ...


__all__ = ["Curvature", "Damping", "Diagonal", "Fitted", "Identity"]
