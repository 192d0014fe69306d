"""Score per token against the best knapsack, found by trying every set of rows."""

import random
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from prism.errors import ConfigError, DataError
from prism.selection import STRATEGIES, select
from tests.selection.tables import make_rows, make_scores


def best_sum(values: list[float], costs: list[int], budget: int) -> float:
    """The highest sum of values of rows whose costs fit, over all sets of rows."""
    places = range(len(values))
    fitting = (s for n in places for s in combinations(places, n + 1) if sum(costs[i] for i in s) <= budget)
    return max((sum(values[i] for i in s) for s in fitting), default=0.0)


@pytest.mark.parametrize("order", ["top", "bottom"])
@pytest.mark.parametrize("seed", range(12))
def test_per_token_is_within_the_first_row_that_did_not_fit(seed: int, order: str) -> None:
    draw = random.Random(seed)
    values = [draw.gauss(0.3, 1) for _ in range(11)]
    costs = [draw.randint(1, 9) for _ in values]
    budget = draw.randint(10, 30)
    sign = 1 if order == "top" else -1
    scores = make_scores(make_rows("abcdefghijk"), [sign * v for v in values], tokens=costs)
    selection = select(scores, budget=f"{budget} tok", strategy="per-token", order=order)  # type: ignore[arg-type]
    found = sum(values[i] for i in selection.places)
    best = best_sum(values, costs, budget)
    order_ = sorted((i for i in range(11) if values[i] > 0), key=lambda i: -values[i] / costs[i])
    spent, split = 0, 0.0
    for i in order_:
        spent += costs[i]
        if spent > budget:
            split = values[i]
            break
    assert best - split - 1e-12 <= found <= best + 1e-12
    assert sum(costs[i] for i in selection.places) <= budget
    assert split or found == pytest.approx(best)


def test_per_token_beats_top_where_long_rows_score_high() -> None:
    scores = make_scores(make_rows("abcd"), [10.0, 6, 6, 5], tokens=[10, 3, 3, 3])
    assert select(scores, budget="10 tok").ids == ["a"]
    assert select(scores, budget="10 tok", strategy="per-token").ids == ["b", "c", "d"]


def test_per_token_passes_over_what_no_longer_fits() -> None:
    scores = make_scores(make_rows("abc"), [9.0, 8, 1], tokens=[3, 8, 2])
    assert select(scores, budget="5 tok", strategy="per-token").ids == ["a", "c"]


def test_per_token_takes_no_row_that_adds_nothing_and_says_so() -> None:
    scores = make_scores(make_rows("abcd"), [1.0, 0, -1, 2], tokens=[4, 1, 1, 4])
    selection = select(scores, budget="100%", strategy="per-token")
    assert selection.ids == ["d", "a"]
    assert any("the 2 rows whose score is not above zero" in notice for notice in selection.notices)
    with pytest.raises(DataError, match=r"no score is above zero.*choose --strategy top"):
        select(make_scores(make_rows("a"), [-1.0]), budget=1, strategy="per-token")


def test_ties_go_by_id_however_the_rows_lie() -> None:
    rows = make_rows("gfedcba")
    scores = make_scores(rows, [2.0, 4, 2, 1, 4, 2, 1], tokens=[2, 4, 2, 1, 4, 2, 1])
    assert "".join(select(scores, budget="100%", strategy="per-token").ids) == "abcdefg"


def test_rules_hold_for_every_strategy_that_needs_no_pairs() -> None:
    rows = [*make_rows("abc", source="web"), *make_rows("de", source="book"), {**make_rows("a")[0], "id": "z"}]
    scores = make_scores(rows, [9.0, 8, 7, 6, 5, 9])
    options: dict[str, Any] = {"budget": "100%", "cap_per_source": 2}
    assert select(scores, strategy="top", **options).ids == ["a", "b", "d", "e"]
    assert select(scores, strategy="per-token", **options).ids == ["a", "b", "d", "e"]


def test_an_unknown_strategy() -> None:
    with pytest.raises(ConfigError, match="known are top, per-token, round-robin, coverage"):
        select(make_scores(make_rows("a"), [1.0]), budget=1, strategy="best")


@pytest.mark.parametrize("strategy", ["round-robin", "coverage"])
def test_without_pair_scores(strategy: str) -> None:
    assert strategy in STRATEGIES
    with pytest.raises(ConfigError, match="--pair-scores"):
        select(make_scores(make_rows("a"), [1.0]), budget=1, strategy=strategy)


def test_details_name_the_strategy_and_what_was_refused() -> None:
    rows = [*make_rows("ab"), {**make_rows("a")[0], "id": "z"}]
    details = select(make_scores(rows, np.ones(3).tolist()), budget="100%").details
    assert details == {"strategy": "top", "refused": {"duplicates": 1}}
