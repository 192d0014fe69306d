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
        share = (
            "The full selection's scores add up to nothing gained, so no share of them is told"
            if loss["score"] is None
            else f"Its rows make {loss['score']:.1%} of the full selection's sum of scores (rows drawn at random: "
            f"{loss['random']:.1%})"
        )
        console.print(
            f"of the full selection the cascade has {loss['overlap']:.1%}; {loss['survived']:.1%} were let through by "
            f"{text(summary['first'])}. {share}",
            highlight=False,
        )
    for notice in summary["notices"]:
        console.print(text(notice), style="dim", highlight=False)
    console.print(f"everything is in {text(summary['out'])}", highlight=False)
