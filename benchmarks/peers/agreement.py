"""How far scores are from the true ones; numpy alone."""

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def ranks(values: Array) -> Array:
    """Ranks from 0, ties sharing their mean."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts + 1) / 2)[inverse]


def agreement(scores: npt.ArrayLike, truth: Array) -> dict[str, float]:
    """Spearman's correlation, and the largest error relative to the largest score."""
    got = np.asarray(scores, dtype=np.float64)
    error = np.abs(got - truth).max() / np.abs(truth).max()
    return {"spearman": float(np.corrcoef(ranks(got), ranks(truth))[0, 1]), "largest_error": float(error)}
