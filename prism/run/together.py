"""Several runs over one pool that differ in their directions alone: one pass scores them all."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from prism.config import SelectConfig, bytes_of
from prism.data import Encoded, Encoder
from prism.errors import PrismError
from prism.methods.passes import complete, raw_shard
from prism.methods.recipe import Recipe
from prism.model import Model
from prism.progress import Progress
from prism.run.curvature import Place, curvature_of, fit_identity, kind_of
from prism.run.elsewhere import Elsewhere, elsewhere
from prism.run.folder import RunFolder, TargetFiles
from prism.run.prepare import Job, load, open_job
from prism.run.provenance import circumstances
from prism.run.recipes import measured_at, only_part, parts_of
from prism.scoring import SHARD_ROWS, Folder, Shard, choose_engine
from prism.scoring.choose import Chosen
from prism.scoring.feed import Prepared, score_shards
from prism.scoring.scorer import Scored, Scorer
from prism.scoring.stream import plain_shard
from prism.target import Direction

OF_A_DIRECTION = {
    "target_columns",
    "curvature",
    "curvature_samples",
    "curvature_labels",
    "damping",
    "cg_tolerance",
    "cg_iterations",
    "gradient_norms",
}  # scoring options that runs of one pass may differ in
SHARED = (
    "model", "adapter", "tokenizer", "revision", "checkpoints", "pool", "on_bad_row", "direction_memory", "device",
)  # fmt: skip


@dataclass
class _Run:
    """One of the runs of a pass, and where it keeps its target and its shards; `seconds` are those spent so far."""

    job: Job
    recipe: Recipe
    folder: RunFolder
    target: TargetFiles
    shards: Folder
    place: Place
    seconds: float = 0.0

    @property
    def finished(self) -> bool:
        return self.target.load() is not None and complete(self.shards, len(self.job.pool))

    @property
    def norms(self) -> bool:
        return self.job.config.gradient_norms or self.recipe.normalise == "cosine"

    def shard(self, prepared: Prepared, scored: Scored, direction: Direction) -> Shard:
        """What this run alone would have made of its own column of the scores."""
        if not self.norms:
            scored = replace(scored, norms=np.full_like(scored.norms, np.nan))
        if self.recipe.plain:
            return plain_shard(prepared, scored)
        return raw_shard(prepared, scored, 1.0, [direction.norm()])


@dataclass
class _Fit:
    """Where a curvature is kept that runs may share, and what its fit took."""

    place: Place
    seconds: float = 0.0


@dataclass(frozen=True)
class _Bundle(Shard):
    """The shard of the first run of a pass, and those of all."""

    each: Sequence[Shard] = ()


@dataclass(frozen=True)
class _Bundles:
    """A store of such, which keeps each run's shards where they belong."""

    stores: Sequence[Folder]

    def get(self, number: int) -> Shard | None:
        """That of the first run, where all have theirs."""
        found = [store.get(number) for store in self.stores]
        return None if any(shard is None for shard in found) else found[0]

    def put(self, number: int, shard: Shard) -> None:
        assert isinstance(shard, _Bundle)
        for store, own in zip(self.stores, shard.each, strict=True):
            store.put(number, own)


def together(configs: Sequence[SelectConfig]) -> list[list[SelectConfig]]:
    """Those whose runs one pass can serve, in groups of two and more: <grad L_z, v> with a direction v each, at one
    model, over one pool, encoded alike."""
    groups: dict[str, list[SelectConfig]] = {}
    for config in configs:
        if config.engine != "forward" and not config.pair_scores:
            options = {name: value for name, value in config.stage("scoring").items() if name not in OF_A_DIRECTION}
            groups.setdefault(repr([options, *(getattr(config, name) for name in SHARED)]), []).append(config)
    return [group for group in groups.values() if len(group) > 1]


def score_together(configs: Sequence[SelectConfig], progress: Progress) -> Iterator[tuple[str, dict[str, Any]]]:
    """Fill the run folders of a group of `together` by one pass, so that `run_select` finds every score there; as many
    directions a pass as `direction_memory` holds, and what each pass was for is told when it is over.

    A run whose method takes more than a direction, that is finished, or whose target can't be measured is left to
    itself, and what it would say then is said here.

    Yields:
        A folder, and what its scores took: `seconds`, with the pass in full; `tokens` through the model; `reused_rows`,
        which were there already; and how many runs had the pass (`together`).
    """
    with ExitStack() as stack:
        runs = [run for config in configs if (run := _opened(config.absolute(), stack, progress)) is not None]
        if len(runs) < 2:
            return
        first = runs[0].job
        began = time.monotonic()
        model, encoder = load(first.scored, progress)
        loading = time.monotonic() - began
        each = 2 * sum(p.numel() * max(4, p.element_size()) for p in model.parameters.values())
        room = bytes_of(first.config.direction_memory) // each
        if room < 2:
            progress.note(f"two directions take {2 * each / 1e9:.2g} GB, more than direction_memory: a pass for each")
            return
        fits: dict[str, _Fit] = {}
        for start in range(0, len(runs), room):
            some = runs[start : start + room]
            ready = list(_measured(some, fits, model, encoder, progress)) if len(some) > 1 else []
            if len(ready) < 2:
                continue
            names = ", ".join(run.recipe.name for run, _ in ready)
            progress.note(f"one pass scores {len(ready)} methods: {names}")
            began = time.monotonic()
            reused = _pass(ready, model, encoder, progress)
            for run, _ in ready:
                seconds = loading + run.seconds + time.monotonic() - began
                cost = {"seconds": seconds, "tokens": _tokens(run), "reused_rows": reused}
                yield run.job.config.out, {**cost, "together": len(ready)}


