"""Shards in, the score table of a pool out."""

import math
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from prism.data import BadRows, Pool
from prism.errors import DataError, RunError
from prism.scoring.notes import Notes
from prism.scoring.shards import SHARD_ROWS, ShardStore
from prism.scoring.table import SCHEMA, ScoreTable

TOGETHER = 64  # shards that make one chunk of the table


def stored_scores(store: ShardStore, pool: Pool, *, good: int, read: int) -> ScoreTable | None:
    """The score table of a pool with `good` of `read` rows good where every shard of it is in `store`, else None."""
    rejected, notes = BadRows(), Notes()
    table = _gather(store, math.ceil(good / SHARD_ROWS), rejected, notes)
    if table is None or table.num_rows + len(rejected) != good:
        return None
    return _checked(table, rejected, pool, {**notes.told(), "reused": good, "good": good, "read": read})


def assemble(store: ShardStore, shards: int, pool: Pool, details: Mapping[str, Any]) -> ScoreTable:
    """The score table of a pool whose `shards` shards are all in `store`; its details gain the engine and its error."""
    rejected, notes = BadRows(pool.rejected), Notes()
    table = _gather(store, shards, rejected, notes)
    if table is None:
        raise RunError("a shard that was just written can't be read back: is the disk sound?")
    return _checked(table, rejected, pool, {**notes.told(), **details})


def _gather(store: ShardStore, shards: int, rejected: BadRows, notes: Notes) -> pa.Table | None:
    """One table of all shards, or None where one is missing; adds what they set aside to `rejected`."""
    chunks, fresh = [SCHEMA.empty_table()], []
    for number in range(shards):
        shard = store.get(number)
        if shard is None:
            return None
        fresh.append(shard.table)
        rejected.extend(shard.rejected)
        notes.add(shard.notes)
        if len(fresh) == TOGETHER or number == shards - 1:
            chunks.append(pa.concat_tables(fresh).unify_dictionaries().combine_chunks())
            fresh = []
    table = pa.concat_tables(chunks).unify_dictionaries()
    pa.default_memory_pool().release_unused()
    return table


def _checked(table: pa.Table, rejected: BadRows, pool: Pool, details: Mapping[str, Any]) -> ScoreTable:
    if not table.num_rows:
        raise DataError(f"all {len(rejected)} rows of the pool were rejected; the first: {rejected[0]}")
    scores = ScoreTable(table, rejected, pool, details)
    if scores.flagged("too-long").all():
        shortest = scores.column("tokens").min()
        raise DataError(
            f"none of the {len(scores)} samples fits into the memory, not even one of {shortest} tokens alone: "
            "lower --max-length, or choose a narrower --dtype or fewer --parameters"
        )
    if (scores.flagged("non-finite") | scores.flagged("too-long")).all():
        raise DataError(
            f"none of the {len(scores)} scores is finite (the first is {scores.ids([0])[0]}'s): "
            "are the model's weights NaN, or is --dtype too narrow?"
        )
    return scores
