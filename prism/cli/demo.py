"""`prism demo`: the whole job offline, on what ships in the package."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    out: Annotated[Path, typer.Option(help="Folder for the demo's data and run.")] = Path("runs/demo"),
    budget: Annotated[str, typer.Option(help="How much to select, as in prism select.")] = "5%",
    seed: Annotated[int, typer.Option(help="Seed of data, random selection and training.")] = 0,
) -> None:
    """Select from a generated pool, fine-tune on the selection and on random rows, and compare: about a minute."""
    from rich.console import Console
    from rich.table import Table

    from prism.cli.show import Bars, only_ours, show_summary
    from prism.demo.run import run_demo

    with only_ours(), Bars(quiet=False) as bars:
        demo = run_demo(out, budget=budget, seed=seed, progress=bars)
    show_summary(demo.run.summary)
    table = Table("model", "mean preference", "pairs won", "K", title="held-out pairs, before and after fine-tuning")
    names = {"before": "as it ships", "random": "tuned on random rows", "PRISM": "tuned on PRISM's rows"}
    for name, measured in demo.preferences.items():
        table.add_row(names[name], f"{measured.mean:.3f}", f"{measured.won:.0%}", f"{measured.potential:.3f}")
    console = Console()
    console.print(table)
    console.print(
        f"each fine-tuned on {len(demo.run.selection)} rows; wanted are careful answers to risky requests, "
        f"unwanted glib ones (one seed)\nrun folder: {demo.run.folder}",
        highlight=False,
    )
