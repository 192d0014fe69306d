"""`prism compare`: a grid of methods, budgets and seeds, run and summed up."""

import json
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from prism.data import open_pool, open_target
from prism.errors import ConfigError
from prism.evaluation.retain import retained_rows
from prism.experiments.cells import Runner
from prism.experiments.compare_report import markdown
from prism.experiments.contrast import MEASURES, summarise
from prism.experiments.experiment import Experiment
from prism.experiments.figures import draw
from prism.experiments.grid import Cell, Grid
from prism.experiments.joint import Joint
from prism.experiments.options import require_trainer
from prism.experiments.overlap import overlap_of
from prism.experiments.statistics import plain
from prism.experiments.work import held, logged, once, save_json
from prism.files import write_whole
from prism.progress import Progress, Silent, recorded

COLUMNS = pa.schema(
    [
        ("method", pa.string()), ("budget", pa.string()), ("seed", pa.int64()), ("status", pa.string()),
        ("why", pa.string()), ("rows", pa.int64()), ("response_tokens", pa.int64()), ("pairs", pa.int64()),
        *((name, pa.float64()) for name in MEASURES), ("retain_perplexity", pa.float64()), ("gain", pa.float64()),
        ("steps", pa.int64()), ("loss_last", pa.float64()), ("train_seconds", pa.float64()),
        ("evaluate_seconds", pa.float64()), ("folder", pa.string()),
    ]
)  # fmt: skip


def plan(experiments: Sequence[Experiment]) -> Iterator[list[dict[str, Any]]]:
    """The cells of each experiment and whether each is done already; nothing is written or loaded.

    Raises:
        ConfigError: two of them have one folder.
        PrismError: data or models are missing.
    """
    folders = folders_of(experiments)
    _require_trainers(experiments)
    for experiment, folder in zip(experiments, folders, strict=True):
        runner = Runner(Grid(experiment, folder), Silent())
        yield [
            {"out": str(folder), "method": c.method.name, "budget": c.budget, "seed": c.seed, "done": runner.done(c)}
            for c in runner.grid.cells()
        ]


def compare(experiment: Experiment, progress: Progress | None = None) -> dict[str, Any]:
    """Run what is not done yet, and sum up: `cells.parquet`, `summary.json`, `compare.md` and figures in the folder.

    A cell that fails takes no other down: its row says why, and `failed` counts such.

    Raises:
        PrismError: nothing can be run at all, such as where the base or the data are missing.
    """
    (found,) = compare_all([experiment], progress)
    return found


def compare_all(
    experiments: Sequence[Experiment], progress: Progress | None = None
) -> Generator[dict[str, Any], None, None]:
    """`compare` for one experiment after another, such as one for each target: scores that one pass can serve are made
    together for all of them, and with one `shared` folder so are warm-ups, and trainings on rows that the target has no
    part in.

    Raises:
        ConfigError: two of them have one folder.
        PrismError: as `compare`; where data of any are missing, before anything is run.
    """
    progress = recorded(progress)
    folders = folders_of(experiments)
    _require_trainers(experiments)
    joint = Joint(progress)
    with ExitStack() as stack:
        runners = []
        for experiment, out in zip(experiments, folders, strict=True):
            folder = stack.enter_context(held(out, "compare", experiment.seeds[0]))
            experiment.save(folder / "experiment.yaml", "compare")
            runner = Runner(Grid(experiment, folder), progress, joint)
            with logged(folder):
                overlap = _overlap(runner.grid, progress)
                joint.want(runner.grid, runner.scores(list(runner.grid.cells())))
            runners.append((runner, overlap))
        for runner, overlap in runners:
            with logged(runner.grid.folder):
                found = _compared(runner, overlap, progress)
            yield found


def folders_of(experiments: Sequence[Experiment]) -> list[Path]:
    """Where each goes to.

    Raises:
        ConfigError: two of them have one folder.
    """
    folders = [Path(experiment.out).expanduser().absolute() for experiment in experiments]
    if twice := next((folder for folder in folders if folders.count(folder) > 1), None):
        raise ConfigError(f"two experiments go to {twice}: give each its own out")
    return folders


