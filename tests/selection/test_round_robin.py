"""Round-robin against the rule itself, turn by turn."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prism.errors import RunError
from prism.selection import select
from tests.selection.tables import make_gains, make_rows, make_scores

IDS = [f"{i:02}" for i in range(40)]


def by_hand(matrix: np.ndarray, ids: list[str], count: int, refused: set[str] = frozenset()) -> list[str]:  # type: ignore[assignment]
    """Each column takes its best remaining row in turn, ties by id."""
    chosen: list[str] = []
    left = {i for i in range(len(ids)) if ids[i] not in refused}
    while len(chosen) < count and left:
        column = matrix[:, len(chosen) % matrix.shape[1]]
        best = min(left, key=lambda i: (-column[i], ids[i]))
        left.remove(best)
        chosen.append(ids[best])
    return chosen


@pytest.fixture
def draws() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    return rng.integers(-3, 4, (40, 5)).astype(np.float32), rng.integers(-3, 4, (40, 5)).astype(np.float32)


@pytest.mark.parametrize("order", ["top", "bottom"])
@pytest.mark.parametrize("budget", [3, 17, 40])
def test_pairs_take_turns(order: Any, budget: int, draws: Any, tmp_path: Path) -> None:
    ids = random.Random(1).sample(IDS, 40)
    gains = make_gains(tmp_path, ids, *draws)
    scores = make_scores(make_rows(ids), [0.0] * 40)
    found = select(scores, budget=budget, strategy="round-robin", order=order, gains=lambda: gains)
    sign = 1 if order == "top" else -1
    assert found.ids == by_hand(sign * (draws[0] - draws[1]), ids, budget)
    assert bool(found.notices) == (budget == 3)


def test_subtasks_take_turns_with_their_weighted_mean(draws: Any, tmp_path: Path) -> None:
    weights, subtasks = [0.5, 1.0, 0.25, 2.0, 0.75], ["b", "a", "b", "c", "a"]
    gains = make_gains(tmp_path, IDS, *draws, weights=weights, subtasks=subtasks)
    found = select(
        make_scores(make_rows(IDS), [0.0] * 40), budget=20, strategy="round-robin", turns="subtask", gains=lambda: gains
    )
    weighted = (draws[0] - draws[1]) * weights
    columns = [weighted[:, [i for i, s in enumerate(subtasks) if s == name]].mean(1) for name in "abc"]
    assert found.ids == by_hand(np.stack(columns, 1).astype(np.float32), IDS, 20)
    assert found.details["groups"] == 3


def test_without_subtasks_it_is_the_file(draws: Any, tmp_path: Path) -> None:
    assert make_gains(tmp_path, IDS, *draws).subtasks == ["pairs"] * 5


def test_a_refused_row_costs_no_turn(draws: Any, tmp_path: Path) -> None:
    rows = make_rows(IDS)
    for copy in range(10, 20):  # says the same as an earlier one
        rows[copy]["completion"] = rows[copy - 10]["completion"]
    gains = make_gains(tmp_path, IDS, *draws)
    found = select(make_scores(rows, [0.0] * 40), budget=25, strategy="round-robin", gains=lambda: gains).ids
    chosen: list[str] = []
    matrix, left = draws[0] - draws[1], set(range(40))
    said: set[str] = set()
    while len(chosen) < 25:
        column = matrix[:, len(chosen) % 5]
        best = min(left, key=lambda i: (-column[i], IDS[i]))
        left.remove(best)
        if rows[best]["completion"] not in said:
            said.add(rows[best]["completion"])
            chosen.append(IDS[best])
    assert found == chosen


def test_tokens_and_broken_rows(tmp_path: Path) -> None:
    matrix = np.array([[5, 0], [4, 9], [np.nan, 8], [1, 7]], dtype=np.float32)
    gains = make_gains(tmp_path, list("abcd"), matrix, np.zeros((4, 2)))
    scores = make_scores(make_rows("abcd"), [1.0] * 4, tokens=[3, 5, 1, 2])
    assert select(scores, budget="5 tok", strategy="round-robin", gains=lambda: gains).ids == ["a", "d"]
    assert select(scores, budget="100%", strategy="round-robin", gains=lambda: gains).ids == ["a", "b", "d"]


def test_pair_scores_of_other_rows(draws: Any, tmp_path: Path) -> None:
    gains = make_gains(tmp_path, IDS, *draws)
    with pytest.raises(RunError, match="not of the 3 rows"):
        select(make_scores(make_rows("abc"), [1.0] * 3), budget=1, strategy="round-robin", gains=lambda: gains)
