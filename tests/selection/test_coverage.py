"""Lazy greedy coverage against the plain greedy, and both against the best set of all."""

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prism.errors import ConfigError, DataError
from prism.selection import coverage, select
from tests.selection.tables import make_gains, make_rows, make_scores


def objective(matrix: np.ndarray, margins: np.ndarray, step: float, places: Any) -> float:
    """F(S) = mean_q log sigmoid(m_q + eta sum_{z in S} G_zq), in float64."""
    m = margins + step * matrix[list(places)].astype(np.float64).sum(0)
    return float(np.mean(-np.log1p(np.exp(-m))))


def plain_greedy(
    matrix: np.ndarray, margins: np.ndarray, step: float, count: int, costs: np.ndarray | None = None, budget: int = 0
) -> list[int]:
    chosen: list[int] = []
    spent = 0
    while len(chosen) < count:
        now = objective(matrix, margins, step, chosen)
        gains = {}
        for i in set(range(len(matrix))) - set(chosen):
            if costs is None or spent + costs[i] <= budget:
                gain = objective(matrix, margins, step, [*chosen, i]) - now
                gains[i] = gain / (1 if costs is None else costs[i])
        if not gains or max(gains.values()) <= 0:
            break
        best = max(gains, key=lambda i: gains[i])
        chosen.append(best)
        spent += 0 if costs is None else costs[best]
    return chosen


def draw(seed: int, rows: int, pairs: int) -> tuple[np.ndarray, np.ndarray, list[float]]:
    rng = np.random.default_rng(seed)
    chosen, rejected = rng.normal(0.1, 1, (rows, pairs)), rng.normal(-0.1, 1, (rows, pairs))
    return chosen.astype(np.float32), rejected.astype(np.float32), rng.normal(0, 1, pairs).tolist()


@pytest.mark.parametrize("listed", [4, 4096])
@pytest.mark.parametrize("step", [0.01, 0.3, 1.5])
@pytest.mark.parametrize("seed", range(3))
def test_every_pick_is_the_plain_greedys(
    seed: int, step: float, listed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coverage, "LISTED", listed)
    monkeypatch.setattr(coverage, "TRIED", 2)
    ids = [f"{i:02}" for i in range(60)]
    plus, minus, margins = draw(seed, 60, 7)
    gains = make_gains(tmp_path, ids, plus, minus, margins=margins)
    scores = make_scores(make_rows(ids), [0.0] * 60)
    found = select(scores, budget=30, strategy="coverage", coverage_step=step, gains=lambda: gains)
    right = plain_greedy(plus - minus, np.array(margins), step, 30)
    assert found.places.tolist() == right
    assert found.details["log_preference"] == pytest.approx(objective(plus - minus, np.array(margins), step, []))
    assert found.details["predicted_log_preference"] == pytest.approx(
        objective(plus - minus, np.array(margins), step, right)
    )


@pytest.mark.parametrize("seed", range(6))
def test_near_the_best_set_of_all(seed: int, tmp_path: Path) -> None:
    plus, minus, margins = draw(seed, 10, 4)
    gains = make_gains(tmp_path, list("abcdefghij"), plus, minus, margins=margins)
    scores = make_scores(make_rows("abcdefghij"), [0.0] * 10)
    found = select(scores, budget=4, strategy="coverage", coverage_step=0.3, gains=lambda: gains)
    start = objective(plus - minus, np.array(margins), 0.3, [])
    reached = objective(plus - minus, np.array(margins), 0.3, found.places)
    best = max(objective(plus - minus, np.array(margins), 0.3, s) for n in range(5) for s in combinations(range(10), n))
    assert reached <= best + 1e-12
    assert reached - start >= (1 - 1 / np.e) * (best - start)


