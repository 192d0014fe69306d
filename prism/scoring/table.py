"""The score table: one row per pool row, in the pool's order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from prism.data import Pool
from prism.errors import BadRow

# `index` is the row's place among all rows of the pool, bad ones counted; `loss` the summed response loss in nats;
# `score` g_z' H^-1 g_KL; `content` the 64 bits that identify what the row says.
SCHEMA = pa.schema(
    [
        ("index", pa.int64()),
        ("id", pa.string()),
        ("score", pa.float64()),
        ("loss", pa.float64()),
        ("tokens", pa.int32()),
        ("response_tokens", pa.int32()),
        ("gradient_norm", pa.float64()),
        ("source", pa.dictionary(pa.int32(), pa.string())),
        ("content", pa.uint64()),
        ("flag", pa.dictionary(pa.int8(), pa.string())),
    ]
)


@dataclass(frozen=True, repr=False)
class ScoreTable:
    """Scores of a pool, the rows that could not be scored, and the pool itself.

    Some 70 bytes and its id stay in memory of each row; strings become Python objects only where they are asked for.
    """

    table: pa.Table
    rejected: Sequence[BadRow]
    pool: Pool
    details: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __repr__(self) -> str:
        return f"ScoreTable({len(self)} rows scored, {len(self.rejected)} rejected)"

    def column(self, name: str) -> npt.NDArray[Any]:
        """One column of `SCHEMA`, [rows]."""
        if pa.types.is_dictionary(SCHEMA.field(name).type):
            codes, names = self.codes(name)
            return np.asarray(np.array(names, dtype=object)[codes])
        return np.asarray(self.table.column(name).to_numpy(zero_copy_only=False))

    def codes(self, name: str) -> tuple[npt.NDArray[np.integer[Any]], list[str]]:
        """(numbers [rows], what they stand for) of the column `source` or `flag`."""
        column = self.table.column(name).unify_dictionaries()
        codes = [chunk.indices.to_numpy() for chunk in column.chunks]
        return np.concatenate(codes), column.chunk(0).dictionary.to_pylist()

    def flagged(self, flag: str) -> npt.NDArray[np.bool_]:
        """Which rows carry `flag`, [rows]."""
        codes, names = self.codes("flag")
        return np.isin(codes, [number for number, name in enumerate(names) if name == flag])

    def ids(self, places: npt.ArrayLike) -> list[str]:
        """The ids at `places` in the table."""
        found: list[str] = self.table.column("id").take(pa.array(np.asarray(places, dtype=np.int64))).to_pylist()
        return found

    def to_pandas(self) -> Any:
        """A pandas DataFrame with the columns of `SCHEMA`."""
        return self.table.to_pandas()


def quantiles(values: npt.NDArray[Any], at: Sequence[float] = (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)) -> dict[str, float]:
    """Quantiles of the finite values, by name ("min", "5%", …, "max"); empty where there are none."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return {}
    names = {0: "min", 0.5: "median", 1: "max"}
    found = np.quantile(finite, at, overwrite_input=True)
    return {names.get(q, f"{q:.0%}"): float(value) for q, value in zip(at, found, strict=True)}


def repeated_values(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Those that occur more than once, each once, sorted."""
    ordered = np.sort(values)
    again = ordered[1:][ordered[1:] == ordered[:-1]]
    first = np.append(True, again[1:] != again[:-1])[: len(again)]
    return np.asarray(again[first])
