"""The streaming pass: a pool in, a score table out, shard by shard."""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pyarrow as pa
import torch

from prism.data import Encoded, Encoder, Pool, Row, collate, plan_batches
from prism.errors import BadRow, RowError, stopped_at
from prism.model import Model
from prism.progress import Progress, Silent
from prism.scoring.assemble import assemble
from prism.scoring.choose import choose_engine
from prism.scoring.engine import BatchScores, Engine
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
    shard_rows: int = SHARD_ROWS,
    store: ShardStore | None = None,
    progress: Progress | None = None,
) -> ScoreTable:
    """Score every row of `pool` by the inner product of its loss gradient with `direction` (METHOD eq. 8).

    Shards of `shard_rows` pool rows are sorted by length and batched under `batch_tokens` padded tokens; the plan is a
    function of rows and arguments alone. Shards that `store` has already are not computed again.

    Raises:
        DataError: a bad row where the pool stops at those, every row was rejected, or no score is finite.
    """
    store, progress = store or Memory(), progress or Silent()
    engine: Engine | None = None
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
                progress.advance(ready.rows, 0)
                continue
            if engine is None and ready.encoded:
                probes = worker.submit(_probes, pool, encoder).result()  # a tokenizer bears one thread at a time
                engine, sentence = choose_engine(model, [direction], norms=norms, probes=probes)
                progress.note(sentence)
            store.put(number, _score_shard(model, engine, ready, batch_tokens, progress))
    details = {
        "engine": engine.name if engine else "stored",
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


def _score_shard(
    model: Model, engine: Engine | None, prepared: Prepared, batch_tokens: int, progress: Progress
) -> Shard:
    count = len(prepared.encoded)
    loss, score, norm = np.full(count, np.nan), np.full(count, np.nan), np.full(count, np.nan)
    for batch in plan_batches([len(e) for e in prepared.encoded], batch_tokens):
        assert engine is not None
        result = engine.score(collate([prepared.encoded[i] for i in batch]).to(model.device))
        loss[batch], score[batch], norm[batch] = _columns(result)
        progress.advance(len(batch), sum(len(prepared.encoded[i]) for i in batch))
    progress.advance(len(prepared.rejected), 0)
    finite = np.isfinite(loss) & np.isfinite(score)
    table = pa.table(
        [
            [row.index for row in prepared.rows],
            [row.id for row in prepared.rows],
            score,
            loss,
            [len(e) for e in prepared.encoded],
            [e.response_tokens for e in prepared.encoded],
            pa.array(norm, from_pandas=True),
            [row.source for row in prepared.rows],
            [int(row.content, 16) for row in prepared.rows],
            [_flag(e, ok) for e, ok in zip(prepared.encoded, finite, strict=True)],
        ],
        schema=SCHEMA,
    )
    return Shard(table, prepared.rejected)


def _columns(result: BatchScores) -> np.ndarray:
    norms = result.norms if result.norms is not None else torch.full_like(result.losses, torch.nan)
    stacked: np.ndarray = torch.stack([result.losses, result.scores[:, 0], norms]).double().cpu().numpy()
    return stacked


def _probes(pool: Pool, encoder: Encoder) -> list[Encoded]:
    """Samples on which the engine proves itself: the pool's first, so that a resumed run takes the same ones."""
    found: list[Encoded] = []
    for row in pool:
        with suppress(RowError):
            found.append(encoder.row(row))
        if len(found) == PROBES:
            break
    return found


def _flag(encoded: Encoded, finite: bool) -> str:
    if not finite:
        return "non-finite"
    return "truncated" if encoded.truncated else "ok"
