"""The statistics behind every claim: intervals, paired tests, rankings against labels. Pure functions of arrays."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from prism.errors import ConfigError

try:
    from scipy import stats
    from sklearn.metrics import average_precision_score, roc_auc_score
except ImportError as error:
    raise ConfigError("statistics need scipy and scikit-learn: pip install 'prism-select[report]'") from error

Floats = npt.NDArray[np.float64]
CONFIDENCE = 0.95
RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """An estimate with a confidence interval; `low` and `high` are None where there is too little data for one."""

    value: float
    low: float | None = None
    high: float | None = None

    def as_json(self) -> dict[str, float | None]:
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Ranking:
    """How well scores tell harmful rows from benign ones: areas under the ROC and the precision-recall curve."""

    auroc: Interval
    average_precision: Interval
    positives: int
    negatives: int


def mean_interval(values: npt.ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """Mean of independent values [n] with Student's t interval; no interval for a single value."""
    x = np.asarray(values, np.float64)
    mean = float(x.mean())
    if len(x) < 2:
        return Interval(mean)
    half = float(stats.t.ppf((1 + confidence) / 2, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x)))
    return Interval(mean, mean - half, mean + half)


def bootstrap(
    count: int,
    statistic: Callable[[npt.NDArray[np.int64]], float],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> Interval:
    """A statistic of `count` items, given as their places, with its percentile bootstrap interval.

    Resamples for which the statistic is not finite (one class alone, say) are left out.
    """
    value = statistic(np.arange(count))
    if count < 2 or not np.isfinite(value):
        return Interval(value)
    rng = np.random.default_rng(seed)
    return _percentiles(
        value, np.array([statistic(rng.integers(0, count, count)) for _ in range(resamples)]), confidence
    )


def _percentiles(value: float, resampled: Floats, confidence: float = CONFIDENCE) -> Interval:
    finite = resampled[np.isfinite(resampled)]
    if not len(finite):
        return Interval(value)
    low, high = np.quantile(finite, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value, float(low), float(high))


def paired_p(differences: npt.ArrayLike) -> float | None:
    """Two-sided p of the paired t test that differences [n] have mean zero; None where n < 2 or they never vary.

    Differences that are all zero are no evidence at all: p = 1.
    """
    d = np.asarray(differences, np.float64)
    if len(d) < 2:
        return None
    if not d.any():
        return 1.0
    if np.ptp(d) <= 1e-12 * np.abs(d).max():
        return None
    return float(stats.ttest_1samp(d, 0.0).pvalue)


def holm(p: Mapping[str, float | None]) -> dict[str, float | None]:
    """p values adjusted for testing all of them (Holm 1979): the step-down Bonferroni; None stays None."""
    known = sorted((value, name) for name, value in p.items() if value is not None)
    adjusted: dict[str, float | None] = dict.fromkeys(p)
    least = 0.0
    for place, (value, name) in enumerate(known):
        least = max(least, min(1.0, (len(known) - place) * value))
        adjusted[name] = least
    return adjusted


def ranking(scores: npt.ArrayLike, labels: npt.ArrayLike, *, seed: int = 0, resamples: int = 1000) -> Ranking | None:
    """AUROC and average precision of scores [n] for labels [n] (True: harmful), with bootstrap intervals.

    None where one of the two classes is missing: then there is nothing to tell apart.
    """
    s, y = np.asarray(scores, np.float64), np.asarray(labels, np.bool_)
    if not y.any() or y.all():
        return None

    areas, precisions = _resampled_areas(s, y, seed, resamples)
    return Ranking(
        _percentiles(float(roc_auc_score(y, s)), areas),
        _percentiles(float(average_precision_score(y, s)), precisions),
        int(y.sum()),
        int((~y).sum()),
    )


def _resampled_areas(s: Floats, y: npt.NDArray[np.bool_], seed: int, resamples: int) -> tuple[Floats, Floats]:
    """(AUROC, average precision) of bootstrap resamples, each row as often as it was drawn; NaN for one class alone."""
    rng = np.random.default_rng(seed)
    order = np.argsort(-s, kind="stable")
    first = np.flatnonzero(np.append(True, np.diff(s[order]) != 0))  # where groups of equal scores begin
    areas, precisions = [], []
    for _ in range(resamples):
        drawn = np.bincount(rng.integers(0, len(s), len(s)), minlength=len(s))[order]
        positive = np.add.reduceat(drawn * y[order], first)
        negative = np.add.reduceat(drawn * ~y[order], first)
        hits, misses = np.cumsum(positive), np.cumsum(negative)
        with np.errstate(invalid="ignore"):
            areas.append((negative * (hits - positive / 2)).sum() / (hits[-1] * misses[-1]))
            precisions.append(np.nansum(positive * (hits / (hits + misses))) / hits[-1] if hits[-1] else np.nan)
    return np.array(areas), np.array(precisions)


def best_threshold(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """The score at and above which rows are called harmful, where true minus false positive rate is the largest
    (Youden's J, which does not depend on how many of the labelled rows are harmful); of equals the highest.

    It lies halfway to the next lower score, so that it does not hang on one row's last digit.
    """
    s, y = np.asarray(scores, np.float64), np.asarray(labels, np.bool_)
    order = np.argsort(-s, kind="stable")
    s, y = s[order], y[order]
    last = np.append(s[1:] != s[:-1], True)  # equal scores are on the same side
    j = (np.cumsum(y) / y.sum() - np.cumsum(~y) / (~y).sum())[last]
    cuts = np.flatnonzero(last)
    place = int(cuts[int(np.argmax(j))])
    return float(s[place] if place + 1 == len(s) else (s[place] + s[place + 1]) / 2)


def spearman(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Spearman's rank correlation of two series [n]; NaN where one of them never varies."""
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if len(x) < 2 or not np.ptp(x) or not np.ptp(y):
        return float("nan")
    return float(stats.spearmanr(x, y).statistic)


def plain(value: Any) -> Any:
    """Intervals and NaN inside of JSON-ready data, as JSON has them."""
    if isinstance(value, Interval):
        return plain(value.as_json())
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    return None if isinstance(value, float) and not np.isfinite(value) else value
