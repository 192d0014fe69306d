"""The score table: one row per pool row, in the pool's order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from prism.data import Pool
from prism.errors import BadRow

# `loss` is the summed response loss in nats; `score` g_z' H^-1 g_KL; `content` identifies what the row says.
SCHEMA = pa.schema(
    [
        ("index", pa.int64()),
        ("id", pa.string()),
        ("score", pa.float64()),
        ("loss", pa.float64()),
        ("tokens", pa.int32()),
        ("response_tokens", pa.int32()),
        ("gradient_norm", pa.float64()),
        ("source", pa.string()),
        ("content", pa.string()),
        ("flag", pa.string()),
    ]
)


@dataclass(frozen=True, repr=False)
class ScoreTable:
    """Scores of a pool, the rows that could not be scored, and the pool itself."""

    table: pa.Table
    rejected: list[BadRow]
    pool: Pool
    details: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __repr__(self) -> str:
        return f"ScoreTable({len(self)} rows scored, {len(self.rejected)} rejected)"

    def column(self, name: str) -> npt.NDArray[Any]:
        """One column of `SCHEMA`, [rows]."""
        return np.asarray(self.table.column(name).to_numpy(zero_copy_only=False))

    def to_pandas(self) -> Any:
        """A pandas DataFrame with the columns of `SCHEMA`."""
        return self.table.to_pandas()


def quantiles(values: npt.NDArray[Any], at: Sequence[float] = (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)) -> dict[str, float]:
    """Quantiles of the finite values, by name ("min", "5%", …, "max"); empty where there are none."""
    finite = values[np.isfinite(values)]
    names = {0: "min", 0.5: "median", 1: "max"}
    return {names.get(q, f"{q:.0%}"): float(np.quantile(finite, q)) for q in at} if len(finite) else {}
