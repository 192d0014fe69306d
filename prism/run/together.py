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
from prism.methods.maps import map_and_weight, require_weights
from prism.methods.passes import complete, raw_shard, scorer_of
from prism.methods.recipe import Recipe
from prism.methods.table import find_method
from prism.model import Model
from prism.progress import Progress
from prism.run.curvature import curvature_of, fit_identity, kind_of
from prism.run.elsewhere import Elsewhere, elsewhere
from prism.run.folder import RunFolder
from prism.run.prepare import Job, load, open_job
from prism.run.provenance import circumstances
from prism.run.recipes import Part, curvature_place, measured_at, part_of, parts_of
from prism.scoring import SHARD_ROWS, Folder, Shard
from prism.scoring.feed import Prepared, score_shards
from prism.scoring.mapped import CandidateMap
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
    """One of the runs of a pass, and what it keeps of each checkpoint; `seconds` are those spent so far."""

    job: Job
    recipe: Recipe
    folder: RunFolder
    parts: Sequence[Part]
    seconds: float = 0.0

    def shards(self, part: Part, directions: int) -> Folder:
        return self.folder.shards() if self.recipe.plain else part.shards(directions)

    def finished(self, part: Part) -> bool:
        measured = part.target.load()
        return measured is not None and complete(self.shards(part, len(measured.directions)), len(self.job.pool))

    @property
    def first(self) -> int:
        """The number of the first checkpoint where it is not finished."""
        return next(number for number, part in enumerate(self.parts) if not self.finished(part))

    @property
    def directions(self) -> int:
        """How many it takes at once, at most."""
        return 1 if self.recipe.aggregate == "mean" else len({pair.subtask for pair in self.job.target})

    @property
    def norms(self) -> bool:
        return self.job.config.gradient_norms or self.recipe.normalise == "cosine"

    @property
    def tokens(self) -> int:
        """That went through the model, at all checkpoints."""
        places = range(math.ceil(len(self.job.pool) / SHARD_ROWS))
        targets = ((part, part.target.load()) for part in self.parts)
        stores = (self.shards(part, len(measured.directions)) for part, measured in targets if measured is not None)
        shards = (store.get(number) for store in stores for number in places)
        return sum(int(pc.sum(shard.table.column("tokens")).as_py() or 0) for shard in shards if shard is not None)


@dataclass(frozen=True)
class _Ready:
    """A run at one checkpoint with its directions: what it makes of its own columns of the scores."""

    run: _Run
    directions: Sequence[Direction]
    store: Folder
    mapping: CandidateMap | None
    weight: float

    def shard(self, prepared: Prepared, scored: Scored) -> Shard:
        if not self.run.norms:
            scored = replace(scored, norms=np.full_like(scored.norms, np.nan))
        if self.run.recipe.plain:
            return plain_shard(prepared, scored)
        return raw_shard(prepared, scored, self.weight, [v.norm() for v in self.directions])


@dataclass
class _Fit:
    """Where a curvature is kept that runs may share, and what its fit took."""

    place: Part
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


class _Models:
    """The model at each checkpoint, the last one at hand; `seconds` are those that loading it took."""

    def __init__(self, job: Job, progress: Progress) -> None:
        self.job, self._progress = job, progress
        self._found: tuple[int, Model, Encoder] | None = None
        self.seconds = 0.0

    def size(self, number: int) -> int:
        """Bytes that a direction takes, as it is measured and as the pass takes it."""
        model, _ = self.at(number)
        return 2 * sum(p.numel() * max(4, p.element_size()) for p in model.parameters.values())

    def at(self, number: int) -> tuple[Model, Encoder]:
        if self._found is None or self._found[0] != number:
            self._found = None  # makes room before the next is loaded
            began = time.monotonic()
            checkpoint = self.job.checkpoints[number]
            config = checkpoint.applied(self.job.config, self.job.places.tokenizer)
            self._found = number, *load(config, self._progress)
            self.seconds = time.monotonic() - began
        return self._found[1:]


