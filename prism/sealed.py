"""Parquet tables that know what made them: written whole, with a fingerprint, a checksum and the rows set aside."""

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from prism.errors import BadRow
from prism.files import write_whole


def seal(path: Path, table: pa.Table, rejected: Sequence[BadRow], fingerprint: str, beside: str = "") -> None:
    """Write `table`; `beside` is the digest of what belongs with it."""
    set_aside = json.dumps([row.as_json() for row in rejected])
    metadata = {
        "prism.fingerprint": fingerprint,
        "prism.checksum": _checksum(table, set_aside, beside),
        "prism.rejected": set_aside,
    }
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(metadata), buffer, compression="zstd")
    write_whole(path, buffer.getvalue())


def unseal(path: Path, schema: pa.Schema, fingerprint: str, beside: str = "") -> tuple[pa.Table, list[BadRow]] | None:
    """The table and the rows set aside, or None where the file is missing, damaged, or was made by something else."""
    try:
        table = pq.read_table(path)
        metadata = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
    except (OSError, pa.ArrowException, UnicodeDecodeError):
        return None
    bare = table.replace_schema_metadata(None)
    if metadata.get("prism.fingerprint") != fingerprint or not bare.schema.equals(schema):
        return None
    if metadata.get("prism.checksum") != _checksum(bare, metadata.get("prism.rejected", ""), beside):
        return None
    return bare, [BadRow(**row) for row in json.loads(metadata["prism.rejected"])]


def _checksum(table: pa.Table, rejected: str, beside: str) -> str:
    digest = hashlib.sha256(json.dumps([rejected, beside]).encode())
    for column in table.combine_chunks().itercolumns():
        digest.update(json.dumps(column.to_pylist()).encode())
    return digest.hexdigest()
