"""Read records from every usual place: JSONL, JSON, CSV, Parquet, a saved `datasets` folder, a hub id, a list.

A source yields `(line, record)` in a fixed order and can be read again; what can't be parsed comes as a `RowError` in
the record's place, so that one bad line never ends a run.
"""

import csv
import glob
import gzip
import hashlib
import io
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from prism.data.rows import kind
from prism.errors import DataError, RowError, first_line

Record = Mapping[str, Any]
Item = tuple[int, Record | RowError]

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
BOM = b"\xef\xbb\xbf"
DEEPEST = 100
NESTED = (Mapping, list, tuple)
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+){0,2}")


class Source(Protocol):
    """Somewhere records come from."""

    @property
    def name(self) -> str: ...

    @property
    def stem(self) -> str: ...

    def read(self) -> Iterator[Item]: ...

    def fingerprint(self) -> str: ...


@dataclass(frozen=True)
class FileSource:
    path: Path

    @property
    def name(self) -> str:
        return str(self.path)

    @property
    def stem(self) -> str:
        return self.path.name.removesuffix(".gz").rsplit(".", 1)[0]

    @property
    def suffix(self) -> str:
        return Path(self.path.name.removesuffix(".gz")).suffix.lower()

    def read(self) -> Iterator[Item]:
        reader = {".csv": _read_csv, ".tsv": _read_csv, ".json": _read_json}.get(self.suffix, _read_jsonl)
        try:
            if self.suffix == ".parquet":
                yield from _read_parquet(self.path)
                return
            with self._open() as file:
                yield from reader(file, self)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{self.path} can't be read: {error}") from error

    def _open(self) -> IO[bytes]:
        return gzip.open(self.path) if self.path.name.endswith(".gz") else self.path.open("rb")  # type: ignore[return-value]

    def fingerprint(self) -> str:
        try:
            with self.path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise DataError(f"{self.path} can't be read: {error}") from error


@dataclass(frozen=True)
class ListSource:
    """Rows that a program already holds."""

    records: Sequence[Record]
    name: str = "<list>"
    stem: str = "list"

    def read(self) -> Iterator[Item]:
        yield from ((number, _as_record(record)) for number, record in enumerate(self.records, 1))

    def fingerprint(self) -> str:
        return _digest(self.read())


@dataclass(frozen=True)
class DatasetSource:
    """A `datasets.Dataset`, from a saved folder or the hub."""

    name: str
    stem: str
    dataset: Any

    def read(self) -> Iterator[Item]:
        batches = self.dataset.with_format("arrow").iter(1024)  # as stored: no image or audio is decoded
        yield from enumerate((record for batch in batches for record in _records(batch)), 1)

    def fingerprint(self) -> str:
        return _digest(self.read())


def open_sources(where: str | Path | Sequence[str | Path] | Sequence[Record]) -> list[Source]:
    """Resolve paths, globs, hub ids or in-memory rows to sources, in the order given (globs sorted).

    Raises:
        DataError: a file is missing, a glob matches nothing, or a place holds nothing readable.
    """
    items: list[Any] = [where] if isinstance(where, str | Path) or not isinstance(where, Iterable) else list(where)
    if any(isinstance(item, Mapping) for item in items):
        return [ListSource(items)]
    if not items:
        raise DataError("no data was given: an empty list of files")
    sources: list[Source] = []
    for item in items:
        if not isinstance(item, str | Path):
            raise DataError(f"data must be paths, hub ids or a list of rows (dicts), not {kind(item)}")
        try:
            sources += _open_place(str(item))
        except OSError as error:
            raise DataError(f"{item} can't be read: {error}") from error
    names = [source.name for source in sources]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"{repeated[0]} is given more than once: name each file once")
    return sources


def _open_place(place: str) -> list[Source]:
    path = Path(place).expanduser()
    if path.is_dir():
        return [_saved_dataset(path)]
    if path.exists():
        return [_checked_file(path)]
    if glob.has_magic(place):
        found = [p for p in sorted(Path(match) for match in glob.glob(str(path), recursive=True)) if p.is_file()]
        if not found:
            raise DataError(f"no file matches {place}")
        return [_checked_file(p) for p in found]
    folder, _, split = place.rpartition(":")
    if folder and Path(folder).is_dir():
        return [_saved_dataset(Path(folder), split)]
    if path.name.removesuffix(".gz").endswith(SUFFIXES) or not HUB_ID.fullmatch(place):
        raise DataError(f"{place} does not exist: give a file, a glob, a saved datasets folder, or a hub id (org/name)")
    return [_hub_dataset(place)]


def _checked_file(path: Path) -> FileSource:
    source = FileSource(path)
    if source.suffix not in SUFFIXES:
        raise DataError(
            f"{path}: unknown file type {source.suffix!r}; known are {', '.join(SUFFIXES)}, each also as .gz"
        )
    if source.suffix == ".parquet" and path.name.endswith(".gz"):
        raise DataError(f"{path}: unpack the Parquet file first")
    return source


def _saved_dataset(path: Path, split: str | None = None) -> DatasetSource:
    from datasets import DatasetDict, load_from_disk

    if not ((path / "dataset_info.json").exists() or (path / "dataset_dict.json").exists()):
        raise DataError(
            f"{path} is a folder, but not one saved by datasets: name its files, for example {path}/*.jsonl"
        )
    try:
        data = load_from_disk(str(path))
    except Exception as error:
        raise DataError(f"{path} can't be read as a saved datasets folder: {first_line(error)}") from error
    name = f"{path}:{split}" if split else str(path)
    if isinstance(data, DatasetDict):
        split = split or ("train" if "train" in data or not data else next(iter(data)) if len(data) == 1 else None)
        if split not in data:
            raise DataError(f"{path} holds the splits {', '.join(data) or '(none)'}: choose one as {path}:SPLIT")
        data = data[split]
    elif split:
        raise DataError(f"{path} has no splits: name it without :{split}")
    return DatasetSource(name, path.name, data)


