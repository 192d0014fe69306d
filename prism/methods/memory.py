"""A recipe over a pool without a run folder."""

import math
from collections.abc import Sequence
from pathlib import Path

from prism.budget import BATCH_TOKENS
from prism.curvature import Curvature, Identity
from prism.data import Encoder, Pool, Target
from prism.errors import ConfigError
from prism.methods.checkpoints import find_checkpoints
from prism.methods.combine import combine
from prism.methods.maps import map_and_weight, require_weights
from prism.methods.passes import score_groups
from prism.methods.recipe import Recipe
from prism.model import Model, load_model
from prism.progress import Progress, Silent
from prism.scoring import SHARD_ROWS, EngineName, ScoreTable
from prism.scoring.assemble import assemble
from prism.scoring.shards import Memory
from prism.target import measure_target
from prism.target.losses import all_losses
from prism.target.weights import Floats


def score_in_memory(
    recipe: Recipe,
    model: Model,
    pool: Pool,
    target: Target,
    encoder: Encoder,
    *,
    checkpoints: Sequence[str | Path] = (),
    curvature: Curvature | None = None,
    weighing: Floats | None = None,
    norms: bool = False,
    engine: EngineName = "auto",
    batch_tokens: int = BATCH_TOKENS,
    progress: Progress | None = None,
) -> ScoreTable:
    """Score `pool` by `recipe`; `checkpoints` are adapters on `model`, or whole models like it, `weighing` as for
    `measure_target`.

    Raises:
        ConfigError: the recipe needs checkpoints or a curvature that are not given.
        PrismError: as `measure_target`, `load_moments`, `score_groups`.
    """
    progress = progress or Silent()
    places = find_checkpoints(checkpoints)
    require_weights(places if recipe.checkpoints == "all" else [])
    if recipe.checkpoints == "all" and not places:
        raise ConfigError(f"the method {recipe.name} scores at the checkpoints of a training: name them (prism warmup)")
    if recipe.checkpoints == "one" and len(places) > 1:
        raise ConfigError(f"the method {recipe.name} scores at one checkpoint, and there are {len(places)}")
    if recipe.curvature != "identity" and curvature is None:
        raise ConfigError(f"the method {recipe.name} needs a curvature: fit_curvature makes one")
    reference = None
    if recipe.target == "dpo" and places:
        reference = all_losses(model, target, encoder, batch_tokens=batch_tokens)
    stores, groups = [], 1
    visited: list[Path | None] = [*places] or [None]
    for path in visited:
        at = model if path is None else _at(path, model)
        measured = measure_target(
            at,
            target,
            encoder,
            objective=recipe.objective,
            reference=reference,
            weighing=weighing,
            batch_tokens=batch_tokens,
            progress=progress,
        )
        directions = [(curvature or Identity()).solve(direction) for direction in measured.directions.values()]
        mapping, weight = map_and_weight(recipe, path, at, progress)
        groups = len(directions)
        stores.append(Memory())
        score_groups(
            recipe,
            at,
            pool,
            directions,
            encoder,
            stores[-1],
            mapping=mapping,
            weight=weight,
            norms=norms,
            engine=engine,
            batch_tokens=batch_tokens,
            progress=progress,
        )
    total, store = len(pool), Memory()
    shards = math.ceil(total / SHARD_ROWS)
    combine(recipe, stores, shards, store, Memory() if groups > 1 or recipe.aggregate != "mean" else None)
    details = {"reused": 0, "good": total, "read": total + len(pool.rejected)}
    return assemble(store, shards, pool, details)


def _at(path: Path, model: Model) -> Model:
    """A checkpoint of `model`, in the same precision on the same device."""
    if model.places is None:
        raise ConfigError("checkpoints need a model that was loaded from its folder")
    adapter = (path / "adapter_config.json").exists()
    dtype = str(model.dtype).removeprefix("torch.")
    return load_model(
        model.places.model if adapter else path,
        adapter=path if adapter else None,
        tokenizer=model.places.tokenizer,
        parameters=model.which,
        device=str(model.device),
        dtype=dtype,
        **model.options,
    )
