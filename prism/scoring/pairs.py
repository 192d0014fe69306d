"""The score matrix of a pool against its target pairs, in a file of its own."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from prism.errors import DataError, RunError
from prism.files import write_file_whole
from prism.scoring.shards import Shard, ShardStore

LEFT_OUT = "left_out"  # a shard's note: places, in its tile, of pairs that were too long for the memory
Floats = npt.NDArray[np.float64]


class PairScores:
    """Scores of every pool row against each side of each pair: columns `index`, `id`, `chosen` and `rejected`, the
    latter lists of one float32 per pair, in the order of `pairs` (their ids). One row group per shard.

    Raises:
        RunError: the file is missing, damaged, or of another run.
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        if not path.exists():
            raise RunError(f"there are no pair scores in {path.parent}: prism select --pair-scores adds them")
        try:
            self._file = pq.ParquetFile(path, page_checksum_verification=True)
            metadata = self._file.schema_arrow.metadata or {}
            self.pairs: list[str] = json.loads(metadata[b"prism.pairs"])
        except (OSError, KeyError, ValueError, pa.ArrowException) as error:
            raise RunError(
                f"the pair scores in {path.parent} can't be read ({error}): prism select --pair-scores makes them anew"
            ) from error
        if metadata[b"prism.fingerprint"] != fingerprint.encode():
            raise RunError(f"{path} is of another run than the folder that it lies in")
        self.path = path

    def weighted(self, weights: Floats, rejected: bool = True) -> Floats:
        """(1/|Q|) sum_q w_q (S+_q - S-_q), or of S+ alone, for every row [rows]; weights [Q]."""
        found = [np.empty(0)]
        for chosen, other in self.blocks():
            total = chosen @ weights
            found.append((total - other @ weights if rejected else total) / len(weights))
        return np.concatenate(found)

    def blocks(self) -> Iterator[tuple[Floats, Floats]]:
        """(S+, S-), each [rows, Q] and in the order of the pool, shard by shard."""
        for number in range(self._file.num_row_groups):
            try:
                group = self._file.read_row_group(number, columns=["chosen", "rejected"])
            except (OSError, pa.ArrowException) as error:
                raise RunError(
                    f"{self.path} is damaged: {error}. Delete it, and prism select makes it again"
                ) from error
            yield _matrix(group, "chosen"), _matrix(group, "rejected")


def gather(
    path: Path, fingerprint: str, pairs: Sequence[str], scores: ShardStore, tiles: Sequence[ShardStore], shards: int
) -> list[str]:
    """Write the file of `PairScores` from the shards of its tiles; `scores` knows the ids of the same rows. Returns the
    pairs that it leaves out, since they were too long for the memory.

    Raises:
        RunError: a shard that was just written can't be read back.
        DataError: all pairs were too long.
    """
    kept = np.concatenate([_fitting(store, shards) for store in tiles])
    if not kept.any():
        raise DataError("no target pair fits into the memory beside the directions: lower --direction-memory")
    names = [name for name, fits in zip(pairs, kept, strict=True) if fits]
    side = pa.list_(pa.field("element", pa.float32()), len(names))
    metadata = {"prism.fingerprint": fingerprint, "prism.pairs": json.dumps(names)}
    columns: list[tuple[str, Any]] = [("index", pa.int64()), ("id", pa.string()), ("chosen", side), ("rejected", side)]
    schema = pa.schema(columns, metadata=metadata)

    def write(file: IO[bytes]) -> None:
        floats = [f"{side}.list.element" for side in ("chosen", "rejected")]
        options = {"use_dictionary": ["id"], "use_byte_stream_split": floats, "write_page_checksum": True}
        with pq.ParquetWriter(file, schema, compression="zstd", **options) as writer:
            for number in range(shards):
                rows, *parts = (_found(store, number).table for store in (scores, *tiles))
                if any(not part.column("index").equals(rows.column("index")) for part in parts):
                    raise RunError("the rows of the pair scores are not those of the scores: did the pool change?")
                sides = (np.concatenate([_matrix(part, name) for part in parts], 1) for name in ("chosen", "rejected"))
                values = (s[:, kept].astype(np.float32).ravel() for s in sides)
                lists = [pa.FixedSizeListArray.from_arrays(v, len(names)) for v in values]
                table = pa.table([rows.column("index"), rows.column("id"), *lists], schema=schema)
                if len(table):
                    writer.write_table(table, row_group_size=len(table))

    write_file_whole(path, write)
    return [name for name in pairs if name not in names]


def _fitting(tile: ShardStore, shards: int) -> npt.NDArray[np.bool_]:
    """Which pairs of a tile all of its shards have scores of: [pairs]."""
    found = np.ones(0, dtype=bool)
    for number in range(shards):
        shard = _found(tile, number)
        if not len(found):
            found = np.ones(shard.table.schema.field("chosen").type.list_size, dtype=bool)
        found[list(shard.notes.get(LEFT_OUT, ()))] = False
    return found


def _found(store: ShardStore, number: int) -> Shard:
    shard = store.get(number)
    if shard is None:
        raise RunError("a shard of pair scores that was just written can't be read back: is the disk sound?")
    return shard


def _matrix(table: pa.Table, side: str) -> Floats:
    """A column of lists as [rows, width]."""
    column = table.column(side)
    values: Floats = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return values.reshape(-1, column.type.list_size).astype(np.float64)
