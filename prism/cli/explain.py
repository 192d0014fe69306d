"""`prism explain`: which tokens of a row make its score."""

import json
from pathlib import Path
from typing import Annotated

import typer


def command(
    run: Annotated[Path, typer.Argument(help="Run folder of prism select.")],
    row: Annotated[str, typer.Option("--id", help="Id of a pool row; selected.jsonl holds them as prism.id.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as one JSON object.")] = False,
) -> None:
    """Split a row's score into what each of its response tokens contributes, exactly."""
    from prism.cli.show import Bars, only_ours, show_explained
    from prism.run.explain import explain_row

    with only_ours(), Bars(quiet=as_json) as bars:
        found = explain_row(run, row, bars)
    if as_json:
        print(json.dumps(found))
    else:
        show_explained(found)
