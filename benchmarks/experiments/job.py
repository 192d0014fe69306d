"""What an experiment of this folder is told, by its file and on the command line."""

import argparse
from pathlib import Path
from typing import Any

import yaml
from material import Material

from prism.cli.show import Bars
from prism.experiments.compare import compare
from prism.experiments.config import checked
from prism.experiments.experiment import UNSELECTED, Experiment
from prism.training.warmup import warmup
from prism.training.warmup_config import WarmupConfig

HERE = Path(__file__).resolve().parent


class Job:
    """An experiment at one scale: its file, what was asked for on the command line, and its material."""

    def __init__(self, args: argparse.Namespace, bars: Bars) -> None:
        self.spec = yaml.safe_load((HERE / f"{args.name}.yaml").read_text(encoding="utf-8"))
        self.scale = self.spec[args.scale]
        self.models, self.out, self.bars = [str(Path(m)) for m in args.model], args.out.absolute(), bars
        self.seeds = args.seeds or self.scale["seeds"]
        self.targets = args.targets or self.scale.get("targets", [])
        self.budgets = self.scale.get("budgets", [])
        specs = ({"name": m} if isinstance(m, str) else m for m in self.scale["methods"])
        self.methods = [
            method
            for spec in specs
            if not args.methods or spec["name"] in args.methods
            if (method := _with_budgets(spec, self.budgets, args.budgets))
        ]
        self.train = {**self.spec["train"], **self.scale.get("train", {})}
        self.material = Material(args.data, self.out / "data")
        self.head = (
            f"Scale `{args.scale}`, model{'s' * (len(self.models) > 1)} "
            f"{', '.join(f'`{Path(m).name}`' for m in self.models)}."
        )

    def compare(self, *given: Any, **changes: Any) -> dict[str, Any]:
        """One comparison."""
        return compare(self.experiment(*given, **changes), self.bars)

    def experiment(self, model: str, target: Path, held_out: Path, out: Path, **changes: Any) -> Experiment:
        """What a comparison is told."""
        fields = {
            "model": model,
            "pool": [str(self.material.pool(self.scale["pool"]))],
            "target": [str(target)],
            "held_out": [str(held_out)],
            "retain": [str(path) for path in self.retain(self.material.pool(self.scale["pool"]))],
            "methods": self.methods,
            "budgets": self.budgets,
            "seeds": self.seeds,
            "against": ["random", "less"],
            "out": str(out),
            **{name: self.spec[name] for name in ("select", "warmup") if name in self.spec},
            "train": self.train,
            **changes,
        }
        return Experiment.model_validate(fields)

    def retain(self, data: Path) -> list[Path]:
        """Rows of the pools that `data` has not, whose perplexity should not suffer."""
        rows = self.scale.get("retain")
        return [self.material.retain(data, rows)] if rows else []

    def pairs(self, name: str) -> tuple[Path, Path]:
        return self.material.target(name, self.scale["pairs"], self.scale["held_out"])


def _with_budgets(method: dict[str, Any], of_all: list[str], only: list[str] | None) -> dict[str, Any] | None:
    """A method of the file with those of its budgets that were asked for; None where it has none of them."""
    if not only or method["name"] in UNSELECTED:
        return method
    kept = [budget for budget in method.get("budgets", of_all) if budget in only]
    return {**method, "budgets": kept} if kept else None


def warmed(job: Job, data: Path, out: Path, seed: int) -> Path:
    """The folder of a warm-up as the experiment's file has it; one that is there is taken as it is."""
    own = {"pool": [str(data)], "model": job.models[0], "out": str(out), "seed": seed}
    length = {"max_length": job.spec["select"]["max_length"]}
    warmup(checked(WarmupConfig, {**own, **length, **job.spec.get("warmup", {})}), job.bars)
    return out
