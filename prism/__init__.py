"""PRISM selects fine-tuning data by its influence on a target behaviour.

model = prism.load_model("DIR_OR_HUB_ID")
scores = prism.score(model, prism.load_pool("pool.jsonl"), prism.load_target("pairs.jsonl"))
prism.select(scores, budget="5%").save("selected.jsonl")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from prism.errors import PrismError

__version__ = "0.1.0"

if TYPE_CHECKING:
    from prism.api import fit_curvature, score
    from prism.data import load_pool, load_target
    from prism.model import load_model
    from prism.selection import export, select

_WHERE = {
    "export": "prism.selection",
    "fit_curvature": "prism.api",
    "load_model": "prism.model",
    "load_pool": "prism.data",
    "load_target": "prism.data",
    "score": "prism.api",
    "select": "prism.selection",
}


def __getattr__(name: str) -> Any:
    """Import on first use, so that `prism --help` does not wait for torch."""
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'prism' has no attribute {name!r}")


__all__ = ["PrismError", "export", "fit_curvature", "load_model", "load_pool", "load_target", "score", "select"]
