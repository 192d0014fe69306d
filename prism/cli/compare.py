"""`prism compare`: methods, budgets and seeds against each other."""

import json
from pathlib import Path
from typing import Annotated

import typer


def command(
    experiment: Annotated[
        Path, typer.Argument(help="YAML file: model, pool, target, held_out, methods, budgets, seeds.")
    ],
    out: Annotated[Path | None, typer.Option(help="Folder; the file's own, or runs/NAME, unless given.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the cells, and which are done.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print errors only.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")] = False,
) -> None:
    """Run a grid of methods, budgets and seeds, and say what differs; goes on where it stopped."""
    from prism.cli.show import Bars, only_ours, show_tables
    from prism.experiments.compare import compare, plan
    from prism.experiments.compare_report import notes, statements, tables
    from prism.experiments.experiment import load_experiment
    from prism.experiments.tables import Table

    settings = load_experiment(experiment, {"out": str(out)} if out else {}, name=experiment.stem)
    if dry_run:
        cells = plan(settings)
        if as_json:
            print(json.dumps(cells))
        elif not quiet:
            words = [[c["method"], c["budget"], str(c["seed"] or 0), "done" if c["done"] else "to do"] for c in cells]
            left = sum(not cell["done"] for cell in cells)
            show_tables([Table("cells", ("method", "budget", "seed", ""), words)], [f"{left} of {len(cells)} to do"])
        return
    with only_ours(), Bars(quiet=quiet or as_json) as bars:
        found = compare(settings, bars)
    if as_json:
        print(json.dumps(found, allow_nan=False))
    elif not quiet:
        where = f"everything is in {found['out']} (compare.md, cells.parquet, figures)"
        show_tables(tables(found, brief=True), [*statements(found), *notes(found), where])
    if found["failed"]:
        raise typer.Exit(1)
