"""Score shards: written whole or not at all, each with a checksum and the fingerprint of what made it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from prism.errors import BadRow
from prism.scoring.table import SCHEMA
from prism.sealed import seal, unseal

SHARD_ROWS = 512


@dataclass(frozen=True)
class Shard:
    """Scores of up to `shard_rows` consecutive pool rows, and those of them that could not be scored."""

    table: pa.Table
    rejected: list[BadRow]
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return int(self.table.num_rows) + len(self.rejected)


class ShardStore(Protocol):
    """Where finished shards are kept."""

    def get(self, number: int) -> Shard | None: ...

    def put(self, number: int, shard: Shard) -> None: ...


class Memory:
    """Keeps shards in memory: for scoring without a run folder."""

    def __init__(self) -> None:
        self._shards: dict[int, Shard] = {}

    def get(self, number: int) -> Shard | None:
        return self._shards.get(number)

    def put(self, number: int, shard: Shard) -> None:
        self._shards[number] = shard


class Folder:
    """One Parquet file per shard, named by its number."""

    def __init__(self, path: Path, fingerprint: str, schema: pa.Schema = SCHEMA) -> None:
        self._path, self._fingerprint, self._schema = path, fingerprint, schema

    def get(self, number: int) -> Shard | None:
        """The shard, or None where it is missing, damaged, or was made by something else."""
        found = unseal(self._file(number), self._schema, self._fingerprint)
        return None if found is None else Shard(*found)

    def put(self, number: int, shard: Shard) -> None:
        self._path.mkdir(parents=True, exist_ok=True)
        seal(self._file(number), shard.table, shard.rejected, self._fingerprint, notes=shard.notes)

    def _file(self, number: int) -> Path:
        return self._path / f"shard-{number:06d}.parquet"
