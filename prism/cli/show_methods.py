"""What `prism methods` prints."""

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

LEGEND = (
    "g is a gradient, L and l are the summed and the mean loss of a response's tokens, z a candidate, q a target pair "
    "of subtask k, H the curvature, eta_c the learning rate of checkpoint c; |z| counts response tokens. A cost is in "
    "passes over the pool, each as dear as training on it. Your own: --method FILE.yaml (docs/methods.md)."
)


def show_methods(methods: list[dict[str, Any]]) -> None:
    """One table for gradient methods, one for baselines."""
    console = Console()
    for kind in ("gradient", "baseline"):
        table = Table(title=f"{kind} methods" if kind == "gradient" else "baselines, without gradients")
        for column in ("name", "what", "score", "cost", "source"):
            table.add_column(column, overflow="fold", no_wrap=column == "name")
        for row in (row for row in methods if row["kind"] == kind):
            table.add_row(*(Text(row[key]) for key in ("name", "about", "formula", "cost", "source")))
        console.print(table)
    console.print(Text(LEGEND, style="dim"))
