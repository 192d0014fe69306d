"""Pools of candidate samples and sets of target pairs, read lazily and as often as needed."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from itertools import groupby
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar, get_args

from prism.data.aside import BadRows
from prism.data.forms import FIELDS, Columns, pair_messages, pool_messages, target_messages
from prism.data.readers import Item, Record
from prism.data.rows import Ids, Pair, Row, content_hash, kind
from prism.data.sources import ListSource, Source, open_sources
from prism.errors import BadRow, ConfigError, DataError, RowError, stopped_at

OnBadRow = Literal["skip", "stop"]
LONGEST_REASON = 400


class Kept(Protocol):
    """What every kind of row knows of where it came from."""

    @property
    def file(self) -> str: ...

    @property
    def line(self) -> int: ...

    @property
    def record(self) -> Record: ...


T = TypeVar("T", bound=Kept)
Where = str | Path | Sequence[str | Path] | Sequence[Record]
Normalise = Callable[[Record, Columns, Ids, Source, int, int], T]


class Rows(Generic[T]):
    """Rows of one kind, from any number of sources, in the order of the sources.

    Iterating reads the sources anew and yields the good rows; `rejected` and `len()` come from one full reading, which
    happens at the first use. Of each row some 30 bytes stay in memory while it is read, to tell ids apart.
    """

    def __init__(
        self, sources: Sequence[Source], normalise: Normalise[T], columns: Columns, on_bad_row: OnBadRow
    ) -> None:
        self.sources = tuple(sources)
        self.on_bad_row = on_bad_row
        self._normalise = normalise
        self._columns = columns

    def __iter__(self) -> Iterator[T]:
        return (row for row in self.read() if not isinstance(row, BadRow))

    def __len__(self) -> int:
        return self._scan[0]

    @property
    def rejected(self) -> BadRows:
        return self._scan[1]

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """Source name → sha256 of its contents."""
        return {source.name: source.fingerprint() for source in self.sources}

    @cached_property
    def _scan(self) -> tuple[int, BadRows]:
        good, bad = 0, BadRows()
        for row in self.read():
            if isinstance(row, BadRow):
                if self.on_bad_row == "stop":
                    raise stopped_at(row)
                bad.append(row)
            else:
                good += 1
        return good, bad

    def require_rows(self, what: str) -> None:
        """Raises DataError where there is no good row at all, saying why."""
        if len(self):
            return
        if not self.sources:
            raise DataError(f"no {what} was given: an empty list of files")
        names = ", ".join(source.name for source in self.sources)
        if not self.rejected:
            raise DataError(f"the {what} is empty: {names} holds no rows")
        raise DataError(f"all {len(self.rejected)} rows of the {what} were rejected; the first: {self.rejected[0]}")

    def read(self) -> Iterator[T | BadRow]:
        """Every row in order, bad ones included."""
        ids, index = Ids(), 0
        for source in self.sources:
            for item in source.read():
                assert item is not None
                yield self._row(item, ids, source, index)
                index += 1

    def pick(self, places: Iterable[int]) -> Iterator[T | BadRow]:
        """The rows at `places` (ascending, from 0, bad rows counted), without reading more of the others than needed.

        Ids are unique among these rows alone: a copy of a row that is not picked goes without its `#2`.
        """
        ids, index, wanted = Ids(), 0, _Wanted(places)
        for source in self.sources:
            wanted.start = index
            for item in source.read(wanted):
                if item is not None:
                    yield self._row(item, ids, source, index)
                    wanted.open -= 1
                if wanted.upcoming is None and not wanted.open:
                    return
                index += 1

    def part(self, places: Iterable[int], piles: int = 1) -> "Rows[T]":
        """The good rows at `places` (as in `pick`) as a set of their own, in memory, dealt to so many piles: with two,
        the first, third, fifth, … row, then the second, fourth, …."""
        rows = [row for row in self.pick(places) if not isinstance(row, BadRow)]
        stems = {source.name: source.stem for source in self.sources}
        sources = []
        for pile in range(piles):
            for name, group in groupby(rows[pile::piles], key=lambda row: row.file):
                found = list(group)
                lines = [row.line for row in found]
                sources.append(ListSource([row.record for row in found], name, stems[name], lines))
        return Rows(sources, self._normalise, self._columns, self.on_bad_row)

    def _row(self, item: Item, ids: Ids, source: Source, index: int) -> T | BadRow:
        line, record = item
        try:
            if isinstance(record, RowError):
                raise record
            return self._normalise(record, self._columns, ids, source, line, index)
        except RowError as error:
            return BadRow(source.name, line, _legible(str(error)), _own_id(record, self._columns))


class _Wanted:
    """Whether a source's record is among ascending `places`, which count the records of all sources before it too."""

    def __init__(self, places: Iterable[int]) -> None:
        self._rest = iter(places)
        self.upcoming = next(self._rest, None)
        self.start = 0
        self.open = 0  # wanted, but not yet yielded

    def __call__(self, place: int) -> bool:
        if self.start + place != self.upcoming:
            return False
        self.upcoming = next(self._rest, None)
        self.open += 1
        return True


Pool = Rows[Row]
Target = Rows[Pair]


