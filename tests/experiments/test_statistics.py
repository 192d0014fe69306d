"""Statistics against scipy, scikit-learn, brute force and figures worked out by hand."""

import json
import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score

from prism.experiments.statistics import (
    Interval,
    best_threshold,
    bootstrap,
    holm,
    mean_interval,
    paired_p,
    plain,
    ranking,
    spearman,
)


def test_t_interval_by_hand() -> None:
    found = mean_interval([1.0, 2.0, 6.0])
    half = 4.302652729911275 * math.sqrt(7) / math.sqrt(3)  # t of 2 degrees of freedom, variance (4 + 1 + 9) / 2
    assert (found.value, found.low, found.high) == pytest.approx((3.0, 3 - half, 3 + half))
    assert mean_interval([2.5]) == Interval(2.5, None, None)


def test_t_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    found = [mean_interval(rng.normal(1.0, 2.0, 4)) for _ in range(2000)]
    inside = np.mean([f.low < 1.0 < f.high for f in found if f.low is not None and f.high is not None])
    assert inside == pytest.approx(0.95, abs=0.015)


def test_bootstrap_of_a_mean_against_scipy() -> None:
    x = np.random.default_rng(0).exponential(size=60)
    found = bootstrap(len(x), lambda places: float(x[places].mean()), seed=1, resamples=4000)
    other = stats.bootstrap((x,), np.mean, method="percentile", n_resamples=4000, rng=5).confidence_interval
    assert found.value == pytest.approx(x.mean())
    assert found.low == pytest.approx(other.low, abs=0.02)
    assert found.high == pytest.approx(other.high, abs=0.02)
    assert bootstrap(len(x), lambda places: float(x[places].mean()), seed=1, resamples=4000) == found


def test_paired_test_against_scipy() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=8), rng.normal(0.5, size=8)
    assert paired_p(a - b) == pytest.approx(stats.ttest_rel(a, b).pvalue)
    assert paired_p([0.3]) is None
    assert paired_p([0.0, 0.0, 0.0]) == 1.0
    assert paired_p([0.1, 0.1, 0.1]) is None


def test_holm_by_hand() -> None:
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": None})
    assert found == pytest.approx({"a": 0.03, "c": 0.06, "b": 0.06, "d": None})
    assert holm({"a": 0.9, "b": 0.8}) == {"b": 1.0, "a": 1.0}
    assert holm({}) == {}


def test_auroc_is_the_share_of_pairs_in_order() -> None:
    rng = np.random.default_rng(4)
    scores = np.round(rng.normal(size=40), 1)  # with ties
    labels = rng.random(40) < 0.3
    wins = [(h > b) + 0.5 * (h == b) for h in scores[labels] for b in scores[~labels]]
    found = ranking(scores, labels, resamples=50)
    assert found is not None
    assert found.auroc.value == pytest.approx(np.mean(wins))
    assert (found.positives, found.negatives) == (labels.sum(), (~labels).sum())


def test_average_precision_by_hand() -> None:
    found = ranking([4, 3, 2, 1], [True, False, True, False], resamples=50)
    assert found is not None
    assert found.average_precision.value == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert ranking([1, 2], [True, True]) is None
    assert ranking([1, 2], [False, False]) is None


def test_intervals_of_areas_are_those_of_resampled_rows() -> None:
    rng = np.random.default_rng(6)
    scores, labels = np.round(rng.normal(size=30), 1), np.arange(30) % 3 == 0
    found, again = ranking(scores, labels, seed=7, resamples=200), np.random.default_rng(7)
    assert found is not None
    draws = [again.integers(0, 30, 30) for _ in range(200)]
    areas = [roc_auc_score(labels[d], scores[d]) for d in draws]
    precisions = [average_precision_score(labels[d], scores[d]) for d in draws]
    for interval, right in ((found.auroc, areas), (found.average_precision, precisions)):
        assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(right, [0.025, 0.975])))


def test_threshold_is_the_best_of_all() -> None:
    rng = np.random.default_rng(5)
    for _ in range(30):
        scores = np.round(rng.normal(size=15), 1)
        labels = np.append(rng.random(13) < 0.4, [True, False])

        def youden(cut: float, s: np.ndarray = scores, y: np.ndarray = labels) -> float:
            return float((s[y] >= cut).mean() - (s[~y] >= cut).mean())

        assert youden(best_threshold(scores, labels)) == pytest.approx(max(youden(cut) for cut in scores))
    assert best_threshold([3.0, 2.0, 0.0], [True, True, False]) == 1.0


def test_spearman() -> None:
    assert spearman([1, 2, 3], [10, 20, 15]) == pytest.approx(0.5)
    assert math.isnan(spearman([1, 1, 1], [1, 2, 3]))


def test_plain_is_json() -> None:
    held = {"a": Interval(0.5), "b": [np.float32(2), float("nan")], "c": (np.int64(3), None)}
    assert json.loads(json.dumps(plain(held), allow_nan=False)) == {
        "a": {"value": 0.5, "low": None, "high": None},
        "b": [2.0, None],
        "c": [3, None],
    }
