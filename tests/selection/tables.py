"""Score tables made by hand, over real pools."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from prism.data import Pool, load_pool
from prism.scoring import PairScores, ScoreTable
from prism.scoring.table import SCHEMA
from prism.selection import PairGains
from tests.conftest import Rows


def make_scores(
    rows: Rows | Any,
    values: Sequence[float],
    *,
    tokens: Sequence[int] | None = None,
    flags: dict[int, str] | None = None,
) -> ScoreTable:
    """The table of `rows` (or of a place that holds them) with one score each; flags by place, else `ok`."""
    pool: Pool = load_pool(rows)
    found = list(pool)
    assert len(found) == len(values)
    columns: dict[str, list[Any]] = {
        "index": [r.index for r in found],
        "id": [r.id for r in found],
        "score": [float(v) for v in values],
        "loss": [1.0] * len(found),
        "tokens": [9] * len(found),
        "response_tokens": list(tokens or [3] * len(found)),
        "gradient_norm": [None] * len(found),
        "source": [r.source for r in found],
        "content": [int(r.content, 16) for r in found],
        "flag": [(flags or {}).get(i, "ok" if np.isfinite(values[i]) else "non-finite") for i in range(len(found))],
    }
    return ScoreTable(pa.table(columns, schema=SCHEMA), pool.rejected, pool)


def make_rows(ids: Iterable[str], **fields: Any) -> Rows:
    """One row for each id (or letter of a word), which is also what it says."""
    return [{"id": i, "prompt": "q", "completion": f"says {i}", **fields} for i in ids]


def make_gains(
    folder: Path,
    ids: Sequence[str],
    chosen: npt.ArrayLike,
    rejected: npt.ArrayLike,
    *,
    margins: Sequence[float] | None = None,
    weights: Sequence[float] | None = None,
    subtasks: Sequence[str] | None = None,
    group: int = 3,
) -> PairGains:
    """Pair scores [rows, pairs] as a run leaves them, in row groups of `group` rows, with a target table to them."""
    sides = [np.asarray(side, dtype=np.float32) for side in (chosen, rejected)]
    width = sides[0].shape[1]
    names = [f"q{i}" for i in range(width)]
    kind = pa.list_(pa.field("element", pa.float32()), width)
    lists = [pa.FixedSizeListArray.from_arrays(side.ravel(), width).cast(kind) for side in sides]
    metadata = {"prism.fingerprint": "f", "prism.pairs": json.dumps(names)}
    table = pa.table({"index": range(len(ids)), "id": list(ids), "chosen": lists[0], "rejected": lists[1]})
    pq.write_table(table.replace_schema_metadata(metadata), folder / "pairs.parquet", row_group_size=group)
    target = {
        "id": names,
        "loss_chosen": [1.0] * width,
        "loss_rejected": [1.0 + m for m in (margins or [0.0] * width)],
        "weight": list(weights or [1.0] * width),
        "file": ["pairs.jsonl"] * width,
    }
    if subtasks is not None:
        target["subtask"] = list(subtasks)
    return PairGains.of(PairScores(folder / "pairs.parquet", "f"), pa.table(target))
