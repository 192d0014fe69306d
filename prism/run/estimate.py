"""What a run will take, from a handful of its batches: `prism select --dry-run`."""

import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from prism.budget import Budget
from prism.config import SelectConfig
from prism.data import Pool
from prism.methods.recipe import Recipe
from prism.progress import Progress, Silent
from prism.run.clock import Clock
from prism.run.curvature import is_fitted, kind_of
from prism.run.curvature_trial import try_curvature
from prism.run.elsewhere import elsewhere
from prism.run.folder import PAIR_SCORES, RunFiles, unwritable
from prism.run.method_trial import parts_done, try_method
from prism.run.pair_trial import try_pairs
from prism.run.pairs import require_pair_scores
from prism.run.prepare import Job, load, open_job
from prism.run.provenance import MACHINE
from prism.run.select import load_in, stored_run
from prism.run.summary import peak_memory_mb, resident_memory_mb
from prism.run.trial import PILES, Bench, spread
from prism.scoring import SHARD_ROWS, ScoreTable
from prism.sealed import seal
from prism.selection import select
from prism.target import MeasuredTarget, Objective

SAMPLE = PILES * SHARD_ROWS  # rows of the pool that are looked at
PAIRS = 128
READING_BYTES = 50  # of memory that telling ids apart takes for each row of the pool
RANKING_BYTES = 40  # of memory that ranking takes for each scored row, beside the table
SELECTED = "selected.jsonl"
Figures = dict[str, Any]


def estimate_run(config: SelectConfig, progress: Progress | None = None) -> Figures:
    """JSON-ready figures of what `run_select` with this config will take: seconds by phase, memory, bytes on disk.

    Pool and target are read once, as the run does; a spread sample of both is measured with the real model. What the
    run folder holds already is counted as done, and nothing is written there.

    Raises:
        PrismError: what the run itself would refuse before its last phase.
    """
    progress, clock = progress or Silent(), Clock()
    config = config.absolute()
    job = open_job(config)
    folder = RunFiles(Path(config.out))
    with _scratch(folder.path) as scratch:
        with clock.phase("reading"):
            this = job.identity()
            folder.check(this, but=MACHINE if folder.finished else ())
            require_pair_scores(job, folder)
            stored = stored_run(folder, job.pool)
        if stored is not None and not _lacks_pair_scores(config, folder):
            return _selection_only(config, folder, *stored, clock, scratch)
        folder.check(this)
        progress.note("reading pool and target")
        with clock.phase("reading"):
            job.require_data()
        if not (isinstance(job.method, Recipe) and job.method.plain):
            return _by_trial(job, this, folder, clock, scratch, progress)
        return _all_phases(job, folder, clock, scratch, progress)


def _selection_only(
    config: SelectConfig, folder: RunFiles, measured: MeasuredTarget, scores: ScoreTable, clock: Clock, scratch: Path
) -> Figures:
    """Of a run whose scores are all there: selecting once more takes so little that it is done, elsewhere."""
    with clock.phase("selection"):
        select(scores, gains=folder.gains(measured), **config.stage("selection")).save(scratch / SELECTED)
    rows = {"good": scores.details["good"], "rejected": len(scores.rejected), "stored": scores.details["good"]}
    disk = {
        "scores": sum(file.stat().st_size for file in Path(config.out).glob("scores/*.parquet")),
        "direction": _direction_bytes(measured),
        "selected": (scratch / SELECTED).stat().st_size,
        "rejected": (Path(config.out) / "rejected.jsonl").stat().st_size,
    }
    return {
        "rows": rows,
        "pairs": measured.table.num_rows,
        "measured": dict.fromkeys(("rows", "batches", "tokens", "seconds"), 0),
        "engine": scores.details["engine"],
        **_totals(clock, peak_memory_mb(), disk, scratch),
    }


