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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from prism.errors import DataError, RowError, first_line

Record = Mapping[str, Any]
Item = tuple[int, Record | RowError]

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
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
        except (OSError, EOFError) as error:
            raise DataError(f"{self.path} can't be read: {error}") from error

    def _open(self) -> IO[bytes]:
        return gzip.open(self.path) if self.path.name.endswith(".gz") else self.path.open("rb")  # type: ignore[return-value]

    def fingerprint(self) -> str:
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class ListSource:
    """Rows that a program already holds."""

    records: Sequence[Record]
    name: str = "<list>"
    stem: str = "list"

    def read(self) -> Iterator[Item]:
        for number, record in enumerate(self.records, 1):
            yield number, record if isinstance(record, Mapping) else RowError(f"a row is a {_kind(record)}")

    def fingerprint(self) -> str:
        return hashlib.sha256(json.dumps(list(self.records), default=str).encode()).hexdigest()


@dataclass(frozen=True)
class DatasetSource:
    """A `datasets.Dataset`, from a saved folder or the hub."""

    name: str
    stem: str
    dataset: Any

    def read(self) -> Iterator[Item]:
        yield from enumerate(self.dataset, 1)

    def fingerprint(self) -> str:
        digest = hashlib.sha256(str(self.dataset.features).encode())
        for batch in self.dataset.with_format("arrow").iter(1000):
            for column in batch.columns:
                digest.update(json.dumps(column.to_pylist(), default=str).encode())
        return digest.hexdigest()


def open_sources(where: str | Path | Sequence[str | Path] | Sequence[Record]) -> list[Source]:
    """Resolve paths, globs, hub ids or in-memory rows to sources, in the order given (globs sorted).

    Raises:
        DataError: a file is missing, a glob matches nothing, or a place holds nothing readable.
    """
    if isinstance(where, str | Path):
        where = [where]
    if where and all(isinstance(item, Mapping) for item in where):
        return [ListSource(where)]  # type: ignore[arg-type]
    if not where:
        raise DataError("no data was given: an empty list of files")
    sources: list[Source] = []
    for item in where:
        if not isinstance(item, str | Path):
            raise DataError(f"data must be paths, hub ids or a list of rows (dicts), not a {_kind(item)}")
        sources += _open_place(str(item))
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
    if split and Path(folder).is_dir():
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
    if isinstance(data, DatasetDict):
        split = split or ("train" if "train" in data else next(iter(data)) if len(data) == 1 else None)
        if split not in data:
            raise DataError(f"{path} holds the splits {', '.join(data)}: choose one as {path}:{next(iter(data))}")
        data = data[split]
    return DatasetSource(str(path), path.name, data)


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
    for number, line in enumerate(file, 1):
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line.strip():
            continue
        yield number, _parse_line(line)


def _parse_line(line: bytes) -> Record | RowError:
    try:
        record = json.loads(line.decode())
    except UnicodeDecodeError as error:
        return RowError(f"not UTF-8: byte 0x{line[error.start]:02x} at column {error.start + 1}")
    except json.JSONDecodeError as error:
        return RowError(f"not JSON: {error.msg} at column {error.colno}")
    except (RecursionError, ValueError) as error:
        return RowError(f"JSON that can't be read: {first_line(error)}")
    return (
        record if isinstance(record, Mapping) else RowError(f"a row must be a JSON object, this is a {_kind(record)}")
    )


def _read_json(file: IO[bytes], source: FileSource) -> Iterator[Item]:
    """An array of objects; many a `.json` file holds JSON lines instead, and is read as such."""
    head = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    file.seek(0)
    if not head.startswith(b"["):
        first = file.readline()
        file.seek(0)
        if head and isinstance(_parse_line(first.removeprefix(b"\xef\xbb\xbf")), RowError):
            raise DataError(f"{source.path} is neither a JSON array of rows nor JSON lines: {_parse_line(first)}")
        yield from _read_jsonl(file, source)
        return
    try:
        rows = json.loads(file.read().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DataError(f"{source.path} is not UTF-8 (byte {error.start}); convert it first") from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{source.path} is not JSON: {first_line(error)}") from error
    for number, record in enumerate(rows, 1):
        yield (
            number,
            record
            if isinstance(record, Mapping)
            else RowError(f"a row must be a JSON object, this is a {_kind(record)}"),
        )


def _read_csv(file: IO[bytes], source: FileSource) -> Iterator[Item]:
    csv.field_size_limit(2**31 - 1)
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
    reader = csv.DictReader(text, delimiter="\t" if source.suffix == ".tsv" else ",", strict=True)
    try:
        names = reader.fieldnames or []
    except csv.Error as error:
        raise DataError(f"{source.path} has no readable header line: {error}") from error
    while True:
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield reader.line_num, RowError(f"not CSV: {error}")
            continue
        if None in record or None in record.values():
            yield reader.line_num, RowError(f"the row has not the {len(names)} fields of the header")
        elif any(_escaped(value) for value in record.values()):
            yield reader.line_num, RowError("not UTF-8")
        else:
            yield reader.line_num, {name: value for name, value in record.items() if value != ""}


def _escaped(text: str) -> bool:
    return any("\udc80" <= c <= "\udcff" for c in text) if not text.isascii() else False


def _read_parquet(path: Path) -> Iterator[Item]:
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(1024):
                for record in batch.to_pylist():
                    number += 1
                    yield number, record
    except pyarrow.ArrowException as error:
        raise DataError(f"{path} can't be read as Parquet: {first_line(error)}") from error


def _kind(value: object) -> str:
    names = {dict: "object", list: "list", str: "string", int: "number", float: "number", bool: "boolean"}
    return "null" if value is None else names.get(type(value), type(value).__name__)