def load_pool(
    where: Where,
    *,
    columns: Mapping[str, str] | None = None,
    on_bad_row: OnBadRow = "skip",
) -> Pool:
    """Candidate samples from files, globs, a saved `datasets` folder, a hub id, or a list of dicts.

    Args:
        where: one place or several; rows keep this order.
        columns: field → the user's column name, for example `{"prompt": "question", "completion": "answer"}`.
        on_bad_row: `"skip"` collects bad rows in `.rejected`; `"stop"` makes the first one an error.

    Raises:
        DataError: a file is missing or unreadable, no row can be used, or the first bad row with `"stop"`.
    """
    pool = open_pool(where, columns=columns, on_bad_row=on_bad_row)
    pool.require_rows("pool")
    return pool


def load_target(
    where: Where,
    *,
    columns: Mapping[str, str] | None = None,
    on_bad_row: OnBadRow = "skip",
    paired: bool = True,
) -> Target:
    """Target pairs with `prompt`, `chosen` and `rejected` (strings or message lists); arguments as `load_pool`'s.

    Args:
        paired: whether a row needs a `rejected`. Where it does not, a row may also have any form of a pool row.
    """
    target = open_target(where, columns=columns, on_bad_row=on_bad_row, paired=paired)
    target.require_rows("target")
    return target


def open_pool(where: Where, *, columns: Mapping[str, str] | None = None, on_bad_row: OnBadRow = "skip") -> Pool:
    """`load_pool` without reading anything yet."""
    return Rows(open_sources(where), _pool_row, _checked(columns), _known(on_bad_row))


def open_target(
    where: Where, *, columns: Mapping[str, str] | None = None, on_bad_row: OnBadRow = "skip", paired: bool = True
) -> Target:
    """`load_target` without reading anything yet; of an empty list of places, a target without pairs."""
    sources = [] if isinstance(where, list) and not where else open_sources(where)
    return Rows(sources, partial(_pair, paired), _checked(columns), _known(on_bad_row))


def _legible(reason: str) -> str:
    """A reason quotes the data: fit for a terminal and one line, whatever that holds."""
    text = reason if len(reason) <= LONGEST_REASON else reason[: LONGEST_REASON - 1] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _checked(columns: Mapping[str, str] | None) -> Columns:
    for field in columns or {}:
        if field not in FIELDS:
            raise ConfigError(f"columns: unknown field {field!r}; known fields are {', '.join(FIELDS)}")
    return Columns(columns or {})


def _known(on_bad_row: OnBadRow) -> OnBadRow:
    if on_bad_row not in get_args(OnBadRow):
        raise ConfigError(f"on_bad_row {on_bad_row!r} is neither skip nor stop")
    return on_bad_row


def _pool_row(record: Record, columns: Columns, ids: Ids, source: Source, line: int, index: int) -> Row:
    messages, strings = pool_messages(record, columns)
    content = content_hash(messages)
    return Row(
        id=_identify(record, columns, ids, content),
        messages=messages,
        strings=strings,
        source=_own_source(record, columns) or source.stem,
        content=content,
        file=source.name,
        line=line,
        index=index,
        record=record,
    )


def _pair(paired: bool, record: Record, columns: Columns, ids: Ids, source: Source, line: int, _: int) -> Pair:
    chosen, rejected, strings = (pair_messages if paired else target_messages)(record, columns)
    content = content_hash(chosen, rejected) if rejected else content_hash(chosen)
    return Pair(
        id=_identify(record, columns, ids, content),
        chosen=chosen,
        rejected=rejected,
        strings=strings,
        content=content,
        file=source.name,
        line=line,
        record=record,
        subtask=_label(record, columns, "subtask") or source.stem,
        rejected_from=_label(record, columns, "rejected_from"),
    )


def _label(record: Record, columns: Columns, field: str) -> str:
    """A name that a row gives, "" where it gives none."""
    value = columns.get(record, field)
    if not isinstance(value, str | int | float | None):
        raise RowError(f"{columns.names.get(field, field)} must be text, not {kind(value)}")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else _legible(str(value).strip())


def _own_source(record: Record, columns: Columns) -> str | None:
    own = columns.get(record, "source") or (record.get("dataset") if "source" not in columns.names else None)
    return _legible(own) if isinstance(own, str) else None


def _own_id(record: Record | RowError, columns: Columns) -> str | None:
    own = None if isinstance(record, RowError) else columns.get(record, "id")
    return _legible(str(own)) if isinstance(own, str) or (isinstance(own, int) and abs(own) < 1 << 64) else None


def _identify(record: Record, columns: Columns, ids: Ids, content: str) -> str:
    own: Any = columns.get(record, "id")
    own = None if own == "" else own  # an empty cell of a CSV file
    if isinstance(own, float) and own.is_integer():  # whole numbers beside nulls, as tables have them
        own = int(own)
    if isinstance(own, bool) or not isinstance(own, str | int | None):
        raise RowError(f"id must be a string or a whole number, not {own if isinstance(own, float) else kind(own)}")
    if isinstance(own, str) and (not own.strip() or not own.isprintable()):
        raise RowError(f"id {own[:40]!r} is blank or holds control characters")
    try:
        return ids.assign(None if own is None else str(own), content)
    except ValueError as error:
        raise RowError(str(error)) from error
