import numpy as np
import pytest

from prism.evaluation.bootstrap import mean_figures, resampled_sums


def test_the_interval_is_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(1).gamma(2.0, 3.0, 40)
    found = mean_figures({"x": values}, 20000, 5)["x"]
    wanted = stats.bootstrap((values,), np.mean, n_resamples=20000, method="percentile", rng=2).confidence_interval
    assert found["value"] == pytest.approx(values.mean(), rel=1e-12)
    assert found["low"] == pytest.approx(wanted.low, abs=0.05) and found["high"] == pytest.approx(wanted.high, abs=0.05)


def test_it_covers_the_true_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    trials, covered = 400, 0
    for trial in range(trials):
        found = mean_figures({"x": rng.beta(2, 3, 60)}, 300, trial)["x"]
        assert found["low"] is not None and found["high"] is not None
        covered += found["low"] <= 0.4 <= found["high"]
    assert 0.90 < covered / trials < 0.98  # 95 %, give or take three standard errors and the bootstrap's own optimism


def test_the_seed_counts_and_columns_share_their_draws() -> None:
    values = np.random.default_rng(0).normal(size=(30, 1))
    twice = np.hstack([values, 2 * values])
    sums = resampled_sums(twice, 50, 7)
    np.testing.assert_allclose(sums[:, 1], 2 * sums[:, 0])
    np.testing.assert_array_equal(sums, resampled_sums(twice, 50, 7))
    assert not np.array_equal(sums, resampled_sums(twice, 50, 8))


def test_too_little_for_an_interval() -> None:
    one = mean_figures({"x": np.array([0.5])}, 100, 0)["x"]
    assert one == {"value": 0.5, "low": None, "high": None}
    assert mean_figures({"x": np.array([])}, 100, 0)["x"] == {"value": None, "low": None, "high": None}
