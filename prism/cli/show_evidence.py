"""What trainings and evaluations show at their end."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from prism.cli.show import _text


def show_trained(folder: Path, summary: dict[str, Any], place: tuple[str, str | None]) -> None:
    """What a training was, and how to use what it made."""
    data, settings = summary["data"], summary["settings"]
    facts = Table(show_header=False, title="training")
    lora = settings["lora"]
    facts.add_row("trained", "all weights" if lora is None else f"LoRA of rank {lora['rank']}")
    facts.add_row("weights", f"{summary['trained_parameters']:,} of {summary['parameters']:,}")
    facts.add_row("rows", f"{data['rows']:,} ({data['rejected']:,} rejected, {data['truncated']:,} cut)")
    facts.add_row("response tokens", f"{data['response_tokens']:,}")
    facts.add_row("steps", f"{summary['steps']:,} of {settings['batch']} samples")
    facts.add_row("epochs, learning rate", f"{settings['epochs']:g}, {settings['learning_rate']:g}")
    facts.add_row("loss", f"{summary['loss_first']:.4g} → {summary['loss_last']:.4g} nats per token")
    facts.add_row("seconds", f"{summary['seconds']:.1f}")
    console = Console()
    console.print(facts)
    model, adapter = place
    named = f"--model {model}" + (f" --adapter {adapter}" if adapter else "")
    if bits := summary["base"].get("quantize"):
        named += f" --quantize {bits}"
    console.print(f"use it as {_text(named)}; everything is in {_text(str(folder))}", highlight=False)


def show_evaluated(report: dict[str, Any]) -> None:
    """Every figure with its interval, beside the base's and the difference where there is a base."""
    console = Console()
    for place, found in report["targets"].items():
        title = f"{_text(Path(place).name)}: {found['pairs']:,} pairs"
        console.print(_figures(console, found, PAIR_FIGURES, title))
        _left_out(console, found, "pairs")
    if (found := report["retain"]) is not None:
        names = ", ".join(Path(place).name for place in found["places"])
        title = f"{_text(names)}: {found['rows']:,} rows, {found['tokens']:,} tokens"
        console.print(_figures(console, found, RETAIN_FIGURES, title))
        _left_out(console, found, "rows")
    if (found := report["generate"]) is not None:
        kinds = {"passed": "checks passed"} | {n: f"of {n} checks" for n in ("exact", "number", "regex") if n in found}
        names = ", ".join(Path(place).name for place in found["places"])
        console.print(_figures(console, found, kinds, f"{_text(names)}: {found['checks']:,} generated answers"))
        for count, why in ((found["rejected"], "rows can't be used"), (found["cut"], "prompts were cut to leave room")):
            if count:
                console.print(f"{count:,} {why}", style="dim", highlight=False)
    for name, task in report["tasks"].items():
        figures = {**task["figures"], **{k: task[k] for k in ("base", "difference") if k in task}}
        shown = {metric: metric for metric in task["figures"]}
        console.print(_figures(console, figures, shown, f"{_text(name)}: {task['questions']:,} questions"))
        for note in task["notes"]:
            console.print(_text(note), style="dim", highlight=False)
    spread = report["bootstrap"]
    console.print(
        f"intervals hold {spread['confidence']:.0%} of {spread['resamples']:,} bootstrap resamples", highlight=False
    )


PAIR_FIGURES = {
    "preference": "mean pi",
    "won": "share of pairs won",
    "potential": "K",
    "log_preference": "mean log pi",
    "loss_chosen": "loss of chosen",
    "loss_rejected": "loss of rejected",
}
RETAIN_FIGURES = {"perplexity": "perplexity", "loss": "loss"}


def _figures(console: Console, found: dict[str, Any], names: dict[str, str], title: str) -> Table:
    beside = ("base", "difference") if "base" in found else ()
    table = Table(title=title)
    for column in ("", "model", *beside):
        table.add_column(column, no_wrap=True)
    apart = " " if console.width >= 110 else "\n"
    for name, shown in names.items():
        cells = [_figure(found[name], apart)]
        if beside:
            ratio = found["difference"].get(f"{name}_ratio")
            cells += [_figure(found["base"][name], apart)]
            cells += [f"x {_figure(ratio, apart)}" if ratio else _figure(found["difference"][name], apart, "+")]
        table.add_row(_text(shown), *cells)
    return table


def _figure(figure: dict[str, float | None], apart: str, sign: str = "") -> str:
    value, low, high = (figure[name] for name in ("value", "low", "high"))
    if value is None:
        return "none"
    if low is None or high is None:
        return f"{value:{sign}.3g}"
    return f"{value:{sign}.3g}{apart}\\[{low:{sign}.3g}, {high:{sign}.3g}]"


def _left_out(console: Console, found: dict[str, Any], what: str) -> None:
    for count, why in ((found["rejected"], "can't be used"), (found["not_finite"], "have no finite loss")):
        if count:
            console.print(f"{count:,} {what} {why} and are left out", style="dim", highlight=False)


def show_warmed_up(folder: Path, summary: dict[str, Any]) -> None:
    """The checkpoints of a warm-up, and what they weigh."""
    data, settings = summary["data"], summary["settings"]
    table = Table(title=f"warm-up on {data['rows']:,} of {data['pool']:,} rows")
    for column in ("checkpoint", "step", "epoch", "mean learning rate"):
        table.add_column(column, justify="left" if column == "checkpoint" else "right")
    for row in summary["checkpoints"]:
        table.add_row(row["folder"], str(row["step"]), f"{row['epoch']:.2f}", f"{row['learning_rate']:.3g}")
    console = Console()
    console.print(table)
    lora = settings["lora"]
    what = "all weights" if lora is None else f"a LoRA of rank {lora['rank']}"
    console.print(
        f"trained {what}, {settings['batch']} samples per step, {summary['seconds']:.1f} s; "
        f"loss {summary['loss_first']:.4g} → {summary['loss_last']:.4g} nats per token"
    )
    console.print(f"use it as {_text(f'--checkpoints {folder}')}", highlight=False)
