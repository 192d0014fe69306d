"""Score shards: written whole or not at all, each with a checksum and the fingerprint of what made it."""

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from prism.errors import BadRow
from prism.files import write_whole
from prism.scoring.table import SCHEMA


@dataclass(frozen=True)
class Shard:
    """Scores of up to `shard_rows` consecutive pool rows, and those of them that could not be scored."""

    table: pa.Table
    rejected: list[BadRow]

    @property
    def rows(self) -> int:
        return int(self.table.num_rows) + len(self.rejected)


class ShardStore(Protocol):
    """Where finished shards are kept."""

    def get(self, number: int) -> Shard | None: ...

    def put(self, number: int, shard: Shard) -> None: ...


class Memory:
    """Keeps nothing: for scoring without a run folder."""

    def get(self, number: int) -> Shard | None:
        return None

    def put(self, number: int, shard: Shard) -> None: ...


class Folder:
    """One Parquet file per shard, named by its number."""

    def __init__(self, path: Path, fingerprint: str) -> None:
        self._path, self._fingerprint = path, fingerprint

    def get(self, number: int) -> Shard | None:
        """The shard, or None where it is missing, damaged, or was made by something else."""
        try:
            table = pq.read_table(self._file(number))
        except (OSError, pa.ArrowException):
            return None
        metadata = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
        bare = table.replace_schema_metadata(None)
        if metadata.get("prism.fingerprint") != self._fingerprint or not bare.schema.equals(SCHEMA):
            return None
        if metadata.get("prism.checksum") != _checksum(bare, metadata.get("prism.rejected", "")):
            return None
        return Shard(bare, [BadRow(**row) for row in json.loads(metadata["prism.rejected"])])

    def put(self, number: int, shard: Shard) -> None:
        rejected = json.dumps([row.as_json() for row in shard.rejected])
        metadata = {
            "prism.fingerprint": self._fingerprint,
            "prism.checksum": _checksum(shard.table, rejected),
            "prism.rejected": rejected,
        }
        buffer = io.BytesIO()
        pq.write_table(shard.table.replace_schema_metadata(metadata), buffer, compression="zstd")
        self._path.mkdir(exist_ok=True)
        write_whole(self._file(number), buffer.getvalue())

    def _file(self, number: int) -> Path:
        return self._path / f"shard-{number:06d}.parquet"


def _checksum(table: pa.Table, rejected: str) -> str:
    digest = hashlib.sha256(rejected.encode())
    for column in table.combine_chunks().itercolumns():
        digest.update(json.dumps(column.to_pylist()).encode())
    return digest.hexdigest()
