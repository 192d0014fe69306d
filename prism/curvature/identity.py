"""H = I: the direction is used as it is, and a score is a plain gradient inner product."""

from dataclasses import dataclass

from prism.damping import Damping
from prism.target import Direction


@dataclass(frozen=True)
class Identity:
    """No curvature."""

    name: str = "identity"

    def solve(self, direction: Direction, damping: Damping | None = None) -> Direction:
        return direction
