"""`prism methods`: what can be asked for with `--method`."""

import json
from typing import Annotated

import typer


def command(
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as one JSON array.")] = False,
) -> None:
    """List the methods that score a pool, with their formulas, sources and costs."""
    from prism.cli.show import only_ours

    with only_ours():
        from prism.methods.table import listing

        methods = listing()
    if as_json:
        print(json.dumps(methods))
        return
    from prism.cli.show_methods import show_methods

    show_methods(methods)