def _all_phases(job: Job, folder: RunFiles, clock: Clock, scratch: Path, progress: Progress) -> Figures:
    config, good = job.config, len(job.pool)
    with clock.phase("loading"):
        model, encoder = load(job.scored, progress)
    objective = job.method.objective if isinstance(job.method, Recipe) else Objective()
    bench = Bench(model, encoder, config, scratch, objective)
    progress.note("measuring a sample of target and pool")
    measured = _try_target(job, folder, bench, clock, progress)
    read = clock.phases["reading"] / (good + len(job.pool.rejected))
    sample, picking = _sample(job.pool, config.seed)
    direction, began = measured.direction, time.monotonic()
    chosen = bench.engine(job.pool, direction)
    choosing = time.monotonic() - began
    progress.note(chosen.why)
    tokens, passes = bench.scoring(sample, direction, chosen)
    token, scores = float(np.mean([p.token for p in passes[1:]])), passes[-1].scores
    shards = [folder.shards().get(number) for number in range(-(-good // SHARD_ROWS))]
    stored = sum(shard.rows for shard in shards if shard is not None)
    todo = choosing + passes[0].start + (good - stored) * tokens * token + stored * read
    clock.phases["scoring"] = len(shards) * passes[-1].gather + (0 if folder.finished and stored == good else todo)
    count = _count(config, scores, good)
    each, size = _try_selection(config, scores, count / good, scratch)
    clock.phases["selection"] = max(0.0, picking - len(sample) * read) + good * each
    ranking = resident_memory_mb() + (good * (scores.table.nbytes / len(scores) + RANKING_BYTES)) / (1 << 20)
    memory = max(peak_memory_mb() + (good * READING_BYTES) / (1 << 20), ranking)
    rejected = (row for rows in (job.target.rejected, job.pool.rejected) for row in rows)
    disk = {
        "scores": _shard_bytes(scores, good, scratch),
        "direction": _direction_bytes(measured),
        "selected": round(count * size),
        "rejected": sum(len(json.dumps(row.as_json())) + 1 for row in rejected),
    }
    if (kind := kind_of(job)) not in ("identity", "adam") and config.curvature_from is None:
        fit = try_curvature(bench, sample, kind, good, direction)
        progress.note(fit.about)
        clock.phases["curvature"] = 0.0 if is_fitted(job, folder, model, kind) else fit.seconds
        disk["curvature"] = fit.stored
        memory += fit.held >> 20
    if _lacks_pair_scores(config, folder):
        pairs = try_pairs(bench, sample, job.target)
        progress.note(pairs.passes)
        clock.phases["pairs"] = pairs.directions + good * pairs.each
        disk["pair scores"] = 8 * good * len(job.target)
        memory += pairs.held >> 20
    return {
        "rows": {"good": good, "rejected": len(job.pool.rejected), "stored": stored},
        "pairs": len(job.target),
        "measured": {
            "rows": sum(p.rows for p in passes),
            "batches": sum(p.batches for p in passes),
            "tokens": sum(p.tokens for p in passes),
            "seconds": round(sum(p.seconds for p in passes), 2),
        },
        "engine": scores.details["engine"],
        **_totals(clock, round(memory), disk, scratch),
    }


def _by_trial(
    job: Job, this: dict[str, Any], folder: RunFiles, clock: Clock, scratch: Path, progress: Progress
) -> Figures:
    """Of a method that takes more than one plain pass: it is run on parts of the pool, and the line through them
    prolonged."""
    config, good = job.config, len(job.pool)
    progress.note(f"measuring {job.method.name} on a sample of the pool")
    sample, _ = _sample(job.pool, config.seed)
    pairs, of_all = job.target, 1.0
    if isinstance(job.method, Recipe) and job.method.aggregate == "mean" and len(pairs) > PAIRS:
        pairs, of_all = spread(pairs, PAIRS), len(pairs) / PAIRS
    loaded = cache(lambda: load_in(job, clock, progress))
    trial = try_method(replace(job, target=pairs), this, loaded, sample, scratch)
    scores, shards = trial.large.scores, -(-good // SHARD_ROWS)
    done = parts_done(job, folder.path, shards)
    for name, seconds in trial.seconds(good).items():
        times = {"scoring": 1 - done, "target": of_all}.get(name, 1.0)
        clock.phases[name] = clock.phases.get(name, 0.0) + seconds * times
    count = _count(config, scores, good)
    each, size = _try_selection(config, scores, count / good, scratch)
    clock.phases["selection"] = good * each
    rejected = (row for rows in (job.target.rejected, job.pool.rejected) for row in rows)
    disk = {
        **trial.disk(good),
        "selected": round(count * size),
        "rejected": sum(len(json.dumps(row.as_json())) + 1 for row in rejected),
    }
    ranking = resident_memory_mb() + (good * (scores.table.nbytes / len(scores) + RANKING_BYTES)) / (1 << 20)
    return {
        "rows": {"good": good, "rejected": len(job.pool.rejected), "stored": int(done * good)},
        "pairs": len(job.target),
        "measured": {
            "rows": 2 * trial.small.rows + trial.large.rows * (trial.large is not trial.small),
            "batches": trial.counted.batches,
            "tokens": trial.counted.tokens,
            "seconds": round(sum(trial.small.phases.values()) + sum(trial.large.phases.values()), 2),
        },
        "engine": scores.details["engine"],
        **_totals(clock, round(max(peak_memory_mb() + (good * READING_BYTES) / (1 << 20), ranking)), disk, scratch),
    }


def _lacks_pair_scores(config: SelectConfig, folder: RunFiles) -> bool:
    return config.pair_scores and not (folder.path / PAIR_SCORES).exists()


def _totals(clock: Clock, memory: int, disk: dict[str, int], scratch: Path) -> Figures:
    device = torch.cuda.max_memory_reserved() >> 20 if torch.cuda.is_available() else None
    phases = {name: round(seconds, 2) for name, seconds in clock.phases.items()}
    return {
        "seconds": round(sum(clock.phases.values()), 2),
        "phases": phases,
        "peak_memory_mb": memory,
        "device_memory_mb": device,
        "disk_bytes": {**disk, "total": sum(disk.values()), "free": shutil.disk_usage(scratch).free},
        "dry_run_seconds": round(clock.total, 2),
    }


def _try_target(job: Job, folder: RunFiles, bench: Bench, clock: Clock, progress: Progress) -> MeasuredTarget:
    with clock.phase("target"):
        stored = folder.load_target()
    if stored is not None:
        return stored
    part = spread(job.target, min(PAIRS, len(job.target)))
    began = time.monotonic()
    other = elsewhere(replace(job, target=part), bench.encoder, progress)
    asked = time.monotonic() - began + other.seconds * (len(job.target) / len(part) - 1)
    trial = bench.target(job.target, part, other.weighing)
    clock.phases["target"] = asked + trial.seconds
    return trial.measured


def _sample(pool: Pool, seed: int) -> tuple[Pool, float]:
    """Rows from all over a pool, one at random out of each of so many equal parts, and the seconds it took."""
    began = time.monotonic()
    read = len(pool) + len(pool.rejected)
    count = min(SAMPLE, read)
    places = ((np.arange(count) + np.random.default_rng(seed).random(count)) * (read / count)).astype(np.int64)
    sample = pool.part(np.unique(places).tolist())
    return sample if len(sample) else pool, time.monotonic() - began


def _count(config: SelectConfig, scores: ScoreTable, good: int) -> int:
    """How many rows the budget will take."""
    budget = Budget.parse(config.budget)
    if budget.unit == "tokens":
        return max(1, min(good, int(float(budget.amount) / scores.column("response_tokens").mean())))
    return budget.resolve(good, 0)[0]


def _try_selection(config: SelectConfig, scores: ScoreTable, share: float, scratch: Path) -> tuple[float, float]:
    """(seconds for each scored row, bytes for each chosen one) of a selection."""
    began = time.monotonic()
    selection = select(scores, budget=f"{max(1e-6, 100 * share):f}%", order=config.order, keep_duplicates=True)
    selection.save(scratch / SELECTED)
    return (time.monotonic() - began) / len(scores), (scratch / SELECTED).stat().st_size / len(selection)


def _shard_bytes(scores: ScoreTable, good: int, scratch: Path) -> int:
    """Of all shards on disk: what each takes at least, and what its rows take."""

    def size(rows: int) -> int:
        seal(scratch / "shard.parquet", scores.table.slice(0, rows).combine_chunks(), (), "")
        return (scratch / "shard.parquet").stat().st_size

    rows = min(SHARD_ROWS, len(scores))
    least = size(0)
    return round(-(-good // SHARD_ROWS) * least + good * (size(rows) - least) / rows)


def _direction_bytes(measured: MeasuredTarget) -> int:
    return sum(tensor.nbytes for direction in measured.directions.values() for tensor in direction.tensors.values())


@contextmanager
def _scratch(out: Path) -> Iterator[Path]:
    """A folder for what is tried out, gone afterwards; where a new run folder will lie, which shows that it can.

    Raises:
        RunError: it can't.
    """
    beside = None if out.exists() else next(folder for folder in out.parents if folder.exists())
    try:
        folder = tempfile.TemporaryDirectory(prefix=".prism-", dir=beside)
    except OSError as error:
        raise unwritable(out, error) from error
    with folder as path:
        yield Path(path)
