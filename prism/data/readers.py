"""Records out of open files and tables, one at a time: JSON lines, JSON arrays, CSV, Parquet.

A reader yields `(line, record)` in a fixed order; what can't be parsed comes as a `RowError` in the record's place, so
that one bad line never ends a run. Of each record it asks first, by its number from 0, whether it is wanted: one that
is not comes as None, unparsed where the format allows that.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from prism.data.pieces import JsonPieces
from prism.data.rows import kind
from prism.errors import DataError, RowError, first_line

Record = Mapping[str, Any]
Item = tuple[int, Record | RowError]
Wanted = Callable[[int], bool]

BOM = b"\xef\xbb\xbf"
DEEPEST = 100
NESTED = (Mapping, list, tuple)
BATCH = 1024


def everything(_: int) -> bool:
    return True


def read_jsonl(file: IO[bytes], path: Path, wanted: Wanted) -> Iterator[Item | None]:
    filled = ((number, line) for number, line in enumerate(file, 1) if line.removeprefix(BOM).strip())
    for place, (number, line) in enumerate(filled):
        yield (number, _parse_line(line)) if wanted(place) else None


def _parse_line(line: bytes) -> Record | RowError:
    try:
        record = json.loads(line.removeprefix(BOM).rstrip(b"\r\n").decode())
    except UnicodeDecodeError as error:
        return RowError(f"not UTF-8: byte 0x{line[error.start]:02x} at column {error.start + 1}")
    except json.JSONDecodeError as error:
        return RowError(f"not JSON: {error.msg} at column {error.colno}")
    except (RecursionError, ValueError) as error:
        return RowError(f"JSON that can't be read: {first_line(error)}")
    return as_record(record)


def as_record(value: Any) -> Record | RowError:
    if not isinstance(value, Mapping):
        return RowError(f"a row must be an object with named fields, this is {kind(value)}")
    level: list[Any] = [value]
    for _ in range(DEEPEST):
        level = [v for c in level for v in (c.values() if isinstance(c, Mapping) else c) if isinstance(v, NESTED)]
        if not level:
            return value
    return RowError(f"the row is nested more than {DEEPEST} levels deep")


def read_json(file: IO[bytes], path: Path, wanted: Wanted) -> Iterator[Item | None]:
    """An array of objects, or one; many a `.json` file holds JSON lines instead, and is read as such."""
    if _first_byte(file) == b"[":
        yield from _read_array(file, path, wanted)
        return
    first = next((line for line in file if line.removeprefix(BOM).strip()), b"")
    file.seek(0)
    if isinstance(_parse_line(first), RowError) and (row := _single(file)) is not None:
        yield (1, row) if wanted(0) else None
        return
    file.seek(0)
    yield from read_jsonl(file, path, wanted)


def _first_byte(file: IO[bytes]) -> bytes:
    head = file.read(4096).removeprefix(BOM).lstrip()
    while not head and (piece := file.read(4096)):
        head = piece.lstrip()
    file.seek(0)
    return head[:1]


def _single(file: IO[bytes]) -> Record | None:
    """The object that the whole file is, if it is one."""
    try:
        row = as_record(JsonPieces(file).single())
    except (ValueError, RecursionError):
        return None
    return None if isinstance(row, RowError) else row


def _read_array(file: IO[bytes], path: Path, wanted: Wanted) -> Iterator[Item | None]:
    try:
        for place, value in enumerate(JsonPieces(file).array()):
            yield (place + 1, as_record(value)) if wanted(place) else None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start}): convert it first") from error
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path} can't be read as a JSON array ({first_line(error)}): mend it, or put each row on a line "
            "of a .jsonl file, where a bad row spoils no other"
        ) from error


def read_csv(file: IO[bytes], path: Path, wanted: Wanted) -> Iterator[Item | None]:
    """Each record under the line it starts on."""
    csv.field_size_limit(2**31 - 1)
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
    reader = csv.reader(
        text, delimiter="\t" if path.name.lower().removesuffix(".gz").endswith(".tsv") else ",", strict=True
    )
    names: list[str] | None = None
    place = -1
    while True:
        start = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if names is None:
                raise DataError(f"{path} has no readable header line: {error}") from error
            place += 1
            bad = RowError(f"not CSV up to line {reader.line_num}: {error} (is a quote left open?)")
            yield (start, bad) if wanted(place) else None
            continue
        if names is None:
            names = _header(fields, path)
        elif fields:
            place += 1
            yield (start, _csv_record(names, fields)) if wanted(place) else None


def _header(names: list[str], path: Path) -> list[str]:
    if any(_escaped(name) for name in names):
        raise DataError(f"{path} is not UTF-8: convert it first")
    if repeated := [name for name in names if names.count(name) > 1]:
        raise DataError(f"{path} has two columns named {repeated[0]!r}: rename one")
    return names


def _csv_record(names: list[str], fields: list[str]) -> Record | RowError:
    if len(fields) != len(names):
        return RowError(f"the row has {len(fields)} fields, the header {len(names)}")
    if any(_escaped(field) for field in fields):
        return RowError("not UTF-8")
    return dict(zip(names, fields, strict=True))


def _escaped(text: str) -> bool:
    return not text.isascii() and any("\udc80" <= c <= "\udcff" for c in text)


def read_parquet(path: Path, wanted: Wanted) -> Iterator[Item | None]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path, buffer_size=1 << 20) as file:
            yield from read_batches(file.iter_batches(BATCH, use_threads=False), wanted)
    except pyarrow.ArrowException as error:
        raise DataError(f"{path} can't be read as Parquet: {first_line(error)}") from error


def read_batches(batches: Iterable[Any], wanted: Wanted) -> Iterator[Item | None]:
    """Rows of Arrow batches or tables, which carry numbers from 1."""
    first = 0
    for batch in batches:
        keep = [wanted(first + i) for i in range(len(batch))]
        records = iter(_records(batch if all(keep) else batch.filter(keep)))
        for i, kept in enumerate(keep):
            yield (first + i + 1, next(records)) if kept else None
        first += len(batch)


def _records(batch: Any) -> Iterator[Record | RowError]:
    """Rows of an Arrow batch; where one holds what Python can't (a broken string, the year 20,000), that one is bad."""
    try:
        rows = batch.to_pylist()
    except Exception as error:
        if len(batch) == 1:
            yield RowError(f"a value can't be read: {first_line(error)}")
            return
        rows = [row for i in range(len(batch)) for row in _records(batch.slice(i, 1))]
    yield from (row if isinstance(row, RowError) else as_record(row) for row in rows)
