"""The main job, end to end: `prism select`."""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

from prism.config import SelectConfig, load_config
from prism.data import Encoder, Pool, open_pool
from prism.errors import ConfigError, RunError, stopped_at
from prism.files import write_whole
from prism.methods.baselines import Baseline
from prism.model import Model
from prism.progress import Progress, recorded
from prism.run.baselines import context_of, run_baseline
from prism.run.clock import Clock
from prism.run.curvature import curvature_of, kind_of
from prism.run.elsewhere import elsewhere
from prism.run.folder import RunFiles, RunFolder
from prism.run.others import options_of
from prism.run.pairs import add_pair_scores, require_pair_scores
from prism.run.prepare import Job, load, open_job
from prism.run.provenance import MACHINE, circumstances, numbered
from prism.run.recipes import measured_at, part_of, score_recipe
from prism.run.summary import notices, summarise
from prism.scoring import ScoreTable, score_pool, stored_scores
from prism.selection import Selection, select
from prism.target import MeasuredTarget
from prism.target.measure import unmeasured_target

log = logging.getLogger("prism")


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, what was measured and chosen, and the summary that was written."""

    folder: Path
    target: MeasuredTarget
    selection: Selection
    summary: dict[str, Any]


def run_select(config: SelectConfig, progress: Progress | None = None) -> Run:
    """Measure the target, score the pool, select; everything lands in the run folder `config.out`.

    A folder that holds this very run already is gone on with: finished shards are reused, and where all are finished
    only the selection is made anew.

    Raises:
        PrismError: with what is wrong and what to do. Whatever was finished before stays.
    """
    progress = recorded(progress)
    clock = Clock()
    config = config.absolute()
    job = open_job(config)
    folder = RunFolder(Path(config.out))
    try:
        log.info("prism select into %s", folder.path)
        with clock.phase("reading"):
            this = job.identity()
            folder.check(this, but=MACHINE if folder.finished else ())
            stored = stored_run(folder, job.pool)
            if stored is None:
                folder.check(this)
                job.require_data()
        require_pair_scores(job, folder)
        loaded = cache(lambda: load_in(job, clock, progress))
        if stored is None:
            folder.claim(circumstances(config.seed))
            config.save(folder.path / "config.yaml")
            stored = measure_and_score(job, folder, loaded, clock, progress)
        elif config.on_bad_row == "stop":
            _stop_at_bad_row(job.pool, *stored)
        measured, scores = stored
        if config.pair_scores and not folder.has_pair_scores():
            folder.check(this)
            with clock.phase("pairs"):
                add_pair_scores(job, folder, *loaded(), measured, scores, progress)
        with clock.phase("selection"):
            for notice in notices(measured, scores):
                progress.note(notice)
            if reused := scores.details["reused"]:
                progress.note(f"reused the scores of {reused} rows")
            selection = select(scores, gains=folder.gains(measured), **config.stage("selection"))
            for notice in selection.notices:
                progress.note(notice)
            selection.save(folder.path / "selected.jsonl")
        summary = summarise(config, measured, selection, clock)
        write_whole(folder.path / "summary.json", json.dumps(summary, indent=2, allow_nan=False) + "\n")
        config.save(folder.path / "config.yaml")
        log.info("selected %d of %d rows in %.1f s", len(selection), len(scores), summary["seconds"])
        return Run(folder.path, measured, selection, summary)
    except Exception as error:
        log.error("%s", error, exc_info=not isinstance(error, (ConfigError, RunError)))
        raise
    finally:
        folder.close()


@contextmanager
def finished_run(path: Path) -> Iterator[tuple[SelectConfig, RunFolder, MeasuredTarget, ScoreTable]]:
    """(config, folder, measured target, scores) of a finished run, which nobody else changes meanwhile.

    Raises:
        RunError: there is no finished run in `path`, or its pool has changed since.
    """
    if not (path / "manifest.json").exists() or not (path / "config.yaml").exists():
        raise RunError(f"{path} is not a run folder: prism select makes one")
    config = load_config(path / "config.yaml", {"out": str(path)})
    folder = RunFolder(path)
    try:
        if folder.manifest is None:
            raise _unfinished(path)
        pool = open_pool(config.pool, columns=config.columns)
        folder.check({**folder.manifest["identity"], "pool": numbered(pool.fingerprints)})
        stored = stored_run(folder, pool)
        if stored is None:
            raise _unfinished(path)
        yield config, folder, *stored
    finally:
        folder.close()


def load_selection(path: Path) -> Selection:
    """The selection of a finished run; raises RunError as `finished_run`."""
    with finished_run(path) as (config, folder, measured, scores):
        return select(scores, gains=folder.gains(measured), **config.stage("selection"))


def _unfinished(path: Path) -> RunError:
    return RunError(f"the run in {path} is not finished: prism select --config {path / 'config.yaml'} goes on with it")


def stored_run(folder: RunFiles, pool: Pool) -> tuple[MeasuredTarget, ScoreTable] | None:
    """What a finished run left, without reading the pool or loading the model; None where anything is missing."""
    if not folder.finished:
        return None
    measured = folder.load_target()
    try:
        rows = json.loads((folder.path / "summary.json").read_text(encoding="utf-8"))["rows"]
        scores = stored_scores(folder.shards(), pool, good=rows["good"], read=rows["read"])
    except (ValueError, KeyError, TypeError):
        return None
    return None if measured is None or scores is None else (measured, scores)


def _stop_at_bad_row(pool: Pool, measured: MeasuredTarget, scores: ScoreTable) -> None:
    for bad in (measured.rejected, scores.rejected, pool.rejected):  # reading the pool stops at its first bad row
        if bad:
            raise stopped_at(bad[0])


def load_in(job: Job, clock: Clock, progress: Progress) -> tuple[Model, Encoder]:
    with clock.phase("loading"):
        return load(job.scored, progress)


def measure_and_score(
    job: Job, folder: RunFolder, loaded: Callable[[], tuple[Model, Encoder]], clock: Clock, progress: Progress
) -> tuple[MeasuredTarget, ScoreTable]:
    config, recipe = job.config, job.method
    if isinstance(recipe, Baseline):
        return _score_baseline(recipe, job, folder, loaded, clock, progress)
    if not recipe.plain:
        return score_recipe(recipe, job, folder, clock, progress)
    measured = folder.load_target()
    rows, read = len(job.pool), len(job.pool) + len(job.pool.rejected)
    scores = stored_scores(folder.shards(), job.pool, good=rows, read=read)
    if measured is not None and scores is not None:
        if config.on_bad_row == "stop":
            _stop_at_bad_row(job.pool, measured, scores)
        folder.save_rejected(chain(measured.rejected, job.pool.rejected, scores.rejected))
        return measured, scores
    model, encoder = loaded()
    with clock.phase("target"):
        if measured is None:
            measured = measured_at(job, recipe, model, encoder, elsewhere(job, encoder, progress), progress)
            folder.save_target(measured)
        else:
            progress.note(f"reused the measured target of {measured.table.num_rows} pairs")
    with clock.phase("target" if kind_of(job) == "identity" else "curvature"):
        direction = curvature_of(job, part_of(job, folder), model, encoder, progress).solve(measured.direction)
    with clock.phase("scoring"):
        scores = score_pool(
            model,
            job.pool,
            direction,
            encoder,
            batch_tokens=config.batch_tokens,
            norms=config.gradient_norms,
            engine=config.engine,
            store=folder.shards(),
            progress=progress,
        )
        folder.save_rejected(chain(measured.rejected, scores.rejected))
    return measured, scores


def _score_baseline(
    baseline: Baseline,
    job: Job,
    folder: RunFolder,
    loaded: Callable[[], tuple[Model, Encoder]],
    clock: Clock,
    progress: Progress,
) -> tuple[MeasuredTarget, ScoreTable]:
    with clock.phase("scoring"):
        options = options_of(job.config)
        context = context_of(job, loaded, progress, weights=baseline.loads(options))
        measured = unmeasured_target(*(context.encoded if job.target.sources else ([], [], [])))
        folder.save_target(measured)
        scores = run_baseline(baseline, context, options, folder)
        folder.save_rejected(chain(measured.rejected, scores.rejected))
    return measured, scores
