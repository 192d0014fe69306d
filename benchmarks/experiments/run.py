"""Run an experiment of this folder on shared data: `python benchmarks/experiments/run.py skill --data ../shared/data
--model ../shared/models/tiny-llama-2.6M --out results/skill`. The same command goes on where it stopped.

`--scale small` ends within about half an hour on two cores, `cpu` (of `skill`, for one target) within about two hours;
`full` wants a GPU. Markdown goes to OUT/NAME.md, with figures beside it.
"""

import argparse
import itertools
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parent)]

from material import ORDINARY, Material  # noqa: E402

from prism.cli.show import Bars, only_ours  # noqa: E402
from prism.config import SelectConfig  # noqa: E402
from prism.errors import PrismError, first_line  # noqa: E402
from prism.experiments.compare import compare, compare_all  # noqa: E402
from prism.experiments.compare_report import markdown  # noqa: E402
from prism.experiments.config import RepairConfig, checked  # noqa: E402
from prism.experiments.experiment import UNSELECTED, Experiment  # noqa: E402
from prism.experiments.repair import repair  # noqa: E402
from prism.experiments.statistics import mean_interval, plain, spearman  # noqa: E402
from prism.experiments.steps import Place, fine_tuned  # noqa: E402
from prism.experiments.tables import Table, figure  # noqa: E402
from prism.files import write_whole  # noqa: E402
from prism.methods.recipe import Recipe  # noqa: E402
from prism.methods.table import find_method  # noqa: E402
from prism.training.warmup import warmup  # noqa: E402
from prism.training.warmup_config import WarmupConfig  # noqa: E402

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


def skill(job: Job) -> Iterable[str]:
    """A comparison per target; they share passes, warm-ups and trainings."""
    shared = str(job.out / "shared")
    experiments = [
        job.experiment(job.models[0], *job.pairs(name), job.out / name, shared=shared) for name in job.targets
    ]
    for name, found in zip(job.targets, compare_all(experiments, job.bars), strict=True):
        yield _titled(markdown(found), f"Target: {name}", name, job.out)


def noise(job: Job) -> Iterable[str]:
    """A comparison per target and kind of noise; `preference_from: warmup` is a warm-up on some of the pool."""
    methods = [
        {**m, "preference_from": str(_warm(job, job.material.pool(job.scale["pool"]), job.out / "warmup", 0))}
        if m.get("preference_from") == "warmup"
        else m
        for m in job.methods
    ]
    for name in job.targets:
        target, held_out = job.pairs(name)
        for level in job.scale["noise"]:
            ((kind, percent),) = level.items()
            label = "clean" if not percent else f"{percent} % {'swapped' if kind == 'swap' else 'foreign'}"
            spoiled = job.material.noisy(target, kind, percent) if percent else target
            folder = job.out / f"{name}-{kind}{percent}"
            found = job.compare(
                job.models[0], spoiled, held_out, folder, methods=methods, against=["random", "uniform"]
            )
            rows = [
                [
                    m["budget"],
                    m["method"],
                    figure(m["preference"]),
                    *_difference(found, m["method"], m["budget"])[:2],
                    *_difference(found, m["method"], m["budget"], "uniform"),
                ]
                for m in found["methods"]
            ]
            columns = (
                "budget",
                "method",
                "mean preference",
                "difference to random",
                "p (pairs)",
                "difference to uniform weights",
                "p (pairs)",
                "verdict",
            )
            yield f"## Target: {name}, {label}\n\n" + Table("held-out preference", columns, rows).markdown()


def mend(job: Job) -> Iterable[str]:
    """A repair per mixture, method and seed; the broken model of a mixture and seed is made once."""
    for mixture in job.scale["mixtures"]:
        (kind, percent), *own = mixture.items()
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


def _warm(job: Job, data: Path, out: Path, seed: int) -> Path:
    """The folder of a warm-up as the experiment's file has it; one that is there is taken as it is."""
    own = {"pool": [str(data)], "model": job.models[0], "out": str(out), "seed": seed}
    length = {"max_length": job.spec["select"]["max_length"]}
    warmup(checked(WarmupConfig, {**own, **length, **job.spec.get("warmup", {})}), job.bars)
    return out


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
            "checkpoints": [str(_warm(job, files[0], folder / "warmup", seed))],
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


