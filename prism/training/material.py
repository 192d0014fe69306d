"""What a training is made of: rows, and what the run that chose them knows of model and template."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from prism.errors import ConfigError, RunError
from prism.training.config import TrainConfig

MODEL = ("model", "adapter", "tokenizer", "revision", "quantize")
HOW = ("columns", "responses", "plain", "max_length", "trust_remote_code", "allow_pickle")
OTHERWISE: dict[str, Any] = {
    "columns": {}, "responses": "last", "plain": False, "trust_remote_code": False, "allow_pickle": False,
}  # fmt: skip


@dataclass(frozen=True)
class Material:
    """Files to train on, the run folder that they come from, and the config with nothing of the run's left open."""

    files: list[str]
    run: Path | None
    config: TrainConfig


def material_of(config: TrainConfig) -> Material:
    """Resolve run folders among `config.data`, and take from the first one what the config leaves open.

    Raises:
        RunError: a folder holds a run that is not finished.
        ConfigError: neither the config nor a run says which model to train.
    """
    files, run = [], None
    for place in config.data:
        folder = Path(place)
        if folder.is_dir() and _made_by_us(folder):
            files.append(str(_selection(folder)))
            run = run or folder
        else:
            files.append(place)
    theirs = {} if run is None else _options(run)
    update = {name: theirs.get(name, OTHERWISE.get(name)) for name in HOW if getattr(config, name) is None}
    if config.model is None:
        if "model" not in theirs:
            raise ConfigError("--model: is required, as the data is no run folder of prism select that would name it")
        open_ = [name for name in MODEL if getattr(config, name) is None and not (name == "quantize" and config.full)]
        update |= {name: theirs.get(name) for name in open_}
    return Material(files, run, config.model_copy(update=update))


def _made_by_us(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("manifest.json", "selected.jsonl", "summary.json"))


def _selection(folder: Path) -> Path:
    path = folder / "selected.jsonl"
    if not path.exists() or not (folder / "summary.json").exists():
        raise RunError(f"the run in {folder} is not finished: it has no selection yet (give its prism select again)")
    return path


def _options(folder: Path) -> dict[str, Any]:
    """The options that a run was made with; those of a reweighed selection are its run's."""
    try:
        if not (folder / "config.yaml").exists():
            parent = json.loads((folder / "summary.json").read_text(encoding="utf-8")).get("run")
            folder = Path(parent) if parent else folder
        if not (folder / "config.yaml").exists():
            return {}
        found = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, AttributeError, yaml.YAMLError) as error:
        raise RunError(f"the options of the run in {folder} can't be read: {error}") from error
    return found if isinstance(found, dict) else {}
