"""Scores of a pool against each side of each target pair: an exact store that makes every re-weighting free.

With H = I, or any other linear solve, the score under pair weights w is `(1/|Q|) sum_q w_q (S+_q - S-_q)`.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from prism.curvature import Curvature
from prism.data import Encoded, Encoder, Pool
from prism.model import Model
from prism.progress import Progress
from prism.scoring.choose import Chosen, backward_engine
from prism.scoring.feed import Prepared, score_shards
from prism.scoring.narrow import size_of
from prism.scoring.pairs import LEFT_OUT
from prism.scoring.scorer import Scored, Scorer
from prism.scoring.shards import SHARD_ROWS, Folder, Shard, ShardStore
from prism.target.losses import EncodedPair
from prism.target.pairs import pair_gradients


@dataclass(frozen=True)
class Tiling:
    """Which pairs are scored in one pass over the pool: as many as `memory` bytes hold the directions of."""

    pairs: int
    bytes_each: int
    together: int

    @classmethod
    def plan(cls, model: Model, pairs: int, memory: int) -> "Tiling":
        each = 2 * sum(p.numel() * p.element_size() for p in model.parameters.values())
        return cls(pairs, each, max(1, min(pairs, memory // each)))

    @property
    def bytes(self) -> int:
        """Of the directions that are held at once."""
        return self.together * self.bytes_each

    def tiles(self) -> Iterator[tuple[slice, str, pa.Schema]]:
        """(the pairs of a tile, its folder's name, the schema of its shards) in turn."""
        for number, start in enumerate(range(0, self.pairs, self.together)):
            stop = min(start + self.together, self.pairs)
            yield slice(start, stop), f"tile-{number:04d}", _schema(stop - start)

    def __str__(self) -> str:
        passes = math.ceil(self.pairs / self.together)
        return (
            f"{2 * self.pairs} directions of {self.pairs} pairs, {self.pairs * self.bytes_each / 1e9:.2g} GB in all: "
            f"{passes} {'pass' if passes == 1 else 'passes'} over the pool with {self.together} pairs at a time"
        )


def score_pairs(
    model: Model,
    pool: Pool,
    pairs: Sequence[EncodedPair],
    encoder: Encoder,
    curvature: Curvature,
    *,
    folder: Path,
    fingerprint: str,
    tiling: Tiling,
    batch_tokens: int,
    progress: Progress,
    shard_rows: int = SHARD_ROWS,
) -> None:
    """Write tile after tile of the matrix into `folder`, each a folder of shards with the columns `index`, `chosen` and
    `rejected` (one float32 per pair of the tile). Shards that are there already are not computed again. A pair that is
    too long for the memory beside the directions is noted by the shards, and `gather` leaves it out."""
    progress.note(str(tiling))
    for tile, name, schema in tiling.tiles():
        store = Folder(folder / name, fingerprint, schema)
        progress.start("pairs", len(pool))
        _score_tile(model, pool, pairs[tile], encoder, curvature, store, batch_tokens, progress, shard_rows)


@dataclass(frozen=True)
class PairDirections:
    """Parameter name → [2 * pairs, *shape]: the directions of all y+, then those of all y-, divided by `sizes`
    [2 * pairs]; `fits` [pairs]: false for a pair that is too long for the memory, whose directions are zero."""

    tensors: dict[str, torch.Tensor]
    sizes: torch.Tensor
    fits: npt.NDArray[np.bool_]


def pair_directions(model: Model, pairs: Sequence[EncodedPair], curvature: Curvature) -> PairDirections:
    """The solved gradients of each side of each pair, in the parameters' own types."""
    count = len(pairs)
    v = {n: torch.zeros(2 * count, *p.shape, dtype=p.dtype, device=p.device) for n, p in model.parameters.items()}
    sizes, fits = torch.ones(2 * count, device=model.device), np.ones(count, dtype=bool)
    for place, sides in enumerate(pair_gradients(model, pairs)):
        if sides is None:
            fits[place] = False
            continue
        for row, gradient in zip((place, count + place), sides, strict=True):
            solved = curvature.solve(gradient)
            size = size_of(model, solved.norm() ** 2)
            sizes[row] = size
            for name, tensor in solved.tensors.items():
                v[name][row] = tensor / size
    return PairDirections(v, sizes, fits)


def _score_tile(
    model: Model,
    pool: Pool,
    pairs: Sequence[EncodedPair],
    encoder: Encoder,
    curvature: Curvature,
    store: ShardStore,
    batch_tokens: int,
    progress: Progress,
    shard_rows: int,
) -> None:
    count = len(pairs)
    left_out: list[int] = []

    def make_scorer(probes: Sequence[Encoded]) -> Scorer:
        v = pair_directions(model, pairs, curvature)
        left_out.extend(np.flatnonzero(~v.fits).tolist())
        if left_out:
            progress.note(f"{len(left_out)} pairs are too long for the memory: they are left out of the pair scores")
        engine, why = backward_engine(model, v.tensors, norms=False, probes=probes, sizes=v.sizes)
        progress.note(why)
        return Scorer(model, Chosen(engine, why), 2 * count, batch_tokens)

    def make_shard(prepared: Prepared, scored: Scored) -> Shard:
        sides = (scored.scores[:, :count], scored.scores[:, count:])
        columns = [pa.FixedSizeListArray.from_arrays(s.astype(np.float32).ravel(), count) for s in sides]
        index = pa.array([row.index for row in prepared.rows], pa.int64())
        table = pa.Table.from_arrays([index, *columns], schema=_schema(count))
        return Shard(table, prepared.rejected, {**scored.notes, LEFT_OUT: left_out})

    score_shards(
        pool, encoder, store, make_scorer, make_shard, directions=2 * count, shard_rows=shard_rows, progress=progress
    )


def _schema(pairs: int) -> pa.Schema:
    side = pa.list_(pa.field("element", pa.float32()), pairs)
    return pa.schema([("index", pa.int64()), ("chosen", side), ("rejected", side)])
