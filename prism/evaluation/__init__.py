"""What changed, measured."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from prism.evaluation.config import EvaluateConfig

if TYPE_CHECKING:
    from prism.evaluation.job import evaluate
    from prism.evaluation.preference import PairLosses, Preference, evaluate_preference, measure_pairs
    from prism.evaluation.retain import RetainLosses, measure_retained

_WHERE = {
    "PairLosses": "preference",
    "Preference": "preference",
    "RetainLosses": "retain",
    "evaluate": "job",
    "evaluate_preference": "preference",
    "measure_pairs": "preference",
    "measure_retained": "retain",
}


def __getattr__(name: str) -> Any:
    """Import on first use: the command line needs the config alone."""
    if name in _WHERE:
        return getattr(import_module(f"prism.evaluation.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'prism.evaluation' has no attribute {name!r}")


__all__ = [
    "EvaluateConfig", "PairLosses", "Preference", "RetainLosses", "evaluate", "evaluate_preference", "measure_pairs",
    "measure_retained",
]  # fmt: skip
