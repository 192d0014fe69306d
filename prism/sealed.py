"""Parquet tables that know what made them: written whole, with a fingerprint, a checksum and the rows set aside."""

import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import types

from prism.errors import BadRow
from prism.files import write_whole

CHECKSUM = re.compile(rb"[0-9a-f]{64}")
BLANK = b"-" * 64  # where the checksum of a file will stand, while it is taken


def seal(
    path: Path,
    table: pa.Table,
    rejected: Sequence[BadRow],
    fingerprint: str,
    beside: str = "",
    notes: Mapping[str, Any] | None = None,
) -> None:
    """Write `table`; `beside` is the digest of what belongs with it, `notes` say how it came about."""
    metadata = {
        "prism.fingerprint": fingerprint,
        "prism.rejected": json.dumps([row.as_json() for row in rejected]),
        "prism.notes": json.dumps(dict(notes or {})),
        "prism.checksum": BLANK,
    }
    buffer = io.BytesIO()
    pq.write_table(
        table.replace_schema_metadata(metadata),
        buffer,
        compression="zstd",
        use_dictionary=[f.name for f in table.schema if types.is_string(f.type) or types.is_dictionary(f.type)],
        use_byte_stream_split=[path for f in table.schema for path in _floats(f)],
    )
    blank = buffer.getvalue()
    write_whole(path, _with(_checksum(blank, beside), blank, BLANK))


def unseal(
    path: Path, schema: pa.Schema, fingerprint: str, beside: str = ""
) -> tuple[pa.Table, list[BadRow], dict[str, Any]] | None:
    """The table, the rows set aside, the notes; None where the file is missing, damaged or made by something else."""
    try:
        raw = path.read_bytes()
    except OSError:
        return None
    found = CHECKSUM.search(raw, max(0, raw.rfind(b"prism.checksum")))
    if found is None or _checksum(_with(BLANK, raw, found[0]), beside) != found[0]:
        return None
    table = pq.ParquetFile(pa.BufferReader(raw)).read(use_threads=False)
    metadata, bare = table.schema.metadata, table.replace_schema_metadata(None)
    if metadata[b"prism.fingerprint"] != fingerprint.encode() or not bare.schema.equals(schema):
        return None
    rejected = [BadRow(**row) for row in json.loads(metadata[b"prism.rejected"])]
    return bare, rejected, json.loads(metadata[b"prism.notes"])


def _with(new: bytes, raw: bytes, old: bytes) -> bytes:
    """`raw` with the last `old` in it replaced: only the checksum stands that far behind."""
    head, _, tail = raw.rpartition(old)
    return head + new + tail


def _checksum(raw: bytes, beside: str) -> bytes:
    return hashlib.sha256(beside.encode() + b"\n" + raw).hexdigest().encode()


def _floats(field: pa.Field) -> list[str]:
    """The Parquet path of a column of floats, or of lists of floats: they compress better with their bytes split."""
    if types.is_fixed_size_list(field.type):
        return [f"{field.name}.list.element"] if types.is_floating(field.type.value_type) else []
    return [field.name] if types.is_floating(field.type) else []
