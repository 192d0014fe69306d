"""Read records from every usual place: JSONL, JSON, CSV, Parquet, a saved `datasets` folder, a hub id, a list.

A source can be read again and again, and in part; see `prism.data.readers` for what it yields.
"""

import glob
import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

from prism.data.readers import (
    BATCH,
    Item,
    Record,
    Wanted,
    as_record,
    everything,
    read_batches,
    read_csv,
    read_json,
    read_jsonl,
    read_parquet,
)  # fmt: skip
from prism.data.rows import kind
from prism.errors import BadRow, DataError, RowError, first_line

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+){0,2}")

T = TypeVar("T")


class Source(Protocol):
    """Somewhere records come from."""

    @property
    def name(self) -> str: ...

    @property
    def stem(self) -> str: ...

    def read(self, wanted: Wanted = everything) -> Iterator[Item | None]: ...

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

    def read(self, wanted: Wanted = everything) -> Iterator[Item | None]:
        reader = {".csv": read_csv, ".tsv": read_csv, ".json": read_json}.get(self.suffix, read_jsonl)
        try:
            if self.suffix == ".parquet":
                yield from read_parquet(self.path, wanted)
                return
            with self._open() as file:
                yield from reader(file, self.path, wanted)
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
    """Rows that a program already holds; `lines` says where they lay, if not in this list."""

    records: Sequence[Record]
    name: str = "<list>"
    stem: str = "list"
    lines: Sequence[int] | None = None

    def read(self, wanted: Wanted = everything) -> Iterator[Item | None]:
        lines = self.lines or range(1, len(self.records) + 1)
        for place, (line, record) in enumerate(zip(lines, self.records, strict=True)):
            yield (line, as_record(record)) if wanted(place) else None

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for record in self.records:
            digest.update(json.dumps(record, default=str, skipkeys=True).encode() + b"\n")
        return digest.hexdigest()


@dataclass(frozen=True)
class DatasetSource:
    """A `datasets.Dataset`, from a saved folder or the hub."""

    name: str
    stem: str
    dataset: Any

    def read(self, wanted: Wanted = everything) -> Iterator[Item | None]:
        yield from read_batches(self._batches(), wanted)

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for table in self._batches():
            digest.update(str(table.schema).encode())
            for batch in table.combine_chunks().to_batches():
                digest.update(batch.serialize())
        return digest.hexdigest()

    def _batches(self) -> Iterator[Any]:
        return iter(self.dataset.with_format("arrow").iter(BATCH))  # as stored: no image or audio is decoded


def each_record(sources: Iterable[Source], make: Callable[[Record, Source, int], T]) -> Iterator[T | BadRow]:
    """What `make` makes of every record, given its source and line; a bad row where it raises RowError."""
    for source in sources:
        for item in source.read():
            assert item is not None
            line, record = item
            try:
                if isinstance(record, RowError):
                    raise record
                made = make(record, source, line)
            except RowError as error:
                yield BadRow(source.name, line, str(error))
            else:
                yield made


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
