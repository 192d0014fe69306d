"""Percentile bootstrap intervals (Efron and Tibshirani 1993, chapter 13) of sums over independent rows."""

from typing import TypedDict

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
CONFIDENCE = 0.95
TOGETHER = 2**18  # rows that are drawn at a time


class Figure(TypedDict):
    """A figure with its interval; None where no row, or a single one, leaves nothing to say."""

    value: float | None
    low: float | None
    high: float | None


def resampled_sums(values: Floats, resamples: int, seed: int) -> Floats:
    """Sums over rows of `values` [n, k], for as many samples of n rows drawn with replacement: [resamples, k].

    All columns share the draws, so that figures of them may be combined.
    """
    rng, n = np.random.default_rng(seed), len(values)
    sums = np.empty((resamples, values.shape[1]))
    together = max(1, TOGETHER // max(1, n))
    for start in range(0, resamples, together):
        part = sums[start : start + together]
        drawn = rng.integers(0, n, (len(part), n)) + n * np.arange(len(part))[:, None]
        part[:] = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape) @ values
    return sums


def figure(value: float, resampled: Floats) -> Figure:
    """The value with the central 95 % of what it is over resamples [resamples]."""
    if not np.isfinite(value):
        return {"value": None, "low": None, "high": None}
    if not len(resampled) or not np.isfinite(resampled).all():
        return {"value": float(value), "low": None, "high": None}
    low, high = np.quantile(resampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return {"value": float(value), "low": float(low), "high": float(high)}


def mean_figures(columns: dict[str, Floats], resamples: int, seed: int) -> dict[str, Figure]:
    """The mean of each column [n] with its interval, under the same resamples of the rows."""
    values = np.stack(list(columns.values()), 1)
    n = len(values)
    if n == 0:
        return {name: {"value": None, "low": None, "high": None} for name in columns}
    means = resampled_sums(values, resamples if n > 1 else 0, seed) / n
    return {name: figure(float(values[:, i].mean()), means[:, i]) for i, name in enumerate(columns)}
