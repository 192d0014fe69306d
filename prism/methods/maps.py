"""What a recipe needs of a checkpoint beside its model: the candidate map, and what it weighs."""

from collections.abc import Sequence
from pathlib import Path

from prism.errors import ConfigError, ModelError
from prism.methods.checkpoints import learning_rate
from prism.methods.moments import load_moments
from prism.methods.recipe import Recipe
from prism.model import Model
from prism.progress import Progress
from prism.scoring.mapped import AdamMap, CandidateMap, SignMap


def map_and_weight(
    recipe: Recipe, path: Path | None, model: Model, progress: Progress
) -> tuple[CandidateMap | None, float]:
    """The candidate map at a checkpoint, None for the identity, and its weight: one, or its learning rate where the
    recipe sums over checkpoints.

    Raises:
        ConfigError: the recipe needs an optimizer state and there is no checkpoint.
        ModelError: the state can't be read, or does not fit the model.
    """
    weight, source = 1.0, ""
    mapping: CandidateMap | None = None
    if path is not None and recipe.checkpoints == "all":
        rate = learning_rate(path)
        weight, source = rate.value, rate.source
    if recipe.candidate_map == "sign":
        mapping = SignMap()
    elif recipe.candidate_map == "adam":
        if path is None:
            raise ConfigError(f"the method {recipe.name} needs the optimizer state of a checkpoint")
        moments = load_moments(path, model)
        for notice in moments.notices:
            progress.note(notice)
        if recipe.checkpoints == "all":
            weight, source = moments.learning_rate, moments.rate_from
        mapping = AdamMap(moments)
    if source:
        progress.note(f"the checkpoint weighs {weight:g}, its learning rate ({source})")
    return mapping, weight


def require_weights(checkpoints: Sequence[Path]) -> None:
    """Raises ModelError where some of several checkpoints tell their learning rate and others don't, or all are zero:
    they can't be summed."""
    rates = [learning_rate(path) for path in checkpoints]
    silent = [path for path, rate in zip(checkpoints, rates, strict=True) if rate.source.startswith("nowhere")]
    if 0 < len(silent) < len(rates):
        raise ModelError(
            f"the learning rate of {silent[0]} is nowhere to be read, but that of other checkpoints is: they can't be "
            "summed. Put a warmup.json beside it (docs/checkpoints.md)"
        )
    if rates and not any(rate.value for rate in rates):
        raise ModelError("the learning rates of all checkpoints are zero, so nothing would be left of their scores")
