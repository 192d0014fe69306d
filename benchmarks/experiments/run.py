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

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parent)]

from job import HERE, Job, warmed  # noqa: E402
from mending import mend  # noqa: E402

from prism.cli.show import Bars, only_ours  # noqa: E402
from prism.experiments.compare import compare_all  # noqa: E402
from prism.experiments.compare_report import markdown  # noqa: E402
from prism.experiments.statistics import spearman  # noqa: E402
from prism.experiments.tables import Table, figure  # noqa: E402
from prism.files import write_whole  # noqa: E402


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
        {**m, "preference_from": str(warmed(job, job.material.pool(job.scale["pool"]), job.out / "warmup", 0))}
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
    parser.add_argument("--targets", nargs="+", help="of repair: kinds of mixtures, only these")
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
