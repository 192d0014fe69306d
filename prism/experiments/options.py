"""Options of other commands, handed through: refused before anything is run where a command would refuse them, or where
they are not the user's to set here."""

from collections.abc import Mapping
from typing import Any

from prism.config import Config, SelectConfig, load_config
from prism.errors import ConfigError
from prism.evaluation import EvaluateConfig
from prism.training import TrainConfig
from prism.training.warmup_config import WarmupConfig

MODEL = frozenset({"model", "adapter", "tokenizer", "revision"})
DISPLAY = frozenset({"out", "quiet", "as_json", "json", "dry_run"})
OF_RUNS = DISPLAY | {"pool", "target", "budget", "seed"}  # what no single method of several has for itself
COMMANDS: dict[str, tuple[type[Config], dict[str, Any], frozenset[str]]] = {  # config, what it needs, what is set here
    "select": (
        SelectConfig,
        {"model": ".", "pool": ["."], "out": "."},
        MODEL | OF_RUNS | {"method"},
    ),
    "train": (TrainConfig, {"data": ["."], "out": "."}, MODEL | DISPLAY | {"data", "seed"}),
    "evaluate": (
        EvaluateConfig,
        {"model": "."},
        MODEL | DISPLAY | {"base", "base_adapter", "target", "retain", "values"},
    ),
    "warmup": (WarmupConfig, {"model": ".", "pool": ["."], "out": "."}, MODEL | DISPLAY | {"pool", "seed"}),
}


def handed_on(command: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Options `given` for a command that runs inside another, by the names of its config's fields.

    Raises:
        ValueError: one is unknown or malformed, or the command around it sets it.
    """
    config, needed, ours = COMMANDS[command]
    options = {str(name).replace("-", "_"): value for name, value in given.items()}
    if odd := sorted(ours & options.keys()):
        raise ValueError(f"{odd[0]} is set for each run of prism {command}, and is no option of it here")
    try:
        load_config(None, {**needed, **options}, config)
    except ConfigError as error:
        raise ValueError(str(error)) from error
    return options


def require_trainer(*options: Mapping[str, Any]) -> None:
    """Raises ConfigError where TRL is not there, or refuses the `trainer` settings among options of trainings."""
    from prism.training.trainer import checked, require_trl

    _, settings = require_trl()
    for given in options:
        checked(given.get("trainer") or {}, settings)
