"""What `prism cascade` says at its end."""

from typing import Any

from rich.console import Console
from rich.table import Table

from prism.cli.show import _sources
from prism.cli.show import _text as text


def show_cascade(summary: dict[str, Any]) -> None:
    """The stages with their seconds, what was chosen, and what the cascade loses where that was asked for."""
    console = Console()
    stages = Table("stage", "method", "rows scored", "seconds", title="cascade")
    for name, stage in summary["stages"].items():
        stages.add_row(name, text(stage["method"]), f"{stage['rows']:,}", f"{stage['seconds']:.1f}")
    console.print(stages)
    console.print(_sources(summary["sources"], f"selected: {summary['rows']:,} rows", summary["rows"]))
    if loss := summary["loss"]:
        share = "no share that means anything" if loss["score"] is None else f"{loss['score']:.1%}"
        random = "" if loss["random"] is None else f" (rows drawn at random: {loss['random']:.1%})"
        console.print(
            f"of the full selection the cascade has {loss['overlap']:.1%}; {loss['survived']:.1%} were let through by "
            f"{text(summary['first'])}. Its rows make {share} of the full selection's sum of scores{random}",
            highlight=False,
        )
    for notice in summary["notices"]:
        console.print(text(notice), style="dim", highlight=False)
    console.print(f"everything is in {text(summary['out'])}", highlight=False)
