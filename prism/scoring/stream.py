"""The streaming pass: a pool in, a score table out, shard by shard."""

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from prism.data import Encoded, Encoder, Pool, Row
from prism.errors import BadRow, RowError, stopped_at
from prism.model import Model
from prism.progress import Progress, Silent
from prism.scoring.assemble import assemble
from prism.scoring.choose import Chosen, EngineName, choose_engine
from prism.scoring.scorer import Scored, Scorer
from prism.scoring.shards import SHARD_ROWS, Memory, Shard, ShardStore
from prism.scoring.table import SCHEMA, ScoreTable
from prism.target import Direction

PROBES = 32


@dataclass(frozen=True)
class Prepared:
    """The encoded rows of one shard, and those that can't be encoded."""

    rows: list[Row]
    encoded: list[Encoded]
    rejected: list[BadRow]


def score_pool(
    model: Model,
    pool: Pool,
    direction: Direction,
    encoder: Encoder,
    *,
    batch_tokens: int = 8192,
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
    scorer: Scorer | None = None
    notes: list[Mapping[str, Any]] = []
    reused = 0
    total = len(pool)
    shards = math.ceil(total / shard_rows)
    progress.start("score", total)
    with ThreadPoolExecutor(1) as worker:
        for number, ready in enumerate(_ahead(worker, _chunks(pool, shards, shard_rows), encoder, store)):
            if ready.rejected and pool.on_bad_row == "stop":
                raise stopped_at(ready.rejected[0])
            if isinstance(ready, Shard):
                reused += ready.rows
                notes.append(ready.notes)
                progress.advance(ready.rows, 0)
                continue
            if scorer is None and ready.encoded:
                if chosen is None:
                    probes = worker.submit(first_encoded, pool, encoder).result()  # a tokenizer bears but one thread
                    chosen = choose_engine(model, [direction], norms=norms, probes=probes, engine=engine, rows=total)
                progress.note(chosen.why)
                scorer = Scorer(model, chosen, 1, batch_tokens)
                for note in notes:
                    scorer.recall(note)
            store.put(number, _score_shard(scorer, ready, progress))
    details: dict[str, object] = {
        "engine": scorer.engine.name if scorer else "stored",
        "error": scorer.error if scorer else None,
        "reused": reused,
        "good": total,
        "read": total + len(pool.rejected),
    }
    return assemble(store, shards, pool, details)


def _chunks(pool: Pool, count: int, size: int) -> Iterator[list[Row]]:
    rows = iter(pool)
    for _ in range(count):
        yield list(islice(rows, size))


def _ahead(
    worker: Executor, chunks: Iterator[list[Row]], encoder: Encoder, store: ShardStore
) -> Iterator[Shard | Prepared]:
    """Per shard what is stored, or what is to be scored: reading and tokenising run one shard ahead of the model."""

    def prepare(number: int) -> Shard | Prepared | None:
        rows = next(chunks, None)
        if rows is None:
            return None
        found = store.get(number)
        return found if found is not None and found.rows == len(rows) else _prepare(rows, encoder)

    number = 0
    upcoming = worker.submit(prepare, number)
    while (ready := upcoming.result()) is not None:
        number += 1
        upcoming = worker.submit(prepare, number)
        yield ready


def _prepare(rows: Sequence[Row], encoder: Encoder) -> Prepared:
    prepared = Prepared([], [], [])
    for row in rows:
        try:
            prepared.encoded.append(encoder.row(row))
            prepared.rows.append(row)
        except RowError as error:
            prepared.rejected.append(BadRow(row.file, row.line, str(error), row.id))
    return prepared


def _score_shard(scorer: Scorer | None, prepared: Prepared, progress: Progress) -> Shard:
    if scorer is None:  # nothing could be encoded so far
        scored = Scored(np.empty(0), np.empty((0, 1)), np.empty(0), np.empty(0, dtype=bool))
    else:
        scored = scorer.score(prepared.encoded, progress.advance)
        if "halved_from" in scored.notes:
            halved = scored.notes["batch_tokens"]
            progress.note(f"out of memory: batches of at most {halved} tokens from here on")
    progress.advance(len(prepared.rejected), 0)
    score = scored.scores[:, 0]
    finite = np.isfinite(scored.losses) & np.isfinite(score)
    table = pa.table(
        [
            [row.index for row in prepared.rows],
            [row.id for row in prepared.rows],
            score,
            scored.losses,
            [len(e) for e in prepared.encoded],
            [e.response_tokens for e in prepared.encoded],
            pa.array(scored.norms, from_pandas=True),
            [row.source for row in prepared.rows],
            [int(row.content, 16) for row in prepared.rows],
            [_flag(e, ok, fits) for e, ok, fits in zip(prepared.encoded, finite, scored.fits, strict=True)],
        ],
        schema=SCHEMA,
    )
    return Shard(table, prepared.rejected, scored.notes)


def first_encoded(pool: Pool, encoder: Encoder) -> list[Encoded]:
    """Samples on which the engine proves itself: the pool's first, so that a resumed run takes the same ones."""
    found: list[Encoded] = []
    for row in pool:
        with suppress(RowError):
            found.append(encoder.row(row))
        if len(found) == PROBES:
            break
    return found


def _flag(encoded: Encoded, finite: bool, fits: bool) -> str:
    if not fits:
        return "too-long"
    if not finite:
        return "non-finite"
    return "truncated" if encoded.truncated else "ok"
