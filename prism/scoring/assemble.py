"""Shards in, the score table of a pool out."""

import math
from collections.abc import Sequence

import pyarrow as pa

from prism.data import Pool
from prism.errors import BadRow, DataError
from prism.scoring.shards import SHARD_ROWS, Shard, ShardStore
from prism.scoring.table import ScoreTable


def stored_scores(store: ShardStore, pool: Pool, *, good: int, read: int) -> ScoreTable | None:
    """The score table of a pool with `good` of `read` rows good where every shard of it is in `store`, else None."""
    shards = [shard for n in range(math.ceil(good / SHARD_ROWS)) if (shard := store.get(n)) is not None]
    if not shards or sum(shard.rows for shard in shards) != good:
        return None
    return assemble(shards, (), pool, {"engine": "stored", "reused": good, "good": good, "read": read})


def assemble(
    shards: Sequence[Shard], unreadable: Sequence[BadRow], pool: Pool, details: dict[str, object]
) -> ScoreTable:
    table = pa.concat_tables([s.table for s in shards])
    rejected = [*unreadable, *(row for s in shards for row in s.rejected)]
    if not table.num_rows:
        raise DataError(f"all {len(rejected)} rows of the pool were rejected; the first: {rejected[0]}")
    scores = ScoreTable(table.combine_chunks(), rejected, pool, details)
    broken = scores.column("flag") == "non-finite"
    if broken.all():
        raise DataError(
            f"none of the {len(broken)} scores is finite (the first is {scores.column('id')[0]}'s): "
            "are the model's weights NaN, or is --dtype too narrow?"
        )
    return scores
