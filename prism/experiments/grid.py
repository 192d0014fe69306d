"""The cells of a comparison, and what each is a function of."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from prism.config import SelectConfig
from prism.data import open_pool, open_target
from prism.errors import PrismError
from prism.experiments.experiment import Experiment, Method
from prism.experiments.steps import EVALUATE, TRAIN, Place, base_of
from prism.experiments.work import digest
from prism.methods.table import find_method
from prism.run.others import OTHERS, other_fingerprints
from prism.run.prepare import described

HANDED_ON = {*TRAIN, *EVALUATE} - {"columns", "target_columns", "device", "trust_remote_code", "allow_pickle"}


@dataclass(frozen=True)
class Cell:
    """One training and its evaluation; `budget` is empty for the base and the whole pool."""

    method: Method
    budget: str
    seed: int | None

    @property
    def label(self) -> str:
        """What it is called in the log."""
        seed = [] if self.seed is None else [f"seed {self.seed}"]
        return ", ".join([self.method.name, *([self.budget] if self.budget else []), *seed])


class Grid:
    """All cells of an experiment in `folder`, and the folders of their scores and results, named by fingerprints of
    what they are functions of: a changed experiment finds what it shares with the one before."""

    def __init__(self, experiment: Experiment, folder: Path) -> None:
        self.experiment, self.folder = experiment, folder
        self._places: dict[Place, Place] = {}
        self._named: dict[str, dict[str, Any]] = {}

    def cells(self) -> Iterator[Cell]:
        """Method by method, so that its scores are made once."""
        for method in self.experiment.methods:
            seeds: list[int | None] = list(method.seeds or self.experiment.seeds)
            if method.name == "none":
                yield Cell(method, "", None)
                continue
            budgets = (method.budgets or self.experiment.budgets) if method.selects else [""]
            yield from (Cell(method, budget, seed) for seed in seeds for budget in budgets)

    @cached_property
    def base(self) -> Place:
        e = self.experiment
        return Place(e.model, e.adapter, e.tokenizer, e.revision)

    @cached_property
    def _data(self) -> dict[str, list[str]]:
        e = self.experiment
        return {
            "pool": list(open_pool(e.pool, columns=e.columns).fingerprints.values()),
            "target": list(open_target(e.target, columns=e.target_columns).fingerprints.values()),
            "held_out": list(open_target(e.held_out, columns=e.target_columns).fingerprints.values()),
            "retain": list(open_pool(e.retain).fingerprints.values()) if e.retain else [],
        }

    def warmup_folder(self, method: Method, seed: int) -> Path:
        """Shared by methods that warm up alike."""
        fields = self.experiment.warming(method, "out", seed).model_dump(mode="json")
        key = digest({**fields, "pool": self._data["pool"], "model": self.base.fingerprints})
        return self.shared / "warmups" / f"seed{seed}-{key[:8]}"

    def model_folder(self, cell: Cell, data: Sequence[str | Path]) -> Path:
        """Of a cell's training on `data`: its own, or, where experiments share a folder and the target has no part in
        it, that of all trainings alike on the same rows."""
        e = self.experiment
        if e.shared is None or not cell.method.any_target:
            return self.cell_folder(cell) / "model"
        settings = e.settings("out").model_dump(mode="json")
        fields = {name: settings[name] for name in (*TRAIN, "dtype")}
        fields |= {"model": self.base.fingerprints, "train": e.train, "seed": cell.seed}
        fields["data"] = list(open_pool(data, columns=e.columns).fingerprints.values())
        return self.shared / "models" / f"seed{cell.seed}-{digest(fields)[:8]}"

    @cached_property
    def shared(self) -> Path:
        """Where warm-ups lie, and trained models that several experiments share."""
        shared = self.experiment.shared
        return self.folder if shared is None else Path(shared).expanduser().absolute()

    def scores_folder(self, method: Method, seed: int) -> Path:
        """Of the scoring run of a method; one for all seeds unless its scores differ by seed."""
        seed = seed if method.by_seed else 0
        return (
            self.folder / "scores" / f"{method.name}{f'-seed{seed}' * method.by_seed}-{self._scores_key(method, seed)}"
        )

    def cost_file(self, method: Method, seed: int) -> Path:
        """What the scores of a method took, warm-up included."""
        folder = self.scores_folder(method, seed)
        return folder.with_name(f"{folder.name}.cost.json")

    def scoring(self, method: Method, seed: int) -> SelectConfig:
        """The scoring run of a method in its folder; its budget is none of the experiment's."""
        changes: dict[str, Any] = {"seed": seed if method.by_seed else 0, "budget": "1"}
        if method.warms_up:
            changes["checkpoints"] = [str(self.warmup_folder(method, seed))]
        return self.experiment.scoring(method, str(self.scores_folder(method, seed)), **changes)

    def _scores_key(self, method: Method, seed: int) -> str:
        config = self.experiment.scoring(method, "out", seed=seed)
        fields = {**config.stage("scoring"), "method": config.method, "checkpoints": config.checkpoints}
        fields |= {name: self._data[name] for name in ("pool", "target")}
        fields |= {"model": self._model(base_of(config))}  # a method may score at another model than the base
        if config.method.endswith((".yaml", ".yml")):
            fields["recipe"] = described(find_method(config.method))
        if any(getattr(config, name) for name in OTHERS):
            fields |= self._others(config)
        if method.warms_up:
            fields["warmup"] = self.warmup_folder(method, seed).name
        return digest(fields)[:8]

    def _others(self, config: SelectConfig) -> dict[str, Any]:
        """Of the models, checkpoints and curvatures that a method's options name, read once; the names where one is not
        there, which the method's cells say."""
        names = {name: getattr(config, name) for name in OTHERS}
        key = digest({**names, "model": config.model})
        if key not in self._named:
            try:
                self._named[key] = other_fingerprints(config)
            except PrismError:
                self._named[key] = names
        return self._named[key]

    def _model(self, place: Place) -> dict[str, Any]:
        """Fingerprints of a model, read once, however many cells ask; its names where it is not there, which the
        method's cells say."""
        try:
            return dict(self._places.setdefault(place, place).fingerprints)
        except PrismError:
            if place == self.base:
                raise
            return place.fields()

    def inputs(self, cell: Cell) -> dict[str, Any]:
        """All that a cell's result is a function of."""
        e = self.experiment
        found: dict[str, Any] = {
            "model": self.base.fingerprints,
            "held_out": self._data["held_out"],
            "retain": self._data["retain"],
            "columns": [e.columns, e.target_columns],
            "select": {n: v for n, v in e.select.items() if n in HANDED_ON},
            "evaluate": e.evaluate,
        }
        if cell.method.name != "none":
            found |= {"pool": self._data["pool"], "train": e.train, "seed": cell.seed}
        if cell.method.selects:
            assert cell.seed is not None
            config = e.scoring(cell.method, "out")
            found |= {"scores": self.scores_folder(cell.method, cell.seed).name, "budget": cell.budget}
            found |= {"selection": {n: v for n, v in config.stage("selection").items() if n != "budget"}}
        return found

    def cell_folder(self, cell: Cell) -> Path:
        budget = f"-{cell.budget.replace('%', 'pct').replace(' ', '')}" if cell.budget else ""
        seed = "" if cell.seed is None else f"-seed{cell.seed}"
        return self.folder / "cells" / f"{cell.method.name}{budget}{seed}-{digest(self.inputs(cell))[:8]}"
