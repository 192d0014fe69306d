"""`prism task`: a task file for lm-evaluation-harness, from multiple-choice rows."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    file: Annotated[Path, typer.Argument(help="Multiple-choice rows: JSONL, JSON, CSV or Parquet.", metavar="FILE")],
    out: Annotated[Path, typer.Option(help="Where the task's YAML goes; its rows go beside it.")],
    name: Annotated[str | None, typer.Option(help="The task's name; the file's unless given.")] = None,
) -> None:
    """Write a task of lm-evaluation-harness from multiple-choice rows, for prism evaluate --tasks or lm_eval itself."""
    from prism.evaluation.choices import write_task

    place, count, rejected = write_task(file, out, name=name)
    print(f"{place}: {count:,} questions" + (f"; {len(rejected):,} rows are none" if rejected else ""))
    for row in rejected[:5]:
        print(f"  {row}")
