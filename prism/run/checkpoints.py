"""The checkpoints that a recipe scores at, and what it needs of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from prism.config import SelectConfig
from prism.errors import ConfigError, ModelError
from prism.methods.checkpoints import find_checkpoints
from prism.methods.recipe import Recipe
from prism.methods.states import find_state
from prism.model.fingerprint import files_fingerprint

FILES = (
    "adapter_model.*", "adapter_config.json", "*.safetensors", "*.bin", "config.json", "optimizer.*",
    "trainer_state.json", "scheduler.pt",
)  # fmt: skip


@dataclass(frozen=True)
class Checkpoint:
    """Where to score: a LoRA adapter on the run's model or weights of their own; None is the model as it is given."""

    path: Path | None = None

    def applied(self, config: SelectConfig, tokenizer: Path) -> SelectConfig:
        """The config that loads this checkpoint, with the same tokenizer."""
        if self.path is None:
            return config
        words = {"tokenizer": str(tokenizer)}
        if (self.path / "adapter_config.json").exists():
            return config.model_copy(update={"adapter": str(self.path), **words})
        return config.model_copy(update={"model": str(self.path), "adapter": None, "revision": None, **words})


def checkpoints_of(config: SelectConfig, recipe: Recipe) -> list[Checkpoint]:
    """Those that `recipe` is to be scored at.

    Raises:
        ConfigError: the recipe needs checkpoints and there are none, or takes one and there are several.
        ModelError: a folder is missing, holds neither an adapter nor weights, or lacks the optimizer state that the
            recipe needs.
    """
    found = find_checkpoints(config.checkpoints)
    for path in found:
        if not any((path / name).exists() for name in ("adapter_config.json", "config.json")):
            raise ModelError(f"the checkpoint {path} holds neither an adapter (adapter_config.json) nor a model")
    if not found and recipe.checkpoints == "all":
        raise ConfigError(
            f"the method {recipe.name} scores at the checkpoints of a training: give --checkpoints DIR; prism warmup "
            "makes them"
        )
    if not found and recipe.candidate_map == "adam":
        raise ConfigError(
            f"the method {recipe.name} needs the optimizer state of a checkpoint: give --checkpoints DIR; prism warmup "
            "makes one"
        )
    if recipe.candidate_map == "adam":
        for path in found:
            find_state(path)
    if len(found) > 1 and recipe.checkpoints == "one":
        raise ConfigError(
            f"the method {recipe.name} scores at one checkpoint, and --checkpoints holds {len(found)}: name one, "
            f"such as {found[-1]}"
        )
    return [Checkpoint(path) for path in found] or [Checkpoint()]


def fingerprints(checkpoints: Sequence[Path]) -> dict[str, str]:
    """Of their contents, by number and name."""
    return {f"{i} ({path.name})": files_fingerprint(path, FILES) for i, path in enumerate(checkpoints, 1)}
