"""What shards say of how they were scored: by which engine, how near to the exact scores, in batches of which size."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


class Notes:
    """Those of all shards so far."""

    def __init__(self) -> None:
        self._engines: dict[str, None] = {}
        self._squares = np.zeros(2)

    def add(self, notes: Mapping[str, Any]) -> None:
        if "engine" in notes:
            self._engines[notes["engine"]] = None
        self._squares = self._squares + notes.get("difference", 0)

    def error_with(self, squares: Floats) -> float:
        """Root of the mean squared difference from the exact scores over that of the scores, with these added; infinite
        where it is not a number."""
        difference, size = self._squares + squares
        error = math.sqrt(difference / size) if size else math.inf if difference else 0.0
        return math.inf if math.isnan(error) else error

    def told(self) -> dict[str, Any]:
        """`engine`: in the order in which they scored; `error`: of the inexact one, as a share of the scores."""
        error = self.error_with(np.zeros(2)) if self._squares[1] else None
        return {"engine": ", then ".join(self._engines) or "unknown", "error": error}
