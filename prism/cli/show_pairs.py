"""What `prism pairs` says at its end."""

from typing import Any

from rich.console import Console
from rich.table import Table

from prism.cli.show import _text as text


def show_pairs(summary: dict[str, Any]) -> None:
    """Pairs by source of y-, how length tells the sides apart, and what was dropped."""
    console = Console()
    title = f"{summary['pairs']:,} pairs of {summary['read']:,} rows read"
    table = Table("source of rejected", "pairs", "AUC of length", "chosen longer", "mean characters", title=title)
    for source, count in summary["rejected_from"].items():
        figures = summary["length"][source]
        sizes = f"{figures['chosen']:.0f} chosen, {figures['rejected']:.0f} rejected"
        table.add_row(text(source), f"{count:,}", f"{figures['auc']:.2f}", f"{figures['longer']:.0%}", sizes)
    console.print(table)
    if summary["subtasks"]:
        most = [f"{text(name)} ({count:,})" for name, count in list(summary["subtasks"].items())[:5]]
        console.print(f"{len(summary['subtasks'])} subtasks: {', '.join(most)}", highlight=False)
    if summary["dropped"]:
        title = f"{text(summary['rejected'])} lists {summary['dropped']:,}"
        dropped = Table("dropped", "rows", title=title)
        for reason, count in summary["reasons"].items():
            dropped.add_row(text(reason), f"{count:,}")
        console.print(dropped)
    for notice in summary["notices"]:
        console.print(text(notice), style="yellow", highlight=False)
    console.print(f"prism select --target {text(summary['out'])} takes them as they are", highlight=False)
