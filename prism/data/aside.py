"""Rows that were set aside, however many there are."""

import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import IO, overload

from prism.errors import BadRow

KEPT = 1000


class BadRows(Sequence[BadRow]):
    """Bad rows in order: the first `KEPT` in memory, later ones in an unnamed file that goes when they go."""

    def __init__(self, rows: Iterable[BadRow] = ()) -> None:
        self._first: list[BadRow] = []
        self._more: IO[bytes] | None = None
        self._count = 0
        self.extend(rows)

    def extend(self, rows: Iterable[BadRow]) -> None:
        for row in rows:
            self.append(row)

    def append(self, row: BadRow) -> None:
        self._count += 1
        if len(self._first) < KEPT:
            self._first.append(row)
            return
        if self._more is None:
            self._more = tempfile.TemporaryFile()  # noqa: SIM115
        self._more.seek(0, 2)
        self._more.write(json.dumps(row.as_json()).encode() + b"\n")

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[BadRow]:
        yield from self._first
        place = 0
        while self._more is not None:
            self._more.seek(place)
            line = self._more.readline()
            if not line:
                return
            place += len(line)
            yield BadRow(**json.loads(line))

    @overload
    def __getitem__(self, at: int) -> BadRow: ...

    @overload
    def __getitem__(self, at: slice) -> list[BadRow]: ...

    def __getitem__(self, at: int | slice) -> BadRow | list[BadRow]:
        if isinstance(at, slice):
            return list(self)[at]
        number = range(self._count)[at]
        return next(islice(self, number, None))