def _require_trainers(experiments: Sequence[Experiment]) -> None:
    """Raises ConfigError where a training of them would refuse its settings."""
    require_trainer(
        *(given for e in experiments for given in (e.train, e.warmup, *(m.warmup or {} for m in e.methods)))
    )


def _compared(runner: Runner, overlap: dict[str, Any], progress: Progress) -> dict[str, Any]:
    experiment, folder = runner.grid.experiment, runner.grid.folder
    cells = list(runner.grid.cells())
    done = sum(runner.done(cell) for cell in cells)
    progress.note(f"{folder.name}: {len(cells)} cells, of which {done} are done")
    results = [(cell, runner.run(cell)) for cell in cells]
    found: dict[str, Any] = plain(
        {
            "out": str(folder),
            "name": folder.name,
            "base": experiment.model,
            "pool": experiment.pool,
            "target": experiment.target,
            "held_out": experiment.held_out,
            "seeds": experiment.seeds,
            "against": experiment.against,
            "train": experiment.train,
            "overlap": overlap,
            "cells": len(cells),
            "failed": sum(result["status"] == "failed" for _, result in results),
            "failures": [_failure(cell, result) for cell, result in results if result["status"] == "failed"],
            "costs": _costs(runner, cells),
            **summarise([result for _, result in results], experiment.against),
        }
    )
    found["figures"] = draw(found, folder)
    save_json(folder / "summary.json", found)
    _write_cells(folder / "cells.parquet", runner.grid, results)
    write_whole(folder / "compare.md", markdown(found))
    return found


def _overlap(grid: Grid, progress: Progress) -> dict[str, Any]:
    """What pool and target hold of the held-out pairs, and the pool of the retain rows."""
    e = grid.experiment
    pool = open_pool(e.pool, columns=e.columns)
    target = open_target(e.target, columns=e.target_columns)
    pairs = open_target(e.held_out, columns=e.target_columns)
    retain = retained_rows(e.retain, e.columns) if e.retain else None
    pool.require_rows("pool")
    pairs.require_rows("held-out set")
    inputs = {
        "pool": list(pool.fingerprints.values()),
        "target": list(target.fingerprints.values()),
        "pairs": list(pairs.fingerprints.values()),
        "retain": list(open_pool(e.retain).fingerprints.values()) if e.retain else [],
    }
    found = once(grid.folder / "overlap.json", inputs, lambda: overlap_of(pool, target, pairs, retain))
    for notice in found["notices"]:
        progress.note(notice)
    return found


def _failure(cell: Cell, result: dict[str, Any]) -> dict[str, Any]:
    return {"cell": cell.label, "why": result["why"]}


def _costs(runner: Runner, cells: list[Cell]) -> dict[str, Any]:
    """Per method, what its scores took at the first seed that has them."""
    costs: dict[str, Any] = {}
    for cell in cells:
        if cell.method.selects and cell.method.name not in costs and cell.seed is not None:
            file = runner.grid.cost_file(cell.method, cell.seed)
            if file.exists():
                costs[cell.method.name] = json.loads(file.read_text(encoding="utf-8"))["result"]
    return costs


def _write_cells(path: Path, grid: Grid, results: list[tuple[Cell, dict[str, Any]]]) -> None:
    rows = []
    for cell, r in results:
        row: dict[str, Any] = {name: r.get(name) for name in COLUMNS.names}
        if r["status"] == "done":
            row |= {name: r[name]["value"] for name in MEASURES}
            row["retain_perplexity"] = r["retain"]["perplexity"]["value"] if r["retain"] else None
            row |= {name: r.get("training", {}).get(name) for name in ("steps", "loss_last")}
            row |= {f"{name}_seconds": r["seconds"].get(name) for name in ("train", "evaluate")}
        rows.append({**row, "folder": grid.cell_folder(cell).name})
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, COLUMNS), sink)
    write_whole(path, sink.getvalue().to_pybytes())
