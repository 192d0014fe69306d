"""The steps that experiments are made of: train, and evaluate what was trained, each done once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from prism.config import SelectConfig
from prism.data import open_pool, open_target
from prism.evaluation import EvaluateConfig, evaluate
from prism.evaluation.bootstrap import mean_figures
from prism.evaluation.preference import FIGURES
from prism.experiments.config import checked
from prism.experiments.statistics import RESAMPLES, paired_p
from prism.experiments.work import once
from prism.model import find_model
from prism.progress import Progress
from prism.training import TrainConfig, train
from prism.training.folder import RECORD, trained_place
from prism.training.network import trains_whole

READ = ("columns", "plain", "max_length", "quantize", "device", "trust_remote_code", "allow_pickle")
TRAIN = (*READ, "responses", "on_bad_row")
EVALUATE = (*READ, "target_columns", "dtype")


@dataclass(frozen=True)
class Place:
    """Where a model lies: its folder or hub id, the adapter on it, and its tokenizer and revision where they differ."""

    model: str
    adapter: str | None = None
    tokenizer: str | None = None
    revision: str | None = None

    def fields(self) -> dict[str, Any]:
        """As the configs of all commands name them."""
        return {name: getattr(self, name) for name in ("model", "adapter", "tokenizer", "revision")}

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """Of what lies on disk."""
        return find_model(
            self.model, self.adapter, tokenizer=self.tokenizer, revision=self.revision, allow_pickle=True
        ).fingerprints()


def base_of(config: SelectConfig) -> Place:
    return Place(config.model, config.adapter, config.tokenizer, config.revision)


def place_of(folder: str, base: Place) -> Place:
    """A model that the user names beside its base: a training of ours, a LoRA adapter on the base, or a whole model.

    Raises:
        RunError: the training in the folder is not finished.
    """
    path = Path(folder).expanduser()
    if (path / RECORD).exists():
        model, adapter = trained_place(path)
        return Place(model, adapter, base.tokenizer)
    if (path / "adapter_config.json").exists() and not (path / "config.json").exists():
        return Place(base.model, str(path), base.tokenizer, base.revision)
    return Place(folder, None, base.tokenizer)


def fine_tuned(
    base: Place,
    data: Sequence[str | Path],
    out: Path,
    config: SelectConfig,
    options: Mapping[str, Any],
    progress: Progress,
    *,
    seed: int | None = None,
) -> Place:
    """`base` trained on `data`, with the options of `config` that both share; a finished training is taken as it is."""
    own = {"data": [str(place) for place in data], "out": str(out), "seed": config.seed if seed is None else seed}
    train(_training(base, config, options, own), progress)
    model, adapter = trained_place(out)
    return Place(model, adapter, base.tokenizer, base.revision if adapter else None)


def _training(base: Place, config: SelectConfig, options: Mapping[str, Any], own: Mapping[str, Any]) -> TrainConfig:
    shared = {name: getattr(config, name) for name in TRAIN}
    dtype = {"dtype": config.dtype} if config.dtype in ("float32", "bfloat16") else {}
    return checked(TrainConfig, {**shared, **dtype, **base.fields(), **options, **own}, "train")


def for_base(base: Place, config: SelectConfig, options: Mapping[str, Any]) -> SelectConfig:
    """`config` as the base of trainings with these options is measured: where all weights train they are kept in
    float32, and so the base must be read, or the two would differ by its rounding too."""
    if config.dtype != "auto" or not trains_whole(_training(base, config, options, {"data": ["."], "out": "."})):
        return config
    return config.model_copy(update={"dtype": "float32"})


def evaluated(
    place: Place,
    pairs: Sequence[str],
    retain: Sequence[str],
    folder: Path,
    config: SelectConfig,
    options: Mapping[str, Any],
    progress: Progress,
) -> dict[str, Any]:
    """What `prism evaluate` measures of a model on all `pairs` together, each one's values included; kept in `folder`.

    Keys: `pairs` (how many count), those of `FIGURES` (intervals), `retain` (or None) and `values` (lists by pair, None
    where a pair has no finite loss).
    """
    shared = {name: getattr(config, name) for name in EVALUATE}
    fields = {**shared, **place.fields(), "target": list(pairs), "retain": list(retain), "values": True}
    settings = checked(EvaluateConfig, {**fields, "out": str(folder), **options}, "evaluate")
    inputs = {
        "model": place.fingerprints,
        "target": list(open_target(list(pairs)).fingerprints.values()),
        "retain": list(open_pool(list(retain)).fingerprints.values()) if retain else [],
        "options": {**shared, **options},
    }
    return once(folder / "figures.json", inputs, lambda: _together(evaluate(settings, progress), settings))


def _together(report: Mapping[str, Any], config: EvaluateConfig) -> dict[str, Any]:
    """The report's targets as one, with the ids that pairs have where all are read together."""
    parts = [part["values"] for part in report["targets"].values()]
    together = iter(open_target(config.target, columns=config.target_columns))
    ids = []
    for place, part in zip(config.target, parts, strict=True):
        names = {pair.id: next(together).id for pair in open_target([place], columns=config.target_columns)}
        ids += [names[name] for name in part["id"]]
    values = {name: [v for part in parts for v in part[name]] for name in FIGURES}
    columns = {name: np.array([v for v in found if v is not None], np.float64) for name, found in values.items()}
    return {
        "pairs": len(columns["preference"]),
        **mean_figures(columns, config.resamples, config.seed),
        "retain": report["retain"],
        "values": {"id": ids, **values},
    }


def without_values(found: Mapping[str, Any]) -> dict[str, Any]:
    """The figures alone."""
    return {name: value for name, value in found.items() if name != "values"}


def change(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """By how much the mean preference changed between two models, over the pairs that both have a value of: the
    difference with its bootstrap interval, and the p value of the paired t test."""
    first, second = (dict(zip(f["values"]["id"], f["values"]["preference"], strict=True)) for f in (before, after))
    both = [name for name, value in first.items() if value is not None and second.get(name) is not None]
    differences = np.array([second[name] - first[name] for name in both], np.float64)
    found = mean_figures({"difference": differences}, RESAMPLES, 0)
    return {**found, "p": paired_p(differences), "pairs": len(both)}
