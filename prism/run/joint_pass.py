"""One pass at a checkpoint for several runs, which differ in their directions alone."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow.compute as pc

from prism.data import Encoder
from prism.errors import PrismError
from prism.methods.maps import map_and_weight
from prism.methods.passes import complete, raw_shard, score_candidates
from prism.methods.recipe import Recipe
from prism.model import Model
from prism.progress import Progress
from prism.run.curvature import curvature_of, fit_identity, kind_of
from prism.run.elsewhere import Elsewhere, elsewhere
from prism.run.folder import RunFolder
from prism.run.prepare import Job, load
from prism.run.recipes import Part, curvature_place, measured_at
from prism.scoring import SHARD_ROWS, Folder, Shard
from prism.scoring.feed import Prepared
from prism.scoring.mapped import CandidateMap
from prism.scoring.scorer import Scored
from prism.scoring.stream import plain_shard
from prism.target import Direction


@dataclass
class JointRun:
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

    run: JointRun
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


class Common:
    """What the runs of a pass share: the model at each checkpoint, the last one at hand, whose loading took `seconds`;
    curvatures; and what other models say of the pairs."""

    def __init__(self, job: Job, progress: Progress) -> None:
        self.job, self._progress = job, progress
        self._found: tuple[int, Model, Encoder] | None = None
        self.seconds = 0.0
        self.fits: dict[str, _Fit] = {}
        self.others: dict[str, Elsewhere] = {}

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


def score_at(number: int, runs: list[JointRun], common: Common, progress: Progress) -> int:
    """One pass for the runs that are not finished there; one that fails is taken out of `runs`. Returns how many rows
    were scored already."""
    job = common.job
    waiting = [run for run in runs if not run.finished(run.parts[number])]
    if len(waiting) < 2:
        return len(job.pool) if not waiting else 0
    path = job.checkpoints[number].path
    if path is not None:
        progress.note(f"checkpoint {number + 1} of {len(job.checkpoints)}: {path}")
    model, encoder = common.at(number)
    ready: list[_Ready] = []
    maps: dict[str, tuple[CandidateMap | None, float]] = {}
    for run in waiting:
        began = time.monotonic()
        try:
            if run.recipe.checkpoints not in maps:  # nothing else that runs of a group may differ in tells them apart
                maps[run.recipe.checkpoints] = map_and_weight(run.recipe, path, model, progress)
            ready.append(_measured(run, number, maps[run.recipe.checkpoints], common, progress))
        except PrismError as error:
            progress.note(f"{run.recipe.name} is left out of the pass for several methods: {error}")
            runs.remove(run)
        run.seconds += common.seconds + time.monotonic() - began
    if len(ready) < 2:
        return 0
    progress.note(f"one pass scores {len(ready)} methods: {', '.join(one.run.recipe.name for one in ready)}")
    began = time.monotonic()
    reused = _pass(ready, model, encoder, progress)
    for one in ready:
        one.run.seconds += time.monotonic() - began
    return reused


def _measured(
    run: JointRun,
    number: int,
    mapped: tuple[CandidateMap | None, float],
    common: Common,
    progress: Progress,
) -> _Ready:
    """A run with its directions at a checkpoint, through its curvature. What two runs share, a curvature or another
    model's losses, is made once; the seconds of a curvature's fit count for both."""
    part = run.parts[number]
    model, encoder = common.at(number)
    measured = part.target.load()
    if measured is None:
        config, objective = run.job.config, run.recipe.objective
        asked = repr((config.target, config.target_columns, config.preference_from, objective.form, objective.paired))
        if asked not in common.others:
            common.others[asked] = elsewhere(run.job, encoder, progress)
        measured = measured_at(run.job, run.recipe, model, encoder, common.others[asked], progress)
        part.target.path.mkdir(parents=True, exist_ok=True)
        part.target.save(measured)
    place = curvature_place(run.job, run.folder, part)
    kind, fit = kind_of(run.job), _Fit(place)
    if kind not in ("identity", "adam") and run.job.config.curvature_from is None:
        fit = common.fits.setdefault(repr(fit_identity(run.job, place, model, kind)), fit)
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

    def make_shard(prepared: Prepared, scored: Scored) -> Shard:
        columns = np.split(scored.scores, ends, axis=1)
        each = [one.shard(prepared, replace(scored, scores=own)) for one, own in zip(ready, columns, strict=True)]
        return _Bundle(each[0].table, each[0].rejected, each[0].notes, each)

    return score_candidates(
        recipe,
        model,
        job.pool,
        directions,
        encoder,
        _Bundles([one.store for one in ready]),
        make_shard,
        mapping=ready[0].mapping,
        norms=any(one.run.norms for one in ready),
        engine=job.config.engine,
        batch_tokens=job.config.batch_tokens,
        progress=progress,
    )
