"""The streaming pass: a pool in, a score table out, shard by shard."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from prism.budget import BATCH_TOKENS
from prism.data import Encoded, Encoder, Pool
from prism.model import Model
from prism.progress import Progress, Silent
from prism.scoring.assemble import assemble
from prism.scoring.choose import Chosen, EngineName, choose_engine
from prism.scoring.feed import Prepared, score_shards
from prism.scoring.notes import Floats
from prism.scoring.scorer import Scored, Scorer
from prism.scoring.shards import SHARD_ROWS, Memory, Shard, ShardStore
from prism.scoring.table import SCHEMA, ScoreTable
from prism.target import Direction


def score_pool(
    model: Model,
    pool: Pool,
    direction: Direction,
    encoder: Encoder,
    *,
    batch_tokens: int = BATCH_TOKENS,
    norms: bool = False,
    engine: EngineName = "auto",
    chosen: Chosen | None = None,
    shard_rows: int = SHARD_ROWS,
    store: ShardStore | None = None,
    progress: Progress | None = None,
) -> ScoreTable:
    """Score every row of `pool` by the inner product of its loss gradient with `direction` (METHOD eq. 8).

    Shards of `shard_rows` pool rows are sorted by length and batched under `batch_tokens` padded tokens; the plan is a
    function of rows and arguments alone, and of the memory where that does not suffice. Shards that `store` has already
    are not computed again. The engine is chosen on the first samples, unless it is `chosen` already.

    Raises:
        DataError: a bad row where the pool stops at those, every row was rejected, or no score is finite.
        ConfigError: the engine can't give what is asked for.
    """
    store, progress = store or Memory(), progress or Silent()
    total = len(pool)
    progress.start("score", total)

    def make_scorer(probes: Sequence[Encoded]) -> Scorer:
        found = chosen or choose_engine(model, [direction], norms=norms, probes=probes, engine=engine, rows=total)
        progress.note(found.why)
        return Scorer(model, found, 1, batch_tokens)

    reused = score_shards(
        pool, encoder, store, make_scorer, plain_shard, directions=1, shard_rows=shard_rows, progress=progress
    )
    details = {"reused": reused, "good": total, "read": total + len(pool.rejected)}
    return assemble(store, math.ceil(total / shard_rows), pool, details)


def plain_shard(prepared: Prepared, scored: Scored) -> Shard:
    """A shard of the score table."""
    return Shard(scored_table(prepared, scored), prepared.rejected, scored.notes)


def scored_table(prepared: Prepared, scored: Scored) -> pa.Table:
    """The rows of a shard as `SCHEMA` has them, with their scores against the first direction."""
    finite = np.isfinite(scored.losses) & np.isfinite(scored.scores).all(1)
    return rows_table(prepared, scored, scored.scores[:, 0], finite, scored.losses)


def rows_table(
    prepared: Prepared, scored: Scored, score: Floats, finite: npt.NDArray[np.bool_], losses: Floats | pa.Array
) -> pa.Table:
    """The same with any score, [rows], what says whether it counts, and losses that may be null."""
    return pa.table(
        [
            [row.index for row in prepared.rows],
            [row.id for row in prepared.rows],
            score,
            losses,
            [len(e) for e in prepared.encoded],
            [e.response_tokens for e in prepared.encoded],
            pa.array(scored.norms, from_pandas=True),
            [row.source for row in prepared.rows],
            [int(row.content, 16) for row in prepared.rows],
            [_flag(e, ok, fits) for e, ok, fits in zip(prepared.encoded, finite, scored.fits, strict=True)],
        ],
        schema=SCHEMA,
    )


def _flag(encoded: Encoded, finite: bool, fits: bool) -> str:
    if not fits:
        return "too-long"
    if not finite:
        return "non-finite"
    return "truncated" if encoded.truncated else "ok"
