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
    console.print(f"use it as {_text(named)}; everything is in {_text(str(folder))}", highlight=False)
