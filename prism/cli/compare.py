"""`prism compare`: methods, budgets and seeds against each other."""

import json
from pathlib import Path
from typing import Annotated

import typer


def command(
    experiments: Annotated[
        list[Path],
        typer.Argument(
            metavar="EXPERIMENT...",
            help="YAML files: model, pool, target, held_out, methods, budgets, seeds. Several share their passes.",
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="Folder; the file's own, or runs/NAME, unless given.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the cells, and which are done.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print errors only.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print each summary as a line of JSON.")] = False,
) -> None:
    """Run a grid of methods, budgets and seeds, and say what differs; goes on where it stopped."""
    from prism.cli.show import Bars, only_ours, show_tables
    from prism.errors import ConfigError
    from prism.experiments.compare import compare_all, plan
    from prism.experiments.compare_report import notes, statements, tables
    from prism.experiments.experiment import load_experiment
    from prism.experiments.tables import Table

    if out and len(experiments) > 1:
        raise ConfigError("--out is the folder of one experiment: with several, write out: into each file")
    settings = [load_experiment(file, {"out": str(out)} if out else {}, name=file.stem) for file in experiments]
    if dry_run:
        for one, cells in zip(settings, plan(settings), strict=True):
            if as_json:
                print(json.dumps(cells))
            elif not quiet:
                seeds = ["" if cell["seed"] is None else str(cell["seed"]) for cell in cells]
                words = [
                    [c["method"], c["budget"], seed, "done" if c["done"] else "to do"]
                    for c, seed in zip(cells, seeds, strict=True)
                ]
                left = sum(not cell["done"] for cell in cells)
                title = f"cells of {Path(one.out).name}"
                show_tables([Table(title, ("method", "budget", "seed", ""), words)], [f"{left} of {len(cells)} to do"])
        return
    failed, bars = 0, Bars(quiet=quiet or as_json)
    summaries = compare_all(settings, bars)
    for _ in settings:
        with only_ours(), bars:
            found = next(summaries)
        failed += found["failed"]
        if as_json:
            print(json.dumps(found, allow_nan=False))
        elif not quiet:
            where = f"everything is in {found['out']} (compare.md, cells.parquet, figures)"
            show_tables(tables(found, brief=True), [*statements(found), *notes(found), where])
    summaries.close()
    if failed:
        raise typer.Exit(1)
