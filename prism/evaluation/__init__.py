"""What changed, measured."""

from prism.evaluation.preference import Preference, evaluate_preference

__all__ = ["Preference", "evaluate_preference"]