def together(configs: Sequence[SelectConfig]) -> list[list[SelectConfig]]:
    """Those whose runs one pass can serve, in groups of two and more: <Gamma(grad L_z), v> with directions v of each,
    along the same checkpoints, over one pool, encoded alike.

    Raises:
        ConfigError: there is no such method.
    """
    groups: dict[str, list[SelectConfig]] = {}
    for config in configs:
        recipe = find_method(config.method)
        if isinstance(recipe, Recipe) and config.engine != "forward" and not config.pair_scores:
            options = {name: value for name, value in config.stage("scoring").items() if name not in OF_A_DIRECTION}
            formed = (recipe.candidate_map, recipe.candidate_loss) if recipe.candidate_map != "identity" else None
            key = repr([options, formed, *(getattr(config, name) for name in SHARED)])
            groups.setdefault(key, []).append(config)
    return [group for group in groups.values() if len(group) > 1]


def score_together(configs: Sequence[SelectConfig], progress: Progress) -> Iterator[tuple[str, dict[str, Any]]]:
    """Fill the run folders of a group of `together` by one pass for each checkpoint, so that `run_select` finds every
    score there; as many directions a pass as `direction_memory` holds, and what passes were for is told when they are
    over.

    A run that is finished, or whose target can't be measured, is left to itself, and what it would say then is said
    here.

    Yields:
        A folder, and what its scores took: `seconds`, with the passes in full; `tokens` through the model;
        `reused_rows`, which were there already; and how many runs had the passes (`together`).
    """
    with ExitStack() as stack:
        runs = [run for config in configs if (run := _opened(config.absolute(), stack, progress)) is not None]
        if len(runs) < 2:
            return
        models = _Models(runs[0].job, progress)
        each = models.size(min(run.first for run in runs))
        room = bytes_of(runs[0].job.config.direction_memory) // each
        if room < 2:
            progress.note(f"two directions take {2 * each / 1e9:.2g} GB, more than direction_memory: a pass for each")
            return
        fits: dict[str, _Fit] = {}
        others: dict[str, Elsewhere] = {}
        for some in _fitting(runs, room):
            reused = 0
            for number in range(len(models.job.checkpoints)):
                reused += _at_checkpoint(number, some, models, fits, others, progress)
            done = [run for run in some if all(run.finished(part) for part in run.parts)]
            for run in done if len(done) > 1 else []:
                cost = {"seconds": run.seconds, "tokens": run.tokens, "reused_rows": reused // len(run.parts)}
                yield run.job.config.out, {**cost, "together": len(done)}


def _opened(config: SelectConfig, stack: ExitStack, progress: Progress) -> _Run | None:
    """The run of a config in its folder, where it has a part in the pass."""
    try:
        job = open_job(config)
        recipe = job.method
        assert isinstance(recipe, Recipe)
        if recipe.checkpoints == "all":
            require_weights([checkpoint.path for checkpoint in job.checkpoints if checkpoint.path])
        folder = RunFolder(Path(config.out))
        stack.callback(folder.close)
        if folder.finished:
            return None
        folder.check(job.identity())
        job.require_data()
        run = _Run(job, recipe, folder, [part_of(job, folder)] if recipe.plain else list(parts_of(job, folder)))
        if all(run.finished(part) for part in run.parts):
            return None
        folder.claim(circumstances(config.seed))
        config.save(folder.path / "config.yaml")
        return run
    except PrismError as error:
        progress.note(f"{config.method} is left out of the pass for several methods: {error}")
        return None


def _fitting(runs: Sequence[_Run], room: int) -> Iterator[list[_Run]]:
    """Runs in order, as many at a time as have room for their directions; one that would be alone is left out."""
    some: list[_Run] = []
    for run in runs:
        if run.directions > room:
            continue
        if sum(one.directions for one in [*some, run]) > room:
            if len(some) > 1:
                yield some
            some = []
        some = [*some, run]
    if len(some) > 1:
        yield some


def _at_checkpoint(
    number: int,
    runs: list[_Run],
    models: _Models,
    fits: dict[str, _Fit],
    others: dict[str, Elsewhere],
    progress: Progress,
) -> int:
    """One pass for the runs that are not finished there; one that fails is taken out of `runs`. Returns how many rows
    were scored already."""
    job = models.job
    waiting = [run for run in runs if not run.finished(run.parts[number])]
    if len(waiting) < 2:
        return len(job.pool) if not waiting else 0
    path = job.checkpoints[number].path
    if path is not None:
        progress.note(f"checkpoint {number + 1} of {len(job.checkpoints)}: {path}")
    model, encoder = models.at(number)
    ready: list[_Ready] = []
    maps: dict[str, tuple[CandidateMap | None, float]] = {}
    for run in waiting:
        began = time.monotonic()
        try:
            if run.recipe.checkpoints not in maps:  # nothing else that runs of a group may differ in tells them apart
                maps[run.recipe.checkpoints] = map_and_weight(run.recipe, path, model, progress)
            ready.append(_measured(run, number, maps[run.recipe.checkpoints], fits, others, model, encoder, progress))
        except PrismError as error:
            progress.note(f"{run.recipe.name} is left out of the pass for several methods: {error}")
            runs.remove(run)
        run.seconds += models.seconds + time.monotonic() - began
    if len(ready) < 2:
        return 0
    progress.note(f"one pass scores {len(ready)} methods: {', '.join(one.run.recipe.name for one in ready)}")
    began = time.monotonic()
    reused = _pass(ready, model, encoder, progress)
    for one in ready:
        one.run.seconds += time.monotonic() - began
    return reused


def _measured(
    run: _Run,
    number: int,
    mapped: tuple[CandidateMap | None, float],
    fits: dict[str, _Fit],
    others: dict[str, Elsewhere],
    model: Model,
    encoder: Encoder,
    progress: Progress,
) -> _Ready:
    """A run with its directions at a checkpoint, through its curvature. What two runs share, a curvature or another
    model's losses, is made once; the seconds of a curvature's fit count for both."""
    part = run.parts[number]
    measured = part.target.load()
    if measured is None:
        config, objective = run.job.config, run.recipe.objective
        asked = repr((config.target, config.target_columns, config.preference_from, objective.form, objective.paired))
        if asked not in others:
            others[asked] = elsewhere(run.job, encoder, progress)
        measured = measured_at(run.job, run.recipe, model, encoder, others[asked], progress)
        part.target.path.mkdir(parents=True, exist_ok=True)
        part.target.save(measured)
    place = curvature_place(run.job, run.folder, part)
    kind, fit = kind_of(run.job), _Fit(place)
    if kind not in ("identity", "adam") and run.job.config.curvature_from is None:
        fit = fits.setdefault(repr(fit_identity(run.job, place, model, kind)), fit)
    run.seconds += fit.seconds
    began = time.monotonic()
    curvature = curvature_of(run.job, fit.place, model, encoder, progress)
    fit.seconds = fit.seconds or time.monotonic() - began
    directions = [curvature.solve(direction) for direction in measured.directions.values()]
    return _Ready(run, directions, run.shards(part, len(directions)), *mapped)


def _pass(ready: Sequence[_Ready], model: Model, encoder: Encoder, progress: Progress) -> int:
    """Score the pool against all directions at once; returns how many rows were there."""
    job, recipe = ready[0].run.job, ready[0].run.recipe
    directions = [direction for one in ready for direction in one.directions]
    ends = np.cumsum([len(one.directions) for one in ready])[:-1].tolist()
    norms = any(one.run.norms for one in ready)

    def make_scorer(probes: Sequence[Encoded]) -> Scorer:
        return scorer_of(
            recipe,
            model,
            directions,
            probes,
            mapping=ready[0].mapping,
            norms=norms,
            engine=job.config.engine,
            batch_tokens=job.config.batch_tokens,
            rows=len(job.pool),
            progress=progress,
        )

    def make_shard(prepared: Prepared, scored: Scored) -> Shard:
        columns = np.split(scored.scores, ends, axis=1)
        each = [one.shard(prepared, replace(scored, scores=own)) for one, own in zip(ready, columns, strict=True)]
        return _Bundle(each[0].table, each[0].rejected, each[0].notes, each)

    progress.start("score", len(job.pool))
    return score_shards(
        job.pool,
        encoder,
        _Bundles([one.store for one in ready]),
        make_scorer,
        make_shard,
        directions=len(directions),
        shard_rows=SHARD_ROWS,
        progress=progress,
    )
