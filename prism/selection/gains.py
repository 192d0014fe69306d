"""What each pool row does to each target pair: the score matrix of a run, and the margins that it starts from."""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from prism.errors import RunError
from prism.scoring import PairScores

Floats = npt.NDArray[np.floating[Any]]
Turns = Literal["pair", "subtask"]


@dataclass(frozen=True)
class PairGains:
    """Scores of every pool row against every target pair, with what is known of the pairs.

    Attributes:
        margins: m_q = l(y-) - l(y+) of each pair [Q], nats per token, at the model as it was scored.
        weights: how much each pair counts in its subtask's score [Q].
        subtasks: the name of each pair's subtask; the stem of its file where it has none of its own.
        rejected: whether y- takes part in a subtask's score.
    """

    matrix: PairScores
    margins: npt.NDArray[np.float64]
    weights: npt.NDArray[np.float64]
    subtasks: list[str]
    rejected: bool = True

    @classmethod
    def of(
        cls, matrix: PairScores, target: pa.Table, weights: npt.NDArray[np.float64] | None = None, rejected: bool = True
    ) -> "PairGains":
        """Join a run's matrix with its target table; `weights` [Q] are the table's own unless given."""
        columns = ["id", "loss_chosen", "loss_rejected", "weight", "file", *({"subtask"} & {*target.column_names})]
        known = {row["id"]: row for row in target.select(columns).to_pylist()}
        pairs = [known[name] for name in matrix.pairs]
        margins = np.array([pair["loss_rejected"] - pair["loss_chosen"] for pair in pairs])
        own = np.array([pair["weight"] for pair in pairs]) if weights is None else weights
        return cls(matrix, margins, own, [p.get("subtask") or _stem(p["file"]) for p in pairs], rejected)

    @property
    def scratch(self) -> Path:
        """Where a strategy may put the matrix for as long as it needs it."""
        return self.matrix.path.parent

    def blocks(self) -> Iterator[Floats]:
        """The change of each pair's margin per unit of learning rate, S+_zq - S-_zq, [rows, Q] at a time."""
        for chosen, rejected in self.matrix.blocks():
            yield chosen - rejected

    def groups(self, turns: Turns) -> tuple[list[str], Iterator[Floats]]:
        """(names, their scores of every row [rows, groups] at a time): of each pair, or of each subtask, which is the
        weighted mean over its pairs."""
        names = list(self.matrix.pairs) if turns == "pair" else sorted(set(self.subtasks))
        return names, self._grouped(names if turns == "subtask" else None)

    def _grouped(self, subtasks: list[str] | None) -> Iterator[Floats]:
        mean = None
        if subtasks is not None:
            member = np.array([[own == name for name in subtasks] for own in self.subtasks], dtype=np.float64)
            mean = member * self.weights[:, None] / member.sum(0)
        for chosen, rejected in self.matrix.blocks():
            scores = chosen - rejected if self.rejected else chosen
            yield scores if mean is None else scores @ mean


def spill(blocks: Iterator[Floats], rows: int, width: int, folder: Path, *, across: bool = False) -> Floats:
    """Blocks [rows, width] as one float32 array, or [width, rows] with `across`, in an unnamed file in `folder`: it
    takes 4 bytes for each number on disk, and of the memory what the system can spare.

    Raises:
        RunError: the disk is full, or the blocks hold other than `rows` rows.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            _reserve(file, max(1, 4 * rows * width))
            found = np.memmap(file, dtype=np.float32, mode="r+", shape=(width, rows) if across else (rows, width))
            first = 0
            by_row = found.T if across else found
            for block in blocks:
                last = first + len(block)
                if last <= rows:
                    by_row[first:last] = block
                first = last
    except OSError as error:
        raise RunError(f"the pair scores don't fit on the disk of {folder}: {error}") from error
    if first != rows:
        raise RunError(f"the pair scores are not of the {rows} rows that were scored: prism select makes them again")
    return found


def _reserve(file: IO[bytes], size: int) -> None:
    """Take the room now: a full disk is an error here, but would kill the process once the file is mapped."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
    else:
        file.truncate(size)


def _stem(file: str) -> str:
    return Path(file).name.removesuffix(".gz").rsplit(".", 1)[0]
