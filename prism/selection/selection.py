"""Chosen rows, and how they leave: the users' own records, or messages."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from prism.data import Row
from prism.errors import BadRow, DataError, RunError
from prism.files import write_whole
from prism.scoring import ScoreTable
from prism.selection.order import in_order

Mark = Mapping[str, Any]


@dataclass(frozen=True, repr=False, eq=False)
class Selection:
    """Chosen rows of a score table, best first: `places` [chosen] are positions in the table; `details` is what the
    strategy says of itself, JSON-ready."""

    scores: ScoreTable
    places: npt.NDArray[np.int64]
    notices: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.places)

    def __repr__(self) -> str:
        return f"Selection({len(self)} of {len(self.scores)} rows)"

    @property
    def ids(self) -> list[str]:
        return self.scores.ids(self.places)

    def rows(self) -> list[tuple[Row, Mark]]:
        """(pool row, {"id", "score", "rank"}) of each chosen row, best first; reads the pool once."""
        return sorted(self._found(), key=lambda found: found[1]["rank"])

    def texts(self, write: Callable[[Row, Mark], str], folder: Path) -> Iterator[bytes]:
        """What `write` makes of each chosen row, best first; meanwhile all of it lies in a file in `folder`."""
        parts = ((mark["rank"] - 1, write(row, mark).encode()) for row, mark in self._found())
        return in_order(parts, len(self), folder)

    def save(self, path: str | Path) -> None:
        """Write the users' own rows as JSON lines, untouched but for one `prism` field: id, score and rank.

        A row that already has a `prism` field keeps it as `prism.previous`.

        Raises:
            RunError: `path` can't be written.
            DataError: the pool changed since it was scored.
        """
        try:
            write_whole(Path(path), self.texts(_marked, Path(path).parent))
        except OSError as error:
            raise RunError(f"{path} can't be written: {error}") from error

    def sources(self) -> dict[str, int]:
        """How many chosen rows each source gave, most first; of equals, the one with the better row."""
        codes, names = self.scores.codes("source")
        found, first, counts = np.unique(codes[self.places], return_index=True, return_counts=True)
        return {names[found[i]]: int(counts[i]) for i in np.lexsort((first, -counts))}

    def gain(self) -> tuple[float, float]:
        """First-order gain in K per unit of learning rate, of the selection and of a random one of the same size.

        The second is an expectation over all finite rows, not a draw.
        """
        values = self.scores.column("score")
        return float(values[self.places].sum()), float(values[finite_rows(self.scores)].mean() * len(self))

    def _found(self) -> Iterator[tuple[Row, Mark]]:
        """As `rows`, in the pool's order."""
        index = self.scores.column("index")[self.places]
        order = np.argsort(index)
        values, contents = (self.scores.column(name)[self.places] for name in ("score", "content"))
        ids = self.scores.ids(self.places[order])
        count = 0
        for rank, name, row in zip(order.tolist(), ids, self.scores.pool.pick(index[order].tolist()), strict=False):
            if isinstance(row, BadRow):
                raise DataError(f"{row.file} changed since it was scored: {name} is a bad row now: {row}")
            said = int(row.content, 16) == contents[rank] and (name == row.id or name.startswith(f"{row.id}#"))
            if not said:
                raise DataError(f"{row.file} changed since it was scored: row {row.index} is {row.id}, not {name}")
            yield replace(row, id=name), {"id": name, "score": float(values[rank]), "rank": rank + 1}
            count += 1
        if count < len(self):
            raise DataError(f"the pool changed since it was scored: {len(self) - count} chosen rows are gone")


def finite_rows(scores: ScoreTable) -> npt.NDArray[np.bool_]:
    """Which rows have a score that counts, [rows]."""
    finite: npt.NDArray[np.bool_] = np.isfinite(scores.column("score")) & ~scores.flagged("non-finite")
    return finite


def json_line(record: Mapping[str, Any]) -> str:
    """One line of JSON: plain Unicode, unless it holds an unpaired surrogate, which UTF-8 can't write, or a character
    such as U+2028, at which some readers split lines."""
    line = json.dumps(record, ensure_ascii=False, default=_plain)
    try:
        line.encode()
        whole = len(line.splitlines()) == 1
    except UnicodeEncodeError:
        whole = False
    return line if whole else json.dumps(record, default=_plain)


def _marked(row: Row, mark: Mark) -> str:
    record = dict(row.record)
    previous = {"previous": record.pop("prism")} if "prism" in record else {}
    return json_line({**record, "prism": {**mark, **previous}}) + "\n"


def _plain(value: Any) -> str:
    """Dates, decimals and bytes of Parquet rows, as text."""
    return value.hex() if isinstance(value, bytes) else str(value)
