"""Score tables made by hand, over real pools."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from prism.data import Pool, load_pool
from prism.scoring import ScoreTable
from prism.scoring.table import SCHEMA
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
