"""One checkpoint of a recipe: a pass over the pool against a direction for each group of the target."""

import math
from collections.abc import Callable, Sequence

import pyarrow as pa

from prism.budget import BATCH_TOKENS
from prism.data import Encoded, Encoder, Pool
from prism.errors import ConfigError
from prism.methods.baselines.matrix import matrix_schema, with_matrix
from prism.methods.recipe import Recipe
from prism.model import Model
from prism.progress import Progress, Silent
from prism.scoring import SHARD_ROWS, Chosen, EngineName, Shard, ShardStore, choose_engine
from prism.scoring.choose import stacked
from prism.scoring.feed import Prepared, score_shards
from prism.scoring.mapped import CandidateMap, mapped_engine
from prism.scoring.scorer import Scored, Scorer
from prism.scoring.stream import scored_table
from prism.target import Direction

DOUBLE = pa.float64()


def raw_schema(groups: int) -> pa.Schema:
    """Of a shard of `score_groups`: the score table, and the products with each direction in `groups`."""
    return matrix_schema(groups, DOUBLE)


def score_groups(
    recipe: Recipe,
    model: Model,
    pool: Pool,
    directions: Sequence[Direction],
    encoder: Encoder,
    store: ShardStore,
    *,
    mapping: CandidateMap | None,
    weight: float,
    norms: bool = False,
    engine: EngineName = "auto",
    batch_tokens: int = BATCH_TOKENS,
    shard_rows: int = SHARD_ROWS,
    progress: Progress | None = None,
) -> int:
    """Fill `store` with <Gamma(grad L_z), v_k> and the norms that the recipe needs; returns how many rows were there.

    Without a `mapping` L_z is the summed loss, and the engine is chosen as for any pass; with one, gradients are
    formed, of the loss that the recipe names. The notes of every shard say what `combine` needs of the checkpoint: its
    `weight` and the `lengths` of the directions.

    Raises:
        ConfigError: the engine can't give what the recipe needs.
        ModelError: a parameter can't be mapped.
    """
    progress = progress or Silent()
    norms = norms or recipe.normalise == "cosine"
    if mapping is not None and engine == "forward":
        raise ConfigError(f"the method {recipe.name} maps sample gradients: --engine forward forms none")
    lengths = [direction.norm() for direction in directions]

    def make_shard(prepared: Prepared, scored: Scored) -> Shard:
        return raw_shard(prepared, scored, weight, lengths)

    return score_candidates(
        recipe,
        model,
        pool,
        directions,
        encoder,
        store,
        make_shard,
        mapping=mapping,
        norms=norms,
        engine=engine,
        batch_tokens=batch_tokens,
        shard_rows=shard_rows,
        progress=progress,
    )


def score_candidates(
    recipe: Recipe,
    model: Model,
    pool: Pool,
    directions: Sequence[Direction],
    encoder: Encoder,
    store: ShardStore,
    make_shard: Callable[[Prepared, Scored], Shard],
    *,
    mapping: CandidateMap | None,
    norms: bool,
    engine: EngineName,
    batch_tokens: int,
    shard_rows: int = SHARD_ROWS,
    progress: Progress,
) -> int:
    """Fill `store` with what `make_shard` makes of products of directions with candidates, mapped as a recipe has it;
    returns how many rows were there, and raises as `score_groups`."""

    def make_scorer(probes: Sequence[Encoded]) -> Scorer:
        if mapping is None:
            chosen = choose_engine(model, directions, norms=norms, probes=probes, engine=engine, rows=len(pool))
        else:
            mean = recipe.candidate_loss == "mean"
            v = stacked(model, directions)
            chosen = Chosen(*mapped_engine(model, v, mapping, mean_loss=mean, norms=norms, probes=probes))
        progress.note(chosen.why)
        return Scorer(model, chosen, len(directions), batch_tokens)

    progress.start("score", len(pool))
    return score_shards(
        pool,
        encoder,
        store,
        make_scorer,
        make_shard,
        directions=len(directions),
        shard_rows=shard_rows,
        progress=progress,
    )


def raw_shard(prepared: Prepared, scored: Scored, weight: float, lengths: Sequence[float]) -> Shard:
    """A shard of `raw_schema`, whose notes say what its checkpoint weighs and how long the directions are."""
    table = with_matrix(scored_table(prepared, scored), scored.scores, DOUBLE)
    return Shard(table, prepared.rejected, {**scored.notes, "weight": weight, "lengths": list(lengths)})


def complete(store: ShardStore, rows: int, shard_rows: int = SHARD_ROWS) -> bool:
    """Whether every shard of a pool of so many rows is in `store`."""
    found = (store.get(number) for number in range(math.ceil(rows / shard_rows)))
    return sum(shard.rows if shard else -rows - 1 for shard in found) == rows
