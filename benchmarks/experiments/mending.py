"""Experiment C: repairs of bases that mixtures of harmful and benign rows broke."""

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from job import Job, warmed
from material import ORDINARY

from prism.config import SelectConfig
from prism.errors import PrismError, first_line
from prism.experiments.config import RepairConfig, checked
from prism.experiments.repair import repair
from prism.experiments.statistics import mean_interval, plain
from prism.experiments.steps import Place, fine_tuned
from prism.experiments.tables import Table, figure
from prism.methods.recipe import Recipe
from prism.methods.table import find_method


def mend(job: Job) -> Iterable[str]:
    """A repair per mixture, method and seed; the broken model of a mixture and seed is made once."""
    kinds = {next(iter(mixture)) for mixture in job.scale["mixtures"]}
    if unknown := set(job.targets) - kinds:
        raise SystemExit(f"--targets {', '.join(sorted(unknown))}: the mixtures are {', '.join(sorted(kinds))}")
    for mixture in job.scale["mixtures"]:
        (kind, percent), *own = mixture.items()
        if job.targets and kind not in job.targets:
            continue
        sizes = {name: job.scale[name] for name in ("rows", "pairs", "held_out")} | dict(own)
        data, target, held_out = job.material.mixture(kind, percent, **sizes)
        found: dict[str, list[dict[str, Any]]] = {}
        failed: list[list[str]] = []
        for seed, asked in itertools.product(range(job.seeds), job.methods):
            method, at = asked["name"], asked.get("at", job.scale["at"])
            folder = job.out / f"{kind}-{percent}-seed{seed}"
            try:
                one = _mended(job, folder, method, at, seed, (data, target, held_out), percent)
            except PrismError as error:
                job.bars.note(f"{method} failed: {error}")
                failed.append([method, str(seed), first_line(error)])
                continue
            for name, done in one["repairs"].items():
                found.setdefault(f"{method} at {done['at']}", []).append({**one, "done": done, "name": name})
        yield f"## {kind}, {percent} %\n\n" + _mending(found).markdown()
        if failed:
            yield Table("failed", ("method", "seed", "why"), failed).markdown()


def _mended(
    job: Job, folder: Path, method: str, at: str, seed: int, files: tuple[Path, Path, Path], percent: int
) -> dict[str, Any]:
    data, target, held_out = map(str, files)
    common = {**job.spec["select"], "model": job.models[0], "target": [target], "seed": seed}
    shared = checked(SelectConfig, {**common, "pool": [data], "out": str(folder)})
    fine_tuned(Place(job.models[0]), [data], folder / "broken", shared, job.train, job.bars)
    more: dict[str, Any] = {}
    recipe = find_method(method)
    if isinstance(recipe, Recipe) and (recipe.checkpoints == "all" or recipe.candidate_map == "adam"):
        more = {
            "checkpoints": [str(warmed(job, files[0], folder / "warmup", seed))],
            "at": "base",
        }  # scored along the warm-up, not at the broken model
    fields = {
        **common,
        "data": [data],
        "held_out": [held_out],
        "label_column": "harmful",
        "drop": f"{percent}%",
        "method": method,
        "broken": str(folder / "broken"),
        "at": at,
        "train": job.train,
        "retain": [str(path) for path in job.retain(files[0])],
        "out": str(folder / method),
        **more,
    }
    return repair(checked(RepairConfig, fields), job.bars)


def _mending(found: dict[str, list[dict[str, Any]]]) -> Table:
    rows = []
    for name, runs in found.items():
        labels = [run["done"]["labels"] for run in runs]
        harmful = [100 * label["precision"] for label in labels]
        stages = [[run["behaviour"][model or run["name"]] for run in runs] for model in ("base", "broken", None)]
        rows.append(
            [
                name,
                _over(label["auroc"]["value"] for label in labels if label["auroc"]),
                _over(one for label in labels for one in _alike(label)),
                _over(label["average_precision"]["value"] for label in labels if label["average_precision"]),
                f"{np.mean(harmful):.0f} %",
                f"{np.mean([label['benign_lost']['rows'] for label in labels]):.0f}",
                *(_over(one["preference"]["value"] for one in stage) for stage in stages),
                " / ".join(map(_perplexity, stages)),
            ]
        )
    columns = (
        "method",
        "AUROC",
        "AUROC, own kind",
        "average precision",
        "of dropped harmful",
        "benign lost",
        "base",
        "broken",
        "repaired",
        "retain perplexity",
    )
    return Table("ranking, and preference for the harmful side on held-out pairs", columns, rows)


def _perplexity(behaviour: list[dict[str, Any]]) -> str:
    found = [one.get("retain") for one in behaviour]
    return f"{np.mean([one['perplexity']['value'] for one in found]):.1f}" if all(found) else "–"


def _alike(labels: dict[str, Any]) -> list[float]:
    """AUROC against the benign rows of the harmful ones' own kind: all but those of the ordinary pool."""
    return [one["auroc"] for one in labels["against_sources"] if f"{one['source']}.jsonl" not in ORDINARY]


def _over(values: Iterable[float]) -> str:
    found = list(values)
    return figure(plain(mean_interval(found))) if found else "–"
