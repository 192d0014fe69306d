"""One table out of many shards."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from prism.data import Pool, load_pool
from prism.errors import BadRow, DataError, RunError
from prism.scoring import Folder, Shard, ShardStore, quantiles, repeated_values, stored_scores
from prism.scoring.assemble import TOGETHER, assemble
from prism.scoring.shards import Memory
from prism.scoring.table import SCHEMA

SHARDS = TOGETHER + 3


def shard(number: int, rows: int = 2, flag: str = "ok") -> Shard:
    first = 3 * number
    columns: dict[str, list[Any]] = {
        "index": list(range(first, first + rows)),
        "id": [f"r{first + i}" for i in range(rows)],
        "score": [float(first + i) for i in range(rows)],
        "loss": [1.0] * rows,
        "tokens": [9] * rows,
        "response_tokens": [3] * rows,
        "gradient_norm": [None] * rows,
        "source": [f"s{number % 3}" for _ in range(rows)],
        "content": [(1 << 64) - 1 - first - i for i in range(rows)],
        "flag": [flag] * rows,
    }
    return Shard(pa.table(columns, schema=SCHEMA), [BadRow("p.jsonl", first + 2, "bad", None)])


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ShardStore:
    store = Folder(tmp_path / "scores", "f") if request.param == "folder" else Memory()
    for number in range(SHARDS):
        store.put(number, shard(number))
    return store


@pytest.fixture
def pool() -> Pool:
    return load_pool([{"prompt": "q", "completion": "a"}, {}])


def test_columns_of_all_shards(store: ShardStore, pool: Pool) -> None:
    scores = assemble(store, SHARDS, pool, {})
    expected = [3 * n + i for n in range(SHARDS) for i in range(2)]
    assert scores.column("index").tolist() == expected
    assert scores.ids([1, 0, -1 % len(scores)]) == ["r1", "r0", f"r{expected[-1]}"]
    assert scores.column("source").tolist() == [f"s{n % 3}" for n in range(SHARDS) for _ in range(2)]
    assert scores.column("content").dtype == np.uint64 and scores.column("content")[0] == (1 << 64) - 1
    assert np.isnan(scores.column("gradient_norm")).all()
    codes, names = scores.codes("source")
    assert sorted(names) == ["s0", "s1", "s2"] and [names[c] for c in codes] == scores.column("source").tolist()
    assert scores.table.column("id").num_chunks < 5
    assert list(scores.to_pandas().columns) == SCHEMA.names


def test_rows_set_aside_come_after_those_of_the_pool(store: ShardStore, pool: Pool) -> None:
    rejected = assemble(store, SHARDS, pool, {}).rejected
    assert [row.line for row in rejected] == [2, *(3 * n + 2 for n in range(SHARDS))]


def test_flags(pool: Pool) -> None:
    store = Memory()
    for number, flag in enumerate(("ok", "truncated", "non-finite", "ok")):
        store.put(number, shard(number, flag=flag))
    scores = assemble(store, 4, pool, {})
    assert np.flatnonzero(scores.flagged("truncated")).tolist() == [2, 3]
    assert np.flatnonzero(scores.flagged("non-finite")).tolist() == [4, 5]
    assert not scores.flagged("unheard of").any()
    for number in range(4):
        store.put(number, shard(number, flag="non-finite"))
    with pytest.raises(DataError, match="none of the 8 scores is finite \\(the first is r0's\\)"):
        assemble(store, 4, pool, {})


def test_a_shard_that_is_gone(store: ShardStore, pool: Pool) -> None:
    with pytest.raises(RunError, match="can't be read back"):
        assemble(store, SHARDS + 1, pool, {})


def test_stored_scores_are_whole_or_nothing(tmp_path: Path, pool: Pool) -> None:
    store = Folder(tmp_path / "scores", "f")
    store.put(0, shard(0, rows=511))
    store.put(1, shard(1, rows=3))
    found = stored_scores(store, pool, good=516, read=517)
    assert found is not None and len(found) == 514 and found.details["reused"] == 516
    assert stored_scores(store, pool, good=515, read=517) is None
    assert stored_scores(store, pool, good=1025, read=1030) is None
    assert stored_scores(Folder(tmp_path / "scores", "g"), pool, good=516, read=517) is None


def test_no_row_left(pool: Pool) -> None:
    store = Memory()
    store.put(0, shard(0, rows=0))
    with pytest.raises(DataError, match="all 2 rows of the pool were rejected"):
        assemble(store, 1, pool, {})


def test_quantiles_of_finite_values() -> None:
    values = np.array([3.0, np.nan, 1.0, np.inf, 2.0])
    assert quantiles(values, (0, 0.5, 1)) == {"min": 1, "median": 2, "max": 3}
    assert values[0] == 3.0 and quantiles(np.array([np.nan])) == {}


@pytest.mark.parametrize(
    ("values", "expected"), [([], []), ([1], []), ([2, 1, 2], [2]), ([3, 1, 3, 1, 3, 2], [1, 3]), ([5] * 4, [5])]
)
def test_repeated_values(values: list[int], expected: list[int]) -> None:
    assert repeated_values(np.array(values, dtype=np.uint64)).tolist() == expected
