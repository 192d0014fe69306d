"""Choose the best rows under a budget: a score table in, a selection out."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from prism.budget import Budget
from prism.data import Row
from prism.errors import ConfigError, DataError, RunError
from prism.files import write_whole
from prism.scoring import ScoreTable

Order = Literal["top", "bottom"]


@dataclass(frozen=True, repr=False)
class Selection:
    """Chosen rows of a score table, best first: `places` are positions in the table."""

    scores: ScoreTable
    places: tuple[int, ...]
    notices: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.places)

    def __repr__(self) -> str:
        return f"Selection({len(self)} of {len(self.scores)} rows)"

    @property
    def ids(self) -> list[str]:
        column = self.scores.column("id")
        return [str(column[i]) for i in self.places]

    def rows(self) -> list[tuple[Row, Mapping[str, Any]]]:
        """(pool row, {"id", "score", "rank"}) of each chosen row, best first; reads the pool once."""
        values, index, ids = (self.scores.column(name) for name in ("score", "index", "id"))
        rank = {int(index[place]): rank for rank, place in enumerate(self.places, 1)}
        found: dict[int, tuple[Row, Mapping[str, Any]]] = {}
        for number, row in enumerate(self.scores.pool):
            if number in rank:
                place = self.places[rank[number] - 1]
                if row.id != ids[place]:
                    raise DataError(
                        f"{row.file} changed since it was scored: row {number} is {row.id}, not {ids[place]}"
                    )
                found[rank[number]] = row, {"id": row.id, "score": float(values[place]), "rank": rank[number]}
        if len(found) < len(rank):
            raise DataError(f"the pool changed since it was scored: {len(rank) - len(found)} chosen rows are gone")
        return [found[number] for number in sorted(found)]

    def save(self, path: str | Path) -> None:
        """Write the users' own rows as JSON lines, untouched but for one `prism` field: id, score and rank.

        A row that already has a `prism` field keeps it as `prism.previous`.

        Raises:
            RunError: `path` can't be written.
            DataError: the pool changed since it was scored.
        """
        try:
            write_whole(Path(path), "".join(line + "\n" for line in self._lines()))
        except OSError as error:
            raise RunError(f"{path} can't be written: {error}") from error

    def _lines(self) -> Iterator[str]:
        for row, mark in self.rows():
            record = dict(row.record)
            previous = {"previous": record.pop("prism")} if "prism" in record else {}
            yield json_line({**record, "prism": {**mark, **previous}})

    def sources(self) -> dict[str, int]:
        """How many chosen rows each source gave, most first."""
        column = self.scores.column("source")
        return dict(Counter(str(column[i]) for i in self.places).most_common())

    def gain(self) -> tuple[float, float]:
        """First-order gain in K per unit of learning rate, of the selection and of a random one of the same size.

        The second is an expectation over all finite rows, not a draw.
        """
        values = self.scores.column("score")
        return float(values[list(self.places)].sum()), float(values[_finite(self.scores)].mean() * len(self))


def select(
    scores: ScoreTable,
    *,
    budget: str | int = "5%",
    order: Order = "top",
    cap_per_source: str | int | None = None,
    keep_duplicates: bool = False,
) -> Selection:
    """The rows with the highest (`order="top"`) or lowest scores that fit the budget; ties go by id.

    Rows flagged non-finite are never chosen. Of rows that say exactly the same only the best placed is kept, unless
    `keep_duplicates`. A token budget is filled in rank order up to the first row that no longer fits; rows longer than
    the whole budget are passed over.

    Args:
        budget: a share (`"5%"`), a number of samples (`"1000"`) or of response tokens (`"200k tok"`).
        cap_per_source: at most so many rows of one source, or such a share of the budget (`"20%"`).

    Raises:
        ConfigError: a malformed budget, order or cap, or a budget above the pool.
        DataError: nothing fits.
    """
    if order not in ("top", "bottom"):
        raise ConfigError(f"order {order!r} is neither top nor bottom")
    tokens, finite = scores.column("response_tokens"), _finite(scores)
    if not finite.any():
        raise DataError(f"none of the {len(scores)} rows has a finite score: there is nothing to choose from")
    contents, sources = scores.column("content"), scores.column("source")
    most, most_tokens = Budget.parse(budget).resolve(len(scores), int(tokens.sum()))
    by_tokens = Budget.parse(budget).unit == "tokens"
    cap = _cap(cap_per_source, most_tokens if by_tokens else most)
    in_tokens = by_tokens and "%" in str(cap_per_source)
    chosen: list[int] = []
    seen: set[str] = set()
    used: Counter[str] = Counter()
    spent = duplicates = capped = 0
    for place in _ranked(scores, order):
        if len(chosen) == most:
            break
        cost = int(tokens[place])
        if not finite[place] or cost > most_tokens:
            continue
        if not keep_duplicates and contents[place] in seen:
            duplicates += 1
            continue
        weight = cost if in_tokens else 1
        if cap is not None and used[sources[place]] + weight > cap:
            capped += 1
            continue
        if spent + cost > most_tokens:
            break
        chosen.append(int(place))
        seen.add(contents[place])
        used[sources[place]] += weight
        spent += cost
    if not chosen:
        raise DataError(f"no row fits the budget {budget!r}" + (f" with the cap {cap_per_source!r}" if capped else ""))
    notices = []
    if not by_tokens and len(chosen) < most:
        why = [f"{duplicates} duplicates"] * bool(duplicates) + [f"{capped} over the cap"] * bool(capped)
        why += [f"{n} non-finite"] if (n := int((~finite).sum())) else []
        notices.append(f"only {len(chosen)} of the {most} rows asked for could be chosen ({', '.join(why)})")
    return Selection(scores, tuple(chosen), tuple(notices))


def _ranked(scores: ScoreTable, order: Order) -> list[int]:
    values, ids = scores.column("score"), scores.column("id")
    by_id = np.asarray(sorted(range(len(scores)), key=ids.__getitem__), dtype=np.int64)
    keys = (-values if order == "top" else values)[by_id]
    return [int(i) for i in by_id[np.argsort(keys, kind="stable")]]


def _finite(scores: ScoreTable) -> npt.NDArray[np.bool_]:
    finite: npt.NDArray[np.bool_] = np.isfinite(scores.column("score")) & (scores.column("flag") != "non-finite")
    return finite


def _cap(cap: str | int | None, budget: int) -> int | None:
    if cap is None:
        return None
    try:
        parsed = Budget.parse(cap)
    except ConfigError as error:
        raise ConfigError(f"cap_per_source: {error}") from error
    if parsed.unit == "tokens":
        raise ConfigError(f"cap_per_source {cap!r} is neither a number of rows nor a share of the budget")
    return int(parsed.amount) if parsed.unit == "samples" else max(1, int(parsed.amount / Decimal(100) * budget))


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


def _plain(value: Any) -> str:
    """Dates, decimals and bytes of Parquet rows, as text."""
    return value.hex() if isinstance(value, bytes) else str(value)
