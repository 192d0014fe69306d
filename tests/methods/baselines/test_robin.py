"""Round-robin against the loop that it stands for."""

from typing import Any

import numpy as np
import pytest

from prism.methods.baselines import matrix
from prism.methods.baselines.matrix import matrix_schema, take_turns, with_matrix
from prism.methods.baselines.robin import round_robin
from prism.scoring.shards import Memory, Shard
from prism.scoring.table import SCHEMA

Floats = Any


def by_loop(scores: Floats) -> list[int]:
    """Rows in the order in which targets take them, each naming its next best in turn."""
    queues = []
    for column in scores.T:
        finite = [i for i in range(len(column)) if np.isfinite(column[i])]
        queues.append([i for _, i in sorted((-column[i], i) for i in finite)])
    taken: list[int] = []
    while any(queues):
        for queue in queues:
            if queue:
                row = queue.pop(0)
                if row not in taken:
                    taken.append(row)
    return taken


@pytest.mark.parametrize("targets", [1, 2, 5])
@pytest.mark.parametrize("seed", range(4))
def test_round_robin_is_the_loop(targets: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = np.round(rng.normal(size=(40, targets)), 1)  # with ties
    scores[:, -1] = scores[:, 0] if seed == 1 else scores[:, -1]  # two targets that agree
    scores[3] = np.nan
    scores[rng.integers(40), 0] = np.nan
    found = round_robin(iter(scores.T), 40)
    order = by_loop(scores)
    assert [int(-p) - 1 for p in found[order]] == list(range(len(order)))
    assert np.isnan(np.delete(found, order)).all() and np.isnan(found[3])


def test_no_target_at_all_leaves_no_score() -> None:
    assert np.isnan(round_robin(iter([]), 3)).all()
    assert len(round_robin(iter([np.empty(0)]), 0)) == 0


@pytest.mark.parametrize("together", [1, 4 * 7 * 2, 1 << 20])
def test_turns_are_taken_over_shards_and_blocks_of_targets(monkeypatch: pytest.MonkeyPatch, together: int) -> None:
    monkeypatch.setattr(matrix, "COLUMNS_AT_ONCE", together)
    scores = np.random.default_rng(0).normal(size=(7, 5))
    waiting, store = Memory(), Memory()
    for number, rows in enumerate((slice(0, 3), slice(3, 3), slice(3, 7))):
        count = len(scores[rows])
        blank = {f.name: np.zeros(count) if f.name == "score" else [None] * count for f in SCHEMA}
        table = SCHEMA.empty_table().from_pydict(blank, schema=SCHEMA)
        found = with_matrix(table, scores[rows])
        assert found.schema.equals(matrix_schema(5))
        waiting.put(number, Shard(found, []))
    take_turns(waiting, store, 3, 5)
    shards = [store.get(n) for n in range(3)]
    places = np.concatenate([s.table.column("score").to_numpy() for s in shards if s])
    assert np.array_equal(places, round_robin(iter(scores.T), 7))
    assert all(s and s.table.schema.equals(SCHEMA) for s in shards)
