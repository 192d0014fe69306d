"""Methods without gradients, which influence has to beat."""

from prism.methods.baselines.stream import score_baseline
from prism.methods.baselines.table import AGGREGATES, BASELINES, Baseline

__all__ = ["AGGREGATES", "BASELINES", "Baseline", "score_baseline"]
