"""One table type for the terminal and for Markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Table:
    """A title, the columns' names, and rows of text."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        body = "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)
        return f"**{self.title}**\n\n{body}\n" if self.title else body + "\n"


def figure(value: Mapping[str, Any] | float | None, spec: str = ".3f") -> str:
    """A number, or a JSON interval as `value (low to high)`; a dash for what is not known."""
    if value is None:
        return "–"
    if not isinstance(value, Mapping):
        return format(value, spec)
    if value["value"] is None:
        return "–"
    text = format(value["value"], spec)
    if value.get("low") is None or value.get("high") is None:
        return text
    return f"{text} ({format(value['low'], spec)} to {format(value['high'], spec)})"


def shortened(text: str, length: int = 60) -> str:
    """One line of a text, cut where it is long."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"


def _cell(text: str) -> str:
    clean = "".join(c if c.isprintable() else " " for c in text)
    for character in "\\|<>`*_[]":
        clean = clean.replace(character, f"\\{character}" if character != "<" else "&lt;")
    return clean
