"""Try out a handful of batches, the very way that a run takes them, and see what they cost."""

import math
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from prism.config import SelectConfig
from prism.data import Encoder, Pair, Pool, Row, Rows, Target, plan_batches
from prism.errors import RowError
from prism.model import Model
from prism.scoring import SHARD_ROWS, Chosen, Folder, ScoreTable, Shard, choose_engine, first_encoded, score_pool
from prism.target import Direction, MeasuredTarget, Objective, encode_pairs, measure_target, pair_lengths
from prism.target.weights import Floats

T = TypeVar("T", Row, Pair)
PILES = 5
LONG_ENOUGH = 10.0  # seconds of scoring, after which the machine's moods even out
TOO_LONG = 30.0


@dataclass(frozen=True)
class TargetTrial:
    measured: MeasuredTarget
    seconds: float  # for the whole target


@dataclass(frozen=True)
class Pass:
    """One scoring pass over a sample of `rows` rows in `batches` batches of `tokens` padded tokens.

    `start` is the time until the first shard is done, less what its rows cost; `token` what each padded token costs in
    the shards between the first, which nothing is read ahead of, and the last, beside which nothing is; `gather` what
    reading a shard back does. All in seconds.
    """

    scores: ScoreTable
    rows: int
    batches: int
    tokens: int
    seconds: float
    start: float
    token: float
    gather: float


class Watch:
    """Notes the time of whatever progress is reported."""

    def __init__(self) -> None:
        self.began = self.ready = time.monotonic()
        self.done: list[tuple[float, int]] = []

    def start(self, phase: str, rows: int) -> None:
        self.began = self.ready = time.monotonic()

    def note(self, message: str) -> None:
        self.ready = time.monotonic()

    def advance(self, rows: int, tokens: int) -> None:
        if tokens:
            self.done.append((time.monotonic(), tokens))


class TimedFolder(Folder):
    """Shards on disk, with the time at which each was there."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "trial")
        self.times: list[float] = []

    def put(self, number: int, shard: Shard) -> None:
        super().put(number, shard)
        self.times.append(time.monotonic())


@dataclass(frozen=True)
class Bench:
    """A model with all that it takes to try it out; what is written meanwhile lies in `scratch`."""

    model: Model
    encoder: Encoder
    config: SelectConfig
    scratch: Path
    objective: Objective = field(default_factory=Objective)

    def target(self, target: Target, part: Target, weighing: Floats | None = None) -> TargetTrial:
        """Measure `part` of a target, weighed as by `measure_target`, and tell from it how long all of it takes."""
        watch, began = Watch(), time.monotonic()
        measured = measure_target(
            self.model,
            part,
            self.encoder,
            objective=self.objective,
            weighing=weighing,
            batch_tokens=self.config.batch_tokens,
            progress=watch,
        )
        seconds = time.monotonic() - began
        tokens = sum(pair_lengths(encode_pairs(part, self.encoder)[1]))
        (first, first_tokens), (last, _) = watch.done[0], watch.done[-1]
        rate = (last - first) / (tokens - first_tokens) if len(watch.done) > 1 else (last - watch.began) / tokens
        return TargetTrial(measured, seconds + rate * tokens * (len(target) / len(part) - 1))

    def engine(self, pool: Pool, direction: Direction) -> Chosen:
        """The engine that a run takes for a pool."""
        probes = first_encoded(pool, self.encoder)
        norms, engine = self.config.gradient_norms, self.config.engine
        return choose_engine(self.model, [direction], norms=norms, probes=probes, engine=engine, rows=len(pool))

    def scoring(self, sample: Pool, direction: Direction, chosen: Chosen) -> tuple[float, list[Pass]]:
        """(padded tokens per row, passes) of a sample: the first pass warms up, the others take some seconds.

        They score as much of the sample as there is time for, spread as wide, dealt to a few shards of up to the usual
        size, and read ahead, scored and written as in a run.
        """
        tokens = max(1.0, sum(map(sum, self.plan(sample, SHARD_ROWS))) / len(sample))
        few = min(len(sample), max(1, math.ceil(self.config.batch_tokens / tokens)))
        passes = [self._pass(spread(sample, few), 1, direction, chosen)]
        affordable = TOO_LONG / (passes[0].token * tokens)
        rows = int(min(len(sample), max(PILES * few, affordable)))
        while sum(p.seconds for p in passes[1:]) < LONG_ENOUGH and len(passes) <= PILES:
            passes.append(self._pass(spread(sample, rows, PILES), PILES, direction, chosen))
        if rows < len(sample):
            self._pass(
                self._longest(sample, few), 1, direction, chosen
            )  # which may take more memory than any of the others
        return tokens, passes

    def plan(self, pool: Pool, shard_rows: int) -> list[list[int]]:
        """Padded tokens of each batch in which a pool would be scored, by shard."""
        shards: list[list[int]] = []
        for number, length in enumerate(self._lengths(pool)):
            if number % shard_rows == 0:
                shards.append([])
            shards[-1] += [length] * bool(length)
        plans = ((shard, plan_batches(shard, self.config.batch_tokens)) for shard in shards)
        return [[len(batch) * max(shard[i] for i in batch) for batch in plan] for shard, plan in plans]

    def _pass(self, part: Pool, piles: int, direction: Direction, chosen: Chosen) -> Pass:
        shard_rows = math.ceil(len(part) / piles)
        plan = self.plan(part, shard_rows)
        watch = Watch()
        with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
            store = TimedFolder(Path(folder) / "scores")
            scores = score_pool(
                self.model,
                part,
                direction,
                self.encoder,
                batch_tokens=self.config.batch_tokens,
                norms=self.config.gradient_norms,
                chosen=chosen,
                shard_rows=shard_rows,
                store=store,
                progress=watch,
            )
            ended = time.monotonic()
        tokens, times = [sum(shard) for shard in plan], store.times
        first, last = times[0], times[-1]
        between = (times[-2] - first) / sum(tokens[1:-1]) if len(tokens) > 2 else 0.0
        rate = between or (last - watch.ready) / sum(tokens)
        return Pass(
            scores=scores,
            rows=len(part),
            batches=sum(map(len, plan)),
            tokens=sum(tokens),
            seconds=last - watch.began,
            start=max(0.0, first - watch.began - rate * tokens[0]),
            token=rate,
            gather=(ended - last) / len(store.times),
        )

    def _lengths(self, pool: Pool) -> Iterator[int]:
        """Tokens of each row; 0 where it can't be encoded."""
        for row in pool:
            try:
                yield len(self.encoder.row(row))
            except RowError:
                yield 0

    def _longest(self, pool: Pool, count: int) -> Pool:
        lengths = list(self._lengths(pool))
        return pool.part(sorted(sorted(range(len(lengths)), key=lengths.__getitem__)[-count:]))


def spread(pool: Rows[T], count: int, piles: int = 1) -> Rows[T]:
    """`count` rows of a pool, evenly, dealt to so many piles."""
    return pool.part([i * len(pool) // count for i in range(count)], piles)
