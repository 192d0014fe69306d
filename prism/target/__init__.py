"""Target pairs, their preferences, and the direction that they make."""

from prism.target.direction import Direction
from prism.target.measure import MeasuredTarget, measure_target
from prism.target.preference import potential, preference

__all__ = ["Direction", "MeasuredTarget", "measure_target", "potential", "preference"]