def _hub_dataset(place: str) -> DatasetSource:
    from datasets import load_dataset

    name, *rest = place.split(":")
    split = rest.pop() if rest else "train"
    try:
        data = load_dataset(name, *rest, split=split)
    except Exception as error:
        raise DataError(
            f"{place} is not a file here and could not be loaded from the hub (split {split!r}): {first_line(error)}"
        ) from error
    return DatasetSource(place, name.rpartition("/")[2], data)


def _read_jsonl(file: IO[bytes], source: FileSource) -> Iterator[Item]:
    yield from ((number, _parse_line(line)) for number, line in enumerate(file, 1) if line.removeprefix(BOM).strip())


def _parse_line(line: bytes) -> Record | RowError:
    try:
        record = json.loads(line.removeprefix(BOM).rstrip(b"\r\n").decode())
    except UnicodeDecodeError as error:
        return RowError(f"not UTF-8: byte 0x{line[error.start]:02x} at column {error.start + 1}")
    except json.JSONDecodeError as error:
        return RowError(f"not JSON: {error.msg} at column {error.colno}")
    except (RecursionError, ValueError) as error:
        return RowError(f"JSON that can't be read: {first_line(error)}")
    return _as_record(record)


def _as_record(value: Any) -> Record | RowError:
    if not isinstance(value, Mapping):
        return RowError(f"a row must be an object with named fields, this is {kind(value)}")
    level: list[Any] = [value]
    for _ in range(DEEPEST):
        level = [v for c in level for v in (c.values() if isinstance(c, Mapping) else c) if isinstance(v, NESTED)]
        if not level:
            return value
    return RowError(f"the row is nested more than {DEEPEST} levels deep")


def _read_json(file: IO[bytes], source: FileSource) -> Iterator[Item]:
    """An array of objects, or one; many a `.json` file holds JSON lines instead, and is read as such."""
    first = next((line for line in file if line.removeprefix(BOM).strip()), b"").removeprefix(BOM).lstrip()
    file.seek(0)
    if not first.startswith(b"["):
        if isinstance(_parse_line(first), RowError) and isinstance(row := _parse_line(file.read()), Mapping):
            yield 1, row
            return
        file.seek(0)
        yield from _read_jsonl(file, source)
        return
    try:
        rows = json.loads(file.read().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DataError(f"{source.path} is not UTF-8 (byte {error.start}): convert it first") from error
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{source.path} can't be read as a JSON array ({first_line(error)}): mend it, or put each row on a line "
            "of a .jsonl file, where a bad row spoils no other"
        ) from error
    yield from ((number, _as_record(record)) for number, record in enumerate(rows, 1))


def _read_csv(file: IO[bytes], source: FileSource) -> Iterator[Item]:
    """Each record under the line it starts on."""
    csv.field_size_limit(2**31 - 1)
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
    reader = csv.reader(text, delimiter="\t" if source.suffix == ".tsv" else ",", strict=True)
    names: list[str] | None = None
    while True:
        start = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if names is None:
                raise DataError(f"{source.path} has no readable header line: {error}") from error
            yield start, RowError(f"not CSV up to line {reader.line_num}: {error} (is a quote left open?)")
            continue
        if names is None:
            names = _header(fields, source)
        elif fields:
            yield start, _csv_record(names, fields)


def _header(names: list[str], source: FileSource) -> list[str]:
    if any(_escaped(name) for name in names):
        raise DataError(f"{source.path} is not UTF-8: convert it first")
    if repeated := [name for name in names if names.count(name) > 1]:
        raise DataError(f"{source.path} has two columns named {repeated[0]!r}: rename one")
    return names


def _csv_record(names: list[str], fields: list[str]) -> Record | RowError:
    if len(fields) != len(names):
        return RowError(f"the row has {len(fields)} fields, the header {len(names)}")
    if any(_escaped(field) for field in fields):
        return RowError("not UTF-8")
    return dict(zip(names, fields, strict=True))


def _escaped(text: str) -> bool:
    return not text.isascii() and any("\udc80" <= c <= "\udcff" for c in text)


def _read_parquet(path: Path) -> Iterator[Item]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            yield from enumerate((record for batch in file.iter_batches(1024) for record in _records(batch)), 1)
    except pyarrow.ArrowException as error:
        raise DataError(f"{path} can't be read as Parquet: {first_line(error)}") from error


def _records(batch: Any) -> Iterator[Record | RowError]:
    """Rows of an Arrow batch; where one holds what Python can't (a broken string, the year 20,000), that one is bad."""
    try:
        rows = batch.to_pylist()
    except Exception as error:
        if len(batch) == 1:
            yield RowError(f"a value can't be read: {first_line(error)}")
            return
        rows = [row for i in range(len(batch)) for row in _records(batch.slice(i, 1))]
    yield from (row if isinstance(row, RowError) else _as_record(row) for row in rows)


def _digest(items: Iterator[Item]) -> str:
    digest = hashlib.sha256()
    for _, record in items:
        digest.update(json.dumps(record, default=str, skipkeys=True).encode() + b"\n")
    return digest.hexdigest()
