"""The options of baselines, and the other models that they name: checked before a run begins, part of its identity."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from prism.config import SelectConfig
from prism.errors import ConfigError, RunError
from prism.methods.baselines import BASELINES, Baseline
from prism.methods.baselines.sentences import require_embedder
from prism.methods.checkpoints import find_checkpoints
from prism.methods.context import Options
from prism.methods.recipe import Recipe
from prism.model.fingerprint import ADAPTER, WEIGHTS, files_fingerprint
from prism.model.places import find_other
from prism.run.checkpoints import fingerprints
from prism.training.folder import RECORD, trained_place

FITS = ("curvature.json", "optimizer*")
OTHERS = ("checkpoints", "curvature_from", "preference_from", "reference", "embedder")
GRADIENTS = ("checkpoints", "pair_scores", "gradient_norms", "curvature", "curvature_from", "preference_from")


def options_of(config: SelectConfig) -> Options:
    """The options of a config that concern baselines."""
    return Options(**{field.name: getattr(config, field.name) for field in fields(Options)})


def require_fitting(config: SelectConfig, method: Recipe | Baseline) -> None:
    """Raises ConfigError for options that the method has no use for, or lacks."""
    if isinstance(method, Baseline):
        if unused := next((name for name in GRADIENTS if getattr(config, name)), None):
            raise ConfigError(f"the method {method.name} uses no gradients: drop --{unused.replace('_', '-')}")
        return method.check(options_of(config))
    if config.aggregate is not None:
        raise ConfigError(f"--aggregate is for baselines; {method.name} says itself how it aggregates: write a recipe")
    if config.preference_from is not None:
        method.require_preferences("--preference-from")
    for field in fields(Options):
        if getattr(config, field.name) != field.default:
            users = ", ".join(name for name, baseline in BASELINES.items() if field.name in baseline.takes)
            raise ConfigError(f"--{field.name} is for the method {users}, not for {method.name}: leave it out")


def weighing_model(config: SelectConfig) -> tuple[str, str | None]:
    """(model, adapter or None) whose preferences weigh the pairs: what `prism train` made, on the base that it was made
    from; of a warm-up the last checkpoint; else a model, or an adapter on the scored model.

    Raises:
        ModelError: there is none.
        RunError: the training is not finished.
    """
    place = str(config.preference_from)
    folder = Path(place).expanduser()
    if (folder / RECORD).exists():
        return trained_place(folder)
    if folder.is_dir() and not any((folder / name).exists() for name in ("config.json", "adapter_config.json")):
        place = str(find_checkpoints([folder])[-1])
    found, adapter = find_other(place, config.allow_pickle)
    return (config.model, str(found)) if adapter else (str(found), None)


def other_fingerprints(config: SelectConfig) -> dict[str, Any]:
    """Fingerprints of the models, checkpoints and fitted curvatures that options name, where they lie in a folder; an
    embedder's hub id is known by name alone.

    Raises:
        ModelError: one of them is not there.
        RunError: there is no fitted curvature.
        ConfigError: an embedder is asked for, and sentence-transformers is not installed.
    """
    found: dict[str, Any] = {}
    if checkpoints := find_checkpoints(config.checkpoints):
        found["checkpoint"] = fingerprints(checkpoints)
    if config.curvature_from is not None:
        found["curvature"] = _fit_fingerprint(Path(config.curvature_from))
    if config.reference is not None:
        folder, _ = find_other(config.reference, config.allow_pickle)
        found["reference"] = files_fingerprint(folder, WEIGHTS + ADAPTER)
    if config.preference_from is not None:
        model, adapter = weighing_model(config)
        folder, _ = find_other(adapter or model, config.allow_pickle)
        found["preference_from"] = files_fingerprint(folder, WEIGHTS + ADAPTER)
        if adapter and model != config.model:
            base, _ = find_other(model, config.allow_pickle)
            found["preference_base"] = files_fingerprint(base, WEIGHTS)
    if config.embedder is not None:
        require_embedder(config.embedder)
        if Path(config.embedder).is_dir():
            found["embedder"] = files_fingerprint(Path(config.embedder), ("*", "*/*"))
    return found


def _fit_fingerprint(place: Path) -> str:
    """Of a fitted curvature, or of an optimizer's state.

    Raises:
        RunError: there is none.
    """
    if place.is_file():
        return files_fingerprint(place.parent, (place.name,))
    folder = next((f for f in (place / "curvature", place) if f.is_dir()), None)
    if folder is None or not any(any(folder.glob(pattern)) for pattern in FITS):
        raise RunError(f"--curvature-from {place} holds neither a fitted curvature nor an optimizer's state")
    return files_fingerprint(folder, FITS)
