"""`prism export`: a run's selection as a trainer's data."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    run: Annotated[Path, typer.Argument(help="Run folder of prism select.")],
    format: Annotated[str, typer.Option(help="trl (a saved datasets folder), llamafactory or axolotl.")] = "trl",
    out: Annotated[Path | None, typer.Option(help="New folder; RUN/export-FORMAT unless given.")] = None,
) -> None:
    """Write the selection of a run as a TRL/datasets folder, or as LLaMA-Factory or Axolotl data files."""
    from prism.run.select import load_selection
    from prism.selection import export

    print(export(load_selection(run), out or run / f"export-{format}", format))
