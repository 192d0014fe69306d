"""The shards of a pool, read and tokenised one ahead of the model, through a scorer into a store."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

from prism.data import Encoded, Encoder, Pool, Row
from prism.errors import BadRow, RowError, stopped_at
from prism.progress import Progress
from prism.scoring.scorer import Advance, Scored
from prism.scoring.shards import Shard, ShardStore

PROBES = 32


@dataclass(frozen=True)
class Prepared:
    """The encoded rows of one shard, and those that can't be encoded."""

    rows: list[Row]
    encoded: list[Encoded]
    rejected: list[BadRow]


class RowScorer(Protocol):
    """What scores the rows of one shard after another: a `Scorer`, or a method without gradients."""

    def recall(self, notes: Mapping[str, Any]) -> None: ...

    def score_rows(self, rows: Sequence[Row], samples: Sequence[Encoded], advance: Advance) -> Scored: ...


def score_shards(
    pool: Pool,
    encoder: Encoder,
    store: ShardStore,
    make_scorer: Callable[[Sequence[Encoded]], RowScorer],
    make_shard: Callable[[Prepared, Scored], Shard],
    *,
    directions: int,
    shard_rows: int,
    progress: Progress,
) -> int:
    """Fill `store` with the shards that it lacks; returns how many rows were there.

    `make_scorer` gets samples on which an engine can prove itself.

    Raises:
        DataError: a bad row where the pool stops at those.
    """
    scorer: RowScorer | None = None
    notes: list[Mapping[str, Any]] = []
    reused = 0
    shards = math.ceil(len(pool) / shard_rows)
    with ThreadPoolExecutor(1) as worker:
        for number, ready in enumerate(_ahead(worker, _chunks(pool, shards, shard_rows), encoder, store)):
            if ready.rejected and pool.on_bad_row == "stop":
                raise stopped_at(ready.rejected[0])
            if isinstance(ready, Shard):
                reused += ready.rows
                if scorer is None:
                    notes.append(ready.notes)
                else:
                    scorer.recall(ready.notes)
                progress.advance(ready.rows, 0)
                continue
            scored = Scored.nothing(directions)
            if ready.encoded:
                if scorer is None:
                    probes = worker.submit(first_encoded, pool, encoder).result()  # a tokenizer bears but one thread
                    scorer = make_scorer(probes)
                    for note in notes:
                        scorer.recall(note)
                scored = scorer.score_rows(ready.rows, ready.encoded, progress.advance)
                for sentence in scored.said:
                    progress.note(sentence)
            progress.advance(len(ready.rejected), 0)
            store.put(number, make_shard(ready, scored))
    return reused


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


def first_encoded(pool: Pool, encoder: Encoder) -> list[Encoded]:
    """Samples on which the engine proves itself: the pool's first, so that a resumed run takes the same ones."""
    found: list[Encoded] = []
    for row in pool:
        with suppress(RowError):
            found.append(encoder.row(row))
        if len(found) == PROBES:
            break
    return found
