"""Choose the best rows under a budget: a score table in, a selection out."""

from array import array
from collections.abc import Iterator
from decimal import Decimal
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from prism.budget import Budget
from prism.errors import ConfigError, DataError
from prism.scoring import ScoreTable, repeated_values
from prism.selection.selection import Selection, finite_rows

Order = Literal["top", "bottom"]
BLOCK = 1 << 16


def select(
    scores: ScoreTable,
    *,
    budget: str | int = "5%",
    order: Order = "top",
    cap_per_source: str | int | None = None,
    keep_duplicates: bool = False,
) -> Selection:
    """The rows with the highest (`order="top"`) or lowest scores that fit the budget; ties go by id.

    Rows without a finite score are never chosen. Of rows that say exactly the same only the best placed is kept, unless
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
    ranked = _ranked(scores, order)
    if not len(ranked):
        raise DataError(f"none of the {len(scores)} rows has a finite score: there is nothing to choose from")
    tokens = scores.column("response_tokens")
    most, most_tokens = Budget.parse(budget).resolve(len(scores), int(tokens.sum(dtype=np.int64)))
    by_tokens = Budget.parse(budget).unit == "tokens"
    cap = _cap(cap_per_source, most_tokens if by_tokens else most)
    in_tokens = by_tokens and "%" in str(cap_per_source)
    contents, (sources, names) = scores.column("content"), scores.codes("source")
    repeated = repeated_values(contents)
    chosen, seen, used = array("q"), bytearray(len(repeated) + 1), [0] * len(names)
    spent = duplicates = capped = 0
    for place, cost, source, copied in _candidates(ranked, tokens, sources, contents, repeated):
        if len(chosen) == most:
            break
        if cost > most_tokens:
            continue
        if not keep_duplicates and seen[copied]:
            duplicates += 1
            continue
        weight = cost if in_tokens else 1
        if cap is not None and used[source] + weight > cap:
            capped += 1
            continue
        if spent + cost > most_tokens:
            break
        chosen.append(place)
        seen[copied] = copied < len(repeated)
        used[source] += weight
        spent += cost
    if not chosen:
        raise DataError(f"no row fits the budget {budget!r}" + (f" with the cap {cap_per_source!r}" if capped else ""))
    notices = []
    if not by_tokens and len(chosen) < most:
        why = [f"{duplicates} duplicates"] * bool(duplicates) + [f"{capped} over the cap"] * bool(capped)
        why += [f"{n} without a finite score"] if (n := len(scores) - len(ranked)) else []
        notices.append(f"only {len(chosen)} of the {most} rows asked for could be chosen ({', '.join(why)})")
    return Selection(scores, np.array(chosen, dtype=np.int64), tuple(notices))


def _ranked(scores: ScoreTable, order: Order) -> npt.NDArray[np.int64]:
    """Places of the finite rows, best first."""
    direction = "descending" if order == "top" else "ascending"
    keys = [("score", direction), ("id", "ascending")]  # Arrow compares strings by code point, as Python does
    ranked = pc.sort_indices(scores.table.select(["score", "id"]), sort_keys=keys).to_numpy().view(np.int64)
    found: npt.NDArray[np.int64] = ranked[finite_rows(scores)[ranked]]
    return found


def _candidates(
    ranked: npt.NDArray[np.int64],
    tokens: npt.NDArray[np.int32],
    sources: npt.NDArray[np.integer],
    contents: npt.NDArray[np.uint64],
    repeated: npt.NDArray[np.uint64],
) -> Iterator[tuple[int, int, int, int]]:
    """(place, response tokens, number of the source, number among the `repeated` contents) by rank; the last is
    `len(repeated)` for rows that say what no other does."""
    for first in range(0, len(ranked), BLOCK):
        places = ranked[first : first + BLOCK]
        mine = contents[places]
        copied = np.searchsorted(repeated, mine)
        copied[~np.isin(mine, repeated)] = len(repeated)
        columns = (places, tokens[places], sources[places], copied)
        yield from zip(*(column.tolist() for column in columns), strict=True)


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
