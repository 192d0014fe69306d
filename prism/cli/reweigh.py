"""`prism reweigh`: another weighting of the target pairs, without the model."""

import json
from pathlib import Path
from typing import Annotated

import typer


def command(
    run: Annotated[Path, typer.Argument(help="Run folder of prism select --pair-scores.")],
    weights: Annotated[
        str,
        typer.Option(
            help="prism (pi), uniform, hard (1 - pi), boundary (pi (1 - pi)), chosen (pi, y+ only), or prism^GAMMA."
        ),
    ],
    budget: Annotated[str | None, typer.Option(help="How much to select; the run's own unless given.")] = None,
    order: Annotated[str | None, typer.Option(help="top or bottom; the run's own unless given.")] = None,
    strategy: Annotated[
        str | None, typer.Option(help="top, per-token, round-robin or coverage; the run's own unless given.")
    ] = None,
    turns: Annotated[str | None, typer.Option(help="What takes turns in a round-robin: pair or subtask.")] = None,
    quota: Annotated[
        list[str] | None, typer.Option(help="SOURCE=20%, =10%..30%, =10%.. or =..30%; the run's own unless given.")
    ] = None,
    near_duplicates: Annotated[
        float | None, typer.Option(help="Of rows that are so similar keep the best placed; the run's own unless given.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder; RUN/reweighed/WEIGHTS unless given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")] = False,
) -> None:
    """Rank and select anew under other weights of the target pairs, in seconds."""
    from prism.cli.show import only_ours, show_reweighed
    from prism.run.reweigh import reweigh

    options = {
        "budget": budget,
        "order": order,
        "strategy": strategy,
        "turns": turns,
        "quotas": quota,
        "near_duplicates": near_duplicates,
    }
    given = {name: value for name, value in options.items() if value is not None and value != []}
    with only_ours():
        summary = reweigh(run, weights, out, **given).summary
    if as_json:
        print(json.dumps(summary, allow_nan=False))
    else:
        show_reweighed(summary)
