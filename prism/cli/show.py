"""What the command line shows: progress bars on stderr, tables on stdout."""

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from prism.methods.baselines import BASELINES
from prism.scoring.check import CheckReport


@contextlib.contextmanager
def only_ours() -> Iterator[None]:
    """What other libraries, and code that comes with a model, have to say goes to the run's log or nowhere."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    logging.getLogger().addHandler(logging.NullHandler())  # or python prints warnings that nobody handles
    logging.captureWarnings(True)
    try:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            yield
    finally:
        logging.captureWarnings(False)


class Bars:
    """Progress bars with tokens per second and time left."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._console = Console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description:>6}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]:>14}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=quiet,
        )
        self._task: TaskID | None = None
        self._tokens = 0

    def __enter__(self) -> "Bars":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def start(self, phase: str, rows: int) -> None:
        self._task, self._tokens = self._bars.add_task(phase, total=rows, speed=""), 0

    def advance(self, rows: int, tokens: int) -> None:
        assert self._task is not None
        self._tokens += tokens
        task = self._bars.tasks[self._task]
        speed = f"{self._tokens / task.elapsed:,.0f} tok/s" if task.elapsed else ""
        self._bars.update(self._task, advance=rows, speed=speed)

    def note(self, message: str) -> None:
        if not self._quiet:
            self._console.print(_text(message), style="dim", highlight=False)


def show_summary(summary: dict[str, Any]) -> None:
    """The tables at the end of a run."""
    console = Console()
    rows, target, chosen = summary["rows"], summary["target"], summary["selection"]
    facts = Table("rows", *(name.replace("_", " ") for name in rows), title="pool")
    facts.add_row("", *(f"{n:,}" for n in rows.values()))
    console.print(facts)
    spread = Table("", *summary["score"], title="quantiles")
    if target["preference"]:  # baselines measure none
        spread.add_row(f"preference of {target['pairs']} pairs", *(f"{v:.3f}" for v in target["preference"].values()))
    spread.add_row("score", *(f"{v:.3g}" for v in summary["score"].values()))
    console.print(spread)
    pairs = Table("pair", "preference", "prompt", title="most and least preferred pairs")
    shown = {pair["id"]: pair for pair in target["most_preferred"] + target["least_preferred"][::-1]}
    for pair in shown.values():
        prompt = " ".join(pair["prompt"].split())
        pairs.add_row(_text(pair["id"]), f"{pair['preference']:.3f}", _text(prompt[:70] + "…" * (len(prompt) > 70)))
    if shown:
        console.print(pairs)
    title = f"selected: {chosen['rows']:,} rows, {chosen['response_tokens']:,} response tokens"
    console.print(_sources(chosen["sources"], title, chosen["rows"]))
    if chosen["gain"] is not None:
        console.print(
            f"predicted first-order gain in K per unit of learning rate: {chosen['gain']:.4g} "
            f"(a random selection of the same size: {chosen['random_gain']:.4g})",
            highlight=False,
        )
    if cost := summary["cost"]:
        console.print(
            f"{cost['passes']} {'pass' if cost['passes'] == 1 else 'passes'} of {cost['rows_per_second']:,.1f} rows a "
            f"second; a plain pass of prism does {cost['prism_rows_per_second']:,.1f}: as dear as "
            f"{cost['prism_passes']} such passes",
            highlight=False,
        )
    error = summary["engine_error"]
    off = "" if error is None else f", off by {error:.1e} of the scores where it was compared with the exact one"
    engine = _text(summary["engine"])
    console.print(f"scored by {engine}" if engine in BASELINES else f"{engine} engine{off}", highlight=False)
    console.print(
        f"{summary['seconds']:.1f} s, {summary['peak_memory_mb']:,} MiB; everything is in {_text(summary['out'])}",
        highlight=False,
    )


def show_check(model: str, report: CheckReport, notices: Sequence[str]) -> None:
    """What `prism check` found."""
    facts = Table(show_header=False, title="self-check")
    facts.add_row("model", _text(model))
    facts.add_row("engine", report.engine)
    if report.error is None:
        facts.add_row("why", _text(report.reason))
    else:
        facts.add_row("largest error", f"{report.error:.1e} of the squared gradient norm, on {report.samples} samples")
        facts.add_row("where", _text(report.parameter or "nowhere"))
        facts.add_row("module", _text(report.module or "none"))
        facts.add_row("passes up to", f"{report.tolerance:.0e}")
    for notice in notices:
        facts.add_row("note", _text(notice))
    Console().print(facts)


def show_reweighed(summary: dict[str, Any]) -> None:
    """What `prism reweigh` chose."""
    console = Console()
    same = summary["same_as_the_run"]
    console.print(_sources(summary["sources"], f"weights {summary['weights']}, {summary['about']}", summary["rows"]))
    gain = (
        ""
        if summary["gain"] is None
        else f"; predicted first-order gain {summary['gain']:.4g} (a random selection of the same size: "
        f"{summary['random_gain']:.4g})"
    )
    console.print(f"{same:,} of the {summary['rows']:,} rows are those of the run's own weights{gain}", highlight=False)
    for notice in summary["notices"]:
        console.print(_text(notice), style="dim", highlight=False)
    console.print(f"everything is in {_text(summary['out'])}", highlight=False)


def show_tables(tables: Sequence[Any], remarks: Sequence[str] = ()) -> None:
    """Tables of `prism.experiments.tables`, and lines of text below them."""
    console = Console()
    for shown in tables:
        table = Table(*(_text(name) for name in shown.columns), title=_text(shown.title))
        for row in shown.rows:
            table.add_row(*(_text(cell) for cell in row))
        console.print(table)
    for remark in remarks:
        console.print(_text(remark), highlight=False)


def show_explained(found: dict[str, Any]) -> None:
    """The tokens of a response, each with its loss and its part of the score."""
    console = Console()
    tokens = Table("token", "loss", "contribution", "", title=f"row {_text(found['id'])}")
    most = max((abs(t["contribution"]) for t in found["tokens"]), default=0.0) or 1.0
    for token in found["tokens"]:
        bar = "█" * round(20 * abs(token["contribution"]) / most)
        style = "green" if token["contribution"] > 0 else "red"
        text = _text(token["text"].replace("\n", "\\n"))
        tokens.add_row(text, f"{token['loss']:.3f}", f"{token['contribution']:.4g}", f"[{style}]{bar}[/]")
    console.print(tokens)
    console.print(
        f"sum {found['score']:.6g}, by {_text(found['how'])}; the run's score is {found['run_score']:.6g}",
        highlight=False,
    )


def _sources(counts: dict[str, int], title: str, rows: int) -> Table:
    table = Table("source", "rows", "share", title=title)
    for source, count in counts.items():
        table.add_row(_text(source), f"{count:,}", f"{count / rows:.1%}")
    return table


def _text(raw: str) -> str:
    """What comes from data, kept from steering the terminal or rich."""
    return escape("".join(c if c.isprintable() else "�" for c in raw))