def scales(job: Job) -> Iterable[str]:
    """A comparison per target and model, with selections by every smaller model; and how alike rankings are."""
    for name in job.targets:
        target, held_out = job.pairs(name)
        rows, scores = [], {}
        for place, model in enumerate(job.models):
            label = Path(model).name
            smaller = [
                {"name": f"prism-by-{Path(other).name}", "method": "prism", "model": other}
                for other in job.models[:place]
            ]
            folder = job.out / name / label
            found = job.compare(model, target, held_out, folder, methods=[*job.methods, *smaller])
            for m in found["methods"]:
                rows.append(
                    [label, m["method"], figure(m["preference"]), *_difference(found, m["method"], m["budget"])]
                )
            scores[label] = _scores(next((folder / "scores").glob("prism-????????")))
        columns = ("trained", "method", "mean preference", "difference to random", "p (pairs)", "verdict")
        yield f"## Target: {name}\n\n" + Table("held-out preference by model", columns, rows).markdown()
        alike = []
        for a, b in itertools.combinations(scores, 2):
            ids = sorted(scores[a].keys() & scores[b].keys())
            x, y = (np.array([scores[m][i] for i in ids]) for m in (a, b))
            top = max(1, len(ids) // 20)
            both = len(set(np.argsort(-x)[:top]) & set(np.argsort(-y)[:top])) / top
            alike.append([a, b, f"{spearman(x, y):.3f}", f"{both:.0%}"])
        columns = ("model", "and model", "Spearman of the scores", "of the top 5 % in both")
        yield Table("how alike the rankings of two models are", columns, alike).markdown()


def _scores(folder: Path) -> dict[str, float]:
    import pyarrow.parquet as pq

    tables = [pq.read_table(path, columns=["id", "score"]) for path in sorted((folder / "scores").glob("*.parquet"))]
    pairs = [
        pair for t in tables for pair in zip(t.column("id").to_pylist(), t.column("score").to_pylist(), strict=True)
    ]
    return {name: score for name, score in pairs if score is not None and np.isfinite(score)}


def _difference(found: dict[str, Any], method: str, budget: str, against: str = "random") -> list[str]:
    """Over held-out pairs, its p value, and what compare says of it."""
    for d in found["differences"]:
        if (d["method"], d["budget"], d["against"]) == (method, budget, against):
            return [figure(d["by_pair"], "+.3f"), figure(d["p_pairs_holm"], ".2g"), d["verdict"]]
    return ["–", "–", "–"]


def _over(values: Iterable[float]) -> str:
    found = list(values)
    return figure(plain(mean_interval(found))) if found else "–"


def _titled(text: str, title: str, name: str, out: Path) -> str:
    """A comparison's document as a part of another: headings one level down, figures beside it."""
    for kind in ("preference", "differences"):
        picture = out / name / f"{kind}.svg"
        if picture.exists():
            shutil.copyfile(picture, out / f"{name}-{kind}.svg")
    body = text.replace("\n## ", "\n### ").split("\n", 1)[1]
    for kind in ("preference", "differences"):
        body = body.replace(f"({kind}.svg)", f"({name}-{kind}.svg)")
    return f"## {title}\n{body}"


KINDS = {"skill": skill, "noise": noise, "repair": mend, "scales": scales}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(KINDS))
    parser.add_argument("--data", type=Path, required=True, help="the shared data: pool/, target/, safety/")
    parser.add_argument("--model", nargs="+", required=True, help="base model; for scales several, small to large")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scale", choices=("small", "cpu", "full"), default="small")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--targets", nargs="+")
    parser.add_argument("--methods", nargs="+", help="of the experiment's methods, only these")
    parser.add_argument("--budgets", nargs="+", help="of its budgets, only these")
    args = parser.parse_args()
    with only_ours(), Bars(quiet=False) as bars:
        job = Job(args, bars)
        title = (HERE / f"{args.name}.yaml").read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
        parts = [f"# {title}\n\n{job.head}\n"]
        for part in KINDS[args.name](job):
            parts.append(part)
            write_whole(job.out / f"{args.name}.md", "\n".join(parts))  # what is there so far can be read
    print(job.out / f"{args.name}.md")


if __name__ == "__main__":
    main()
