"""A baseline over a pool: shards in, a score table out, as `prism.scoring.stream` does it for gradients."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from prism.data import Encoded
from prism.methods.baselines.matrix import matrix_schema, take_turns, with_matrix
from prism.methods.baselines.rowwise import Floats
from prism.methods.baselines.table import Baseline
from prism.methods.context import Context, Options
from prism.scoring.assemble import assemble
from prism.scoring.feed import Prepared, RowScorer, score_shards
from prism.scoring.scorer import Scored
from prism.scoring.shards import SHARD_ROWS, Memory, Shard, ShardStore
from prism.scoring.stream import rows_table
from prism.scoring.table import ScoreTable


def score_baseline(
    baseline: Baseline,
    context: Context,
    options: Options | None = None,
    *,
    store: ShardStore | None = None,
    matrix: Callable[[pa.Schema], ShardStore] | None = None,
    shard_rows: int = SHARD_ROWS,
) -> ScoreTable:
    """Score every row of the pool; higher is better. Shards that `store` has already are not computed again.

    With round-robin the scores against each target, [rows, targets] in float32, wait in `matrix` (called with the
    schema of its tables) until all are there; the score is then minus the place in the round-robin order.

    Raises:
        DataError: no pair or no row can be used, or no score is finite.
        ConfigError: an option does not fit the baseline.
    """
    options, store, pool = options or Options(), store or Memory(), context.pool
    baseline.check(options)
    aggregate, total = baseline.aggregated(options), len(context.pool)
    shards = math.ceil(total / shard_rows)
    targets = len(context.pairs[0]) if aggregate == "round-robin" else 1
    into = store
    if aggregate == "round-robin":
        into = matrix(matrix_schema(targets)) if matrix else Memory()

    def make_scorer(_: Sequence[Encoded]) -> RowScorer:
        scorer = baseline.prepare(context, options)
        context.progress.start("score", total)
        return scorer

    def make_shard(prepared: Prepared, scored: Scored) -> Shard:
        score, losses = _reduced(scored.scores, aggregate), pa.array(scored.losses, from_pandas=True)
        table = rows_table(prepared, scored, score, np.isfinite(score), losses)
        table = with_matrix(table, scored.scores) if aggregate == "round-robin" else table
        return Shard(table, prepared.rejected, scored.notes)

    reused = score_shards(
        pool,
        context.words(),
        into,
        make_scorer,
        make_shard,
        directions=targets,
        shard_rows=shard_rows,
        progress=context.progress,
    )
    if aggregate == "round-robin":
        take_turns(into, store, shards, targets)
    details = {"reused": reused, "good": total, "read": total + len(pool.rejected)}
    return assemble(store, shards, pool, details)


def _reduced(scores: Floats, aggregate: str | None) -> Floats:
    """One score a row of those against single targets [n, K]; NaN where none is finite. Broken targets, which have no
    finite score, don't count."""
    finite = np.isfinite(scores)
    count = finite.sum(1)
    if aggregate == "max":
        found = np.where(finite, scores, -np.inf).max(1, initial=-np.inf)
    else:
        found = np.where(finite, scores, 0).sum(1) / np.maximum(count, 1)
    return np.where(count > 0, found, np.nan)
