"""Scores against single targets: they wait in shards until all are there, and take turns."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from prism.errors import RunError
from prism.files import write_file_whole
from prism.methods.baselines.robin import round_robin
from prism.scoring.shards import Shard, ShardStore
from prism.scoring.table import SCHEMA

COLUMNS_AT_ONCE = 1 << 28  # bytes of the matrix that are held at a time
GROUPS = "groups"
SINGLE = pa.float32()
Singles = npt.NDArray[np.floating]


def matrix_schema(targets: int, kind: pa.DataType = SINGLE) -> pa.Schema:
    """The score table with a column of the scores against each of so many targets."""
    return SCHEMA.append(pa.field(GROUPS, pa.list_(pa.field("element", kind), targets)))


def with_matrix(table: pa.Table, scores: npt.NDArray[np.float64], kind: pa.DataType = SINGLE) -> pa.Table:
    """A score table with scores [rows, targets]."""
    targets = scores.shape[1]
    values = pa.array(scores.astype(kind.to_pandas_dtype()).ravel())
    column = pa.FixedSizeListArray.from_arrays(values, targets)
    return pa.table([*table.columns, column], schema=matrix_schema(targets, kind))


def matrix_of(table: pa.Table) -> Singles:
    """The scores [rows, targets] that a table of `matrix_schema` holds."""
    column = table.column(GROUPS)
    values: Singles = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return values.reshape(-1, column.type.list_size)


def take_turns(waiting: ShardStore, store: ShardStore, shards: int, targets: int) -> None:
    """Fill `store` with the shards that wait for their places in the round-robin order."""
    rows = sum(_found(waiting, number).table.num_rows for number in range(shards))
    places = round_robin(_columns(waiting, shards, rows, targets), rows)
    start = 0
    for number in range(shards):
        shard = _found(waiting, number)
        mine = places[start : start + shard.table.num_rows]
        start += len(mine)
        table = shard.table.drop_columns([GROUPS])
        table = table.set_column(SCHEMA.get_field_index("score"), SCHEMA.field("score"), pa.array(mine))
        store.put(number, Shard(table, shard.rejected, shard.notes))


def gather_matrix(path: Path, fingerprint: str, targets: Sequence[str], waiting: ShardStore, shards: int) -> None:
    """Write `groups.parquet`: `index`, `id` and `scores`, one float32 per target in the order of `targets`, which the
    file's metadata `prism.targets` names; one row group per shard."""
    columns: list[tuple[str, Any]] = [("index", pa.int64()), ("id", pa.string())]
    columns.append(("scores", pa.list_(pa.field("element", pa.float32()), len(targets))))
    schema = pa.schema(columns, metadata={"prism.fingerprint": fingerprint, "prism.targets": json.dumps(list(targets))})

    def write(file: IO[bytes]) -> None:
        options = {"use_dictionary": ["id"], "use_byte_stream_split": ["scores.list.element"]}
        with pq.ParquetWriter(file, schema, compression="zstd", write_page_checksum=True, **options) as writer:
            for number in range(shards):
                found = _found(waiting, number).table
                if len(found):
                    scores = found.column(GROUPS).cast(schema.field("scores").type)
                    table = pa.table([found.column("index"), found.column("id"), scores], schema=schema)
                    writer.write_table(table, row_group_size=len(table))

    write_file_whole(path, write)


def _columns(store: ShardStore, shards: int, rows: int, targets: int) -> Iterator[Singles]:
    """The scores [rows] against one target after another, read as many at once as the memory is meant to hold."""
    width = max(1, COLUMNS_AT_ONCE // (8 * max(rows, 1)))
    for first in range(0, targets, width):
        block = np.empty((min(width, targets - first), rows), matrix_of(_found(store, 0).table).dtype)
        start = 0
        for number in range(shards):
            part = matrix_of(_found(store, number).table)[:, first : first + width]
            block[:, start : start + len(part)] = part.T
            start += len(part)
        yield from block


def _found(store: ShardStore, number: int) -> Shard:
    shard = store.get(number)
    if shard is None:
        raise RunError("a shard that was just written can't be read back: is the disk sound?")
    return shard
