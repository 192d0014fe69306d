"""Target pairs, their preferences, and the direction that they make."""

from prism.target.direction import Direction
from prism.target.losses import encode_pairs, mean_losses, pair_lengths
from prism.target.measure import MeasuredTarget, measure_target
from prism.target.objective import Objective
from prism.target.preference import potential, preference

__all__ = [
    "Direction",
    "MeasuredTarget",
    "Objective",
    "encode_pairs",
    "mean_losses",
    "measure_target",
    "pair_lengths",
    "potential",
    "preference",
]
