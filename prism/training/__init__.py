"""SFT through TRL, on the very tokens that were scored."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from prism.training.config import TrainConfig

if TYPE_CHECKING:
    from prism.training.folder import base_place, trained_place
    from prism.training.job import Trained, train
    from prism.training.overlap import Overlap, find_overlap

_WHERE = {
    "Overlap": "overlap",
    "Trained": "job",
    "base_place": "folder",
    "find_overlap": "overlap",
    "train": "job",
    "trained_place": "folder",
}


def __getattr__(name: str) -> Any:
    """Import on first use: the command line needs the config alone."""
    if name in _WHERE:
        return getattr(import_module(f"prism.training.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'prism.training' has no attribute {name!r}")


__all__ = ["Overlap", "TrainConfig", "Trained", "base_place", "find_overlap", "train", "trained_place"]
