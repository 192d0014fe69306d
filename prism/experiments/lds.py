"""The linear datamodeling score: do sums of scores foretell what retraining on subsets does?

Park et al., TRAK (arXiv 2303.14186, section 4.2): the rank correlation, over random subsets of the training data, of
the sum of a method's scores with what a model trained on the subset measures.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from prism.experiments.statistics import Interval, bootstrap, spearman
from prism.scoring.pairs import PairScores

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
RESAMPLES = 500


@dataclass(frozen=True)
class Measured:
    """What the models of the subsets measured: margins l(y-) - l(y+) [subsets, pairs] of the target's pairs, by `ids`,
    their mean preference [subsets], and that of the held-out pairs, if there are such."""

    ids: list[str]
    margins: Floats
    preference: Floats
    held_out: Floats | None

    @property
    def potential(self) -> Floats:
        """K of the target, mean softplus of the margins [subsets]: what sums of PRISM's scores foretell (METHOD)."""
        return np.asarray(np.logaddexp(0.0, self.margins).mean(1))


def draw_subsets(rows: int, share: float, count: int, seed: int, among: Flags) -> Flags:
    """Random subsets of the rows `among`, each of a `share` of them, [count, rows]; the same for the same arguments,
    and the first ones stay the same when more are drawn."""
    candidates = np.flatnonzero(among)
    size = min(max(1, int(share * len(candidates))), len(candidates) - 1)
    found = np.zeros((count, rows), np.bool_)
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        found[number, rng.permutation(candidates)[:size]] = True
    return found


def summed(matrix: PairScores, subsets: Flags, rejected: bool = True) -> Floats:
    """sum over each subset of S+_q - S-_q (or of S+_q alone), [subsets, pairs]; block by block of the matrix."""
    total = np.zeros((len(subsets), len(matrix.pairs)))
    start = 0
    for chosen, other in matrix.blocks():
        part = subsets[:, start : start + len(chosen)].astype(np.float64)
        values = np.nan_to_num(chosen - other if rejected else chosen)
        total += part @ values
        start += len(chosen)
    return total


def score(
    sums: Floats, pair_sums: Floats | None, pairs: Sequence[str], measured: Measured, seed: int
) -> dict[str, Any]:
    """JSON-ready scores of one method, with bootstrap intervals over the subsets.

    Args:
        sums: of the method's scores, [subsets].
        pair_sums: of its scores against single pairs [subsets, Q], in the order of `pairs`; None where it has none.
    """
    count = len(sums)
    found: dict[str, Any] = {
        "potential": _correlation(sums, measured.potential, seed),
        "mean": _correlation(sums, measured.preference, seed),
    }
    if measured.held_out is not None:
        found["held_out"] = _correlation(sums, measured.held_out, seed)
    if pair_sums is not None:
        columns = {name: place for place, name in enumerate(measured.ids)}
        both = [(q, columns[name]) for q, name in enumerate(pairs) if name in columns]
        predicted = pair_sums[:, [q for q, _ in both]]
        margins = measured.margins[:, [c for _, c in both]]
        each = [spearman(predicted[:, i], margins[:, i]) for i in range(len(both))]
        found["pair"] = bootstrap(
            count, lambda places: _mean_correlation(predicted[places], margins[places]), seed=seed, resamples=RESAMPLES
        )
        found["by_pair"] = {pairs[q]: value for (q, _), value in zip(both, each, strict=True)}
    return found


def _correlation(a: Floats, b: Floats, seed: int) -> Interval:
    return bootstrap(
        len(a), lambda places: _mean_correlation(a[places, None], b[places, None]), seed=seed, resamples=RESAMPLES
    )


def _mean_correlation(predicted: Floats, margins: Floats) -> float:
    """Mean over pairs of Spearman's correlation over subsets: Pearson's of the ranks, all columns at once."""
    a, b = _ranks(predicted), _ranks(margins)
    a, b = a - a.mean(0), b - b.mean(0)
    scale = np.sqrt((a * a).sum(0) * (b * b).sum(0))
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(np.nanmean((a * b).sum(0) / scale)) if np.any(scale > 0) else float("nan")


def _ranks(values: Floats) -> Floats:
    from scipy.stats import rankdata

    ranked: Floats = rankdata(values, axis=0)
    return ranked