def test_tokens_are_weighed_and_kept_to(tmp_path: Path) -> None:
    ids = [f"{i:02}" for i in range(40)]
    plus, minus, margins = draw(5, 40, 6)
    costs = np.random.default_rng(1).integers(1, 12, 40)
    gains = make_gains(tmp_path, ids, plus, minus, margins=margins)
    scores = make_scores(make_rows(ids), [0.0] * 40, tokens=costs.tolist())
    found = select(scores, budget="60 tok", strategy="coverage", coverage_step=0.2, gains=lambda: gains)
    assert found.places.tolist() == plain_greedy(plus - minus, np.array(margins), 0.2, 40, costs, 60)
    assert costs[found.places].sum() <= 60


def test_a_satisfied_pair_stops_attracting(tmp_path: Path) -> None:
    """Three rows serve the first pair well, one serves the second a little: by score it would come last."""
    matrix = np.array([[3, 0], [2.9, 0], [2.8, 0], [0, 1]])
    gains = make_gains(tmp_path, list("abcd"), matrix, np.zeros((4, 2)))
    scores = make_scores(make_rows("abcd"), matrix.mean(1).tolist())
    assert select(scores, budget=2).ids == ["a", "b"]
    assert select(scores, budget=2, strategy="coverage", coverage_step=1, gains=lambda: gains).ids == ["a", "d"]


def test_the_step_moves_margins_by_one_nat_whatever_the_scale(tmp_path: Path) -> None:
    ids = [f"{i:02}" for i in range(30)]
    plus, minus, margins = draw(2, 30, 5)
    values = (plus - minus).mean(1)
    picks = []
    for scale in (1, 1000):
        gains = make_gains(tmp_path, ids, scale * plus, scale * minus, margins=margins)
        scores = make_scores(make_rows(ids), (scale * values).tolist())
        found = select(scores, budget=6, strategy="coverage", gains=lambda: gains)  # noqa: B023
        top = select(scores, budget=6).places
        moved = found.details["step"] * scale * (plus - minus)[top].astype(np.float64).sum(0)
        assert np.abs(moved).mean() == pytest.approx(1, rel=1e-5)
        picks.append(found.ids)
    assert picks[0] == picks[1]


def test_it_ends_where_nothing_helps(tmp_path: Path) -> None:
    matrix = np.array([[1.0], [-1], [0]])
    gains = make_gains(tmp_path, list("abc"), matrix, np.zeros((3, 1)))
    found = select(
        make_scores(make_rows("abc"), [1.0, -1, 0]), budget=3, strategy="coverage", coverage_step=1, gains=lambda: gains
    )
    assert found.ids == ["a"]
    assert "no other row raises the predicted log preference of the target" in found.notices


def test_many_ties_go_by_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coverage, "LISTED", 4)
    ids = [f"{(7 * i) % 50:02}" for i in range(50)]
    gains = make_gains(tmp_path, ids, np.ones((50, 3)), np.zeros((50, 3)), margins=[0, 1, -1])
    found = select(make_scores(make_rows(ids), [0.0] * 50), budget=20, strategy="coverage", gains=lambda: gains)
    assert found.ids == sorted(ids)[:20]


def test_duplicates_and_caps_hold(tmp_path: Path) -> None:
    rows = [*make_rows("ab", source="web"), *make_rows("cd", source="book"), {**make_rows("a")[0], "id": "z"}]
    matrix = np.array([[4.0], [3], [2], [1], [4]])
    gains = make_gains(tmp_path, list("abcdz"), matrix, np.zeros((5, 1)))
    found = select(
        make_scores(rows, [4.0, 3, 2, 1, 4]), budget=4, strategy="coverage", cap_per_source=1, gains=lambda: gains
    )
    assert found.ids == ["a", "c"]


def test_no_bottom_and_nothing_to_cover(tmp_path: Path) -> None:
    gains = make_gains(tmp_path, list("ab"), np.zeros((2, 1)), np.zeros((2, 1)))
    scores = make_scores(make_rows("ab"), [0.0, 0])
    with pytest.raises(ConfigError, match="has no bottom"):
        select(scores, budget=1, strategy="coverage", order="bottom", gains=lambda: gains)
    with pytest.raises(DataError, match="change no pair's margin"):
        select(scores, budget=1, strategy="coverage", gains=lambda: gains)