def _opened(config: SelectConfig, stack: ExitStack, progress: Progress) -> _Run | None:
    """The run of a config in its folder, where it has a part in the pass."""
    try:
        job = open_job(config)
        recipe = job.method
        if not isinstance(recipe, Recipe) or not recipe.linear:
            return None
        folder = RunFolder(Path(config.out))
        stack.callback(folder.close)
        if folder.finished:
            return None
        folder.check(job.identity())
        job.require_data()
        (part,) = parts_of(job, folder)
        place = only_part(job, folder)
        if recipe.plain:
            run = _Run(job, recipe, folder, place.target, folder.shards(), place)
        else:
            run = _Run(job, recipe, folder, part.target, part.shards(1), place)
        if run.finished:
            return None
        folder.claim(circumstances(config.seed))
        config.save(folder.path / "config.yaml")
        return run
    except PrismError as error:
        progress.note(f"{config.method} is left out of the pass for several methods: {error}")
        return None


def _measured(
    runs: Sequence[_Run], fits: dict[str, _Fit], model: Model, encoder: Encoder, progress: Progress
) -> Iterator[tuple[_Run, Direction]]:
    """Runs with their directions, through their curvatures. What two of them share, a curvature or another model's
    losses, is made once; the seconds of a curvature's fit count for both."""
    others: dict[str, Elsewhere] = {}
    for run in runs:
        began = time.monotonic()
        try:
            measured = run.target.load()
            if measured is None:
                config, objective = run.job.config, run.recipe.objective
                asked = repr(
                    (config.target, config.target_columns, config.preference_from, objective.form, objective.paired)
                )
                if asked not in others:
                    others[asked] = elsewhere(run.job, encoder, progress)
                measured = measured_at(run.job, run.recipe, model, encoder, others[asked], progress)
                run.target.path.mkdir(parents=True, exist_ok=True)
                run.target.save(measured)
            kind, fit = kind_of(run.job), _Fit(run.place)
            if kind not in ("identity", "adam") and run.job.config.curvature_from is None:
                fit = fits.setdefault(repr(fit_identity(run.job, run.place, model, kind)), fit)
            before, run.seconds = time.monotonic(), fit.seconds
            curvature = curvature_of(run.job, fit.place, model, encoder, progress)
            fit.seconds = fit.seconds or time.monotonic() - before
            direction = curvature.solve(measured.direction)
        except PrismError as error:
            progress.note(f"{run.recipe.name} is left out of the pass for several methods: {error}")
            continue
        run.seconds += time.monotonic() - began
        yield run, direction


def _pass(ready: Sequence[tuple[_Run, Direction]], model: Model, encoder: Encoder, progress: Progress) -> int:
    """Score the pool against all directions at once; returns how many rows were there."""
    runs, directions = zip(*ready, strict=True)
    pool, config = runs[0].job.pool, runs[0].job.config
    norms = any(run.norms for run in runs)

    def make_scorer(probes: Sequence[Encoded]) -> Scorer:
        chosen: Chosen = choose_engine(model, directions, norms=norms, probes=probes, engine=config.engine)
        progress.note(chosen.why)
        return Scorer(model, chosen, len(directions), config.batch_tokens)

    def make_shard(prepared: Prepared, scored: Scored) -> Shard:
        columns = (replace(scored, scores=scored.scores[:, [place]]) for place in range(len(runs)))
        each = [run.shard(prepared, own, v) for (run, v), own in zip(ready, columns, strict=True)]
        return _Bundle(each[0].table, each[0].rejected, each[0].notes, each)

    progress.start("score", len(pool))
    return score_shards(
        pool,
        encoder,
        _Bundles([run.shards for run in runs]),
        make_scorer,
        make_shard,
        directions=len(directions),
        shard_rows=SHARD_ROWS,
        progress=progress,
    )


def _tokens(run: _Run) -> int:
    shards = (run.shards.get(number) for number in range(math.ceil(len(run.job.pool) / SHARD_ROWS)))
    return sum(int(pc.sum(shard.table.column("tokens")).as_py() or 0) for shard in shards if shard is not None)
