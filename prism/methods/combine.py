"""From the products at each checkpoint to one score a row: the arithmetic of a recipe."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from prism.errors import RunError
from prism.methods.baselines.matrix import GROUPS, matrix_of, take_turns, with_matrix
from prism.methods.passes import DOUBLE
from prism.methods.recipe import Recipe
from prism.scoring import Shard, ShardStore
from prism.scoring.notes import Floats
from prism.scoring.table import SCHEMA

WORST = ("too-long", "non-finite", "truncated", "ok")  # the flag that counts, of several


def normalised(recipe: Recipe, products: Floats, norms: Floats, tokens: Floats, lengths: Floats) -> Floats:
    """Scores [n, K] at one checkpoint.

    Args:
        products: <Gamma(grad L_z), v_k> [n, K], L_z the summed loss where Gamma is the identity.
        norms: ||Gamma(grad L_z)|| [n]; only cosines need them. A gradient of zero has a cosine of zero.
        tokens: response tokens [n]; lengths: ||v_k|| [K].
    """
    if recipe.normalise == "cosine":  # what a mean loss is divided by divides both sides
        sizes = norms[:, None] * lengths
        return np.divide(products, sizes, out=np.where(sizes == 0, 0.0, np.nan), where=sizes > 0)
    mean = recipe.candidate_loss == "mean" and recipe.candidate_map == "identity"
    times = mean + (recipe.normalise == "token")
    return products / tokens[:, None] ** times


def aggregated(recipe: Recipe, groups: Floats) -> Floats:
    """One score a row of those for each group [n, K]; round-robin needs all rows, and is left to `take_turns`."""
    return np.asarray(groups.max(1) if recipe.aggregate == "subtask-max" else groups.mean(1))


def combine(
    recipe: Recipe, checkpoints: Sequence[ShardStore], shards: int, store: ShardStore, waiting: ShardStore | None
) -> None:
    """Fill `store` with the score table of a recipe from the shards of its checkpoints (`score_groups`).

    Losses, and norms where there is but one checkpoint, are those of the last. Scores for each group [rows, K] go to
    `waiting`, with the score table, where there is one.

    Raises:
        RunError: the checkpoints' shards are not of the same rows, or one is gone.
    """
    groups = 0
    for number in range(shards):
        found = [_found(checkpoint, number) for checkpoint in checkpoints]
        groups = matrix_of(found[-1].table).shape[1]
        matrix = _summed(recipe, found)
        table = _table(found, aggregated(recipe, matrix), single=len(checkpoints) == 1)
        notes = {key: value for key, value in found[-1].notes.items() if key in ("engine", "batch_tokens")}
        differences = [shard.notes["difference"] for shard in found if "difference" in shard.notes]
        if differences:
            notes["difference"] = np.sum(differences, 0).tolist()
        if waiting is not None:
            waiting.put(number, Shard(with_matrix(table, matrix, DOUBLE), found[-1].rejected, notes))
        if recipe.aggregate != "subtask-round-robin":
            store.put(number, Shard(table, found[-1].rejected, notes))
    if recipe.aggregate == "subtask-round-robin":
        assert waiting is not None
        take_turns(waiting, store, shards, groups)


def _summed(recipe: Recipe, shards: Sequence[Shard]) -> Floats:
    """sum_c eta_c n(<Gamma(grad L_z), v_k>) [n, K]; NaN where any of them is."""
    total = np.zeros(matrix_of(shards[-1].table).shape)
    for shard in shards:
        if not shard.table.column("index").equals(shards[-1].table.column("index")):
            raise RunError("the rows of two checkpoints are not the same: did the pool change?")
        norms, tokens = (_column(shard.table, name) for name in ("gradient_norm", "response_tokens"))
        products = matrix_of(shard.table).astype(np.float64)
        scores = normalised(recipe, products, norms, tokens, np.array(shard.notes["lengths"]))
        total += shard.notes["weight"] * scores
    return total


def _table(shards: Sequence[Shard], score: Floats, single: bool) -> pa.Table:
    """The score table of the last checkpoint with the recipe's scores, and the worst flag of all checkpoints."""
    table = shards[-1].table.drop_columns([GROUPS])
    flags = np.array([shard.table.column("flag").to_pylist() for shard in shards], dtype=object)
    ranks = {name: rank for rank, name in enumerate(WORST)}
    worst = [WORST[min((ranks[flag] for flag in row), default=len(WORST) - 1)] for row in flags.T]
    worst = [
        "non-finite" if flag in ("ok", "truncated") and not ok else flag
        for flag, ok in zip(worst, np.isfinite(score), strict=True)
    ]
    columns = {"score": pa.array(score), "flag": pa.array(worst, pa.string()).cast(SCHEMA.field("flag").type)}
    if not single:
        columns["gradient_norm"] = pa.nulls(len(score), pa.float64())
    for name, values in columns.items():
        table = table.set_column(SCHEMA.get_field_index(name), SCHEMA.field(name), values)
    return table


def _column(table: pa.Table, name: str) -> npt.NDArray[np.float64]:
    return np.asarray(table.column(name).to_numpy(zero_copy_only=False), dtype=np.float64)


def _found(store: ShardStore, number: int) -> Shard:
    shard = store.get(number)
    if shard is None:
        raise RunError("a shard of scores that was just written can't be read back: is the disk sound?")
    return shard
