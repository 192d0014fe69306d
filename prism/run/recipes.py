"""A gradient method that takes more than one direction, one checkpoint or one product, in a run folder."""

import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from prism.config import bytes_of
from prism.data import Encoder
from prism.errors import ConfigError
from prism.methods.baselines.matrix import gather_matrix
from prism.methods.combine import combine
from prism.methods.maps import map_and_weight, require_weights
from prism.methods.passes import complete, raw_schema, score_groups
from prism.methods.recipe import Recipe
from prism.model import Model, find_model
from prism.progress import Progress
from prism.run.baselines import MATRIX, WAITING
from prism.run.checkpoints import Checkpoint
from prism.run.clock import Clock
from prism.run.curvature import curvature_of, kind_of
from prism.run.elsewhere import Elsewhere, elsewhere
from prism.run.folder import RunFolder, TargetFiles
from prism.run.prepare import Job, load
from prism.run.speed import Speed
from prism.scoring import SHARD_ROWS, Folder, ScoreTable
from prism.scoring.assemble import assemble
from prism.target import MeasuredTarget, measure_target


@dataclass(frozen=True)
class Part:
    """What one checkpoint leaves in the run folder."""

    checkpoint: Checkpoint
    path: Path
    fingerprint: str
    identity: dict[str, Any]

    @property
    def target(self) -> TargetFiles:
        return TargetFiles(self.path, self.fingerprint)

    def shards(self, groups: int) -> Folder:
        return Folder(self.path, self.fingerprint, raw_schema(groups))


def measured_at(
    job: Job, recipe: Recipe, model: Model, encoder: Encoder, other: Elsewhere, progress: Progress
) -> MeasuredTarget:
    """The target of a job, measured as its recipe says."""
    return measure_target(
        model,
        job.target,
        encoder,
        objective=recipe.objective,
        reference=other.reference,
        weighing=other.weighing,
        batch_tokens=job.config.batch_tokens,
        progress=progress,
    )


def score_recipe(
    recipe: Recipe, job: Job, folder: RunFolder, clock: Clock, progress: Progress
) -> tuple[MeasuredTarget, ScoreTable]:
    """Measure the target and score the pool at one checkpoint after another, then combine; what `checkpoints/` holds
    already is not done again. The target table of the run is that of the last checkpoint."""
    other: Elsewhere | None = None
    measured: MeasuredTarget | None = None
    reused, rows, speed = 0, len(job.pool), Speed()
    parts = list(parts_of(job, folder))
    if recipe.checkpoints == "all":
        require_weights([part.checkpoint.path for part in parts if part.checkpoint.path])
    for number, part in enumerate(parts, 1):
        measured = part.target.load()
        if measured is not None and complete(part.shards(len(measured.directions)), rows):
            progress.note(f"reused checkpoint {number} of {len(parts)}")
            reused += rows
            continue
        at = replace(job, config=part.checkpoint.applied(job.config, job.places.tokenizer))
        if part.checkpoint.path:
            progress.note(f"checkpoint {number} of {len(parts)}: {part.checkpoint.path}")
        with clock.phase("loading"):
            model, encoder = load(at.config, progress)
        if recipe.aggregate != "mean":
            require_room(len({pair.subtask for pair in job.target}), model, job.config.direction_memory, progress)
        with clock.phase("target"):
            if measured is None:
                other = other or elsewhere(job, encoder, progress)
                measured = measured_at(job, recipe, model, encoder, other, progress)
                part.path.mkdir(parents=True, exist_ok=True)
                part.target.save(measured)
            mapping, weight = map_and_weight(recipe, part.checkpoint.path, model, progress)
        with clock.phase("target" if kind_of(job) == "identity" else "curvature"):
            curvature = curvature_of(at, curvature_place(job, folder, part), model, encoder, progress)
            directions = [curvature.solve(direction) for direction in measured.directions.values()]
        with clock.phase("scoring"), speed.of(len(parts)):
            done = score_groups(
                recipe,
                model,
                job.pool,
                directions,
                encoder,
                part.shards(len(directions)),
                mapping=mapping,
                weight=weight,
                norms=job.config.gradient_norms,
                engine=job.config.engine,
                batch_tokens=job.config.batch_tokens,
                progress=progress,
            )
        reused += done
        if number == len(parts) and not done:
            with clock.phase("comparison"):
                speed.compare(model, job, encoder, directions[0])
    assert measured is not None
    folder.save_target(measured)
    with clock.phase("combining"):
        scores = _combined(recipe, job, folder, parts, list(measured.directions))
    scores = replace(scores, details={**scores.details, "reused": reused // len(parts), "cost": speed.told(scores)})
    folder.save_rejected(chain(measured.rejected, scores.rejected))
    return measured, scores


def require_room(subtasks: int, model: Model, memory: str, progress: Progress) -> None:
    """Say what the directions of so many subtasks take, which are held at once, each as it is measured and as the
    scoring pass takes it; raises ConfigError where that is more than `memory`."""
    each = 2 * sum(p.numel() * max(4, p.element_size()) for p in model.parameters.values())
    if subtasks < 2:
        return
    said = f"the directions of {subtasks} subtasks take {subtasks * each / 1e9:.2g} GB"
    if subtasks * each > bytes_of(memory):
        raise ConfigError(
            f"{said}, more than --direction-memory {memory}: raise that if there is room, choose fewer --parameters "
            "(lora, a smaller --lora-rank), or join subtasks (--target-columns subtask=COLUMN)"
        )
    progress.note(said)


def _combined(recipe: Recipe, job: Job, folder: RunFolder, parts: list[Part], groups: list[str]) -> ScoreTable:
    rows = len(job.pool)
    shards = math.ceil(rows / SHARD_ROWS)
    waiting = Folder(folder.path / WAITING, folder.fingerprint, raw_schema(len(groups))) if groups != [""] else None
    combine(recipe, [part.shards(len(groups)) for part in parts], shards, folder.shards(), waiting)
    if waiting is not None:
        gather_matrix(folder.path / MATRIX, folder.fingerprint, groups, waiting, shards)
        shutil.rmtree(folder.path / WAITING)
    details = {"good": rows, "read": rows + len(job.pool.rejected)}
    return assemble(folder.shards(), shards, job.pool, details)


def part_of(job: Job, folder: RunFolder) -> Part:
    """The only checkpoint of a job, whose files lie in the run folder itself."""
    (checkpoint,) = job.checkpoints
    return Part(checkpoint, folder.path, folder.fingerprint, _identity(job, checkpoint, folder))


def curvature_place(job: Job, folder: RunFolder, part: Part) -> Part:
    """Where a run keeps the curvature of a checkpoint."""
    plain = isinstance(job.method, Recipe) and job.method.plain
    return part if part.checkpoint.path and not plain else replace(part, path=folder.path)


def parts_of(job: Job, folder: RunFolder) -> Iterator[Part]:
    """The checkpoints of a job, each with its place under the run folder."""
    for number, checkpoint in enumerate(job.checkpoints, 1):
        place = folder.path / "checkpoints" / f"{number:03d}"
        yield Part(checkpoint, place, folder.fingerprint, _identity(job, checkpoint, folder))


def _identity(job: Job, checkpoint: Checkpoint, folder: RunFolder) -> dict[str, Any]:
    """What the run was made from, with the checkpoint in the model's place."""
    if checkpoint.path is None:
        return folder.identity
    at = checkpoint.applied(job.config, job.places.tokenizer)
    places = find_model(
        at.model, at.adapter, tokenizer=at.tokenizer, revision=at.revision, allow_pickle=at.allow_pickle
    )
    return {**folder.identity, **places.fingerprints()}
