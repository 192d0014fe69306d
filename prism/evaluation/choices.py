"""Multiple-choice rows of any usual form, as a task of lm-evaluation-harness that needs no hub."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from prism.data.forms import Columns
from prism.data.sources import each_record, open_sources
from prism.errors import BadRow, ConfigError, DataError
from prism.files import write_whole
from prism.pairs.choices import question_of
from prism.pairs.items import Item


@dataclass(frozen=True)
class Choice:
    """A question, its answers as they follow it, and the place of the right one."""

    query: str
    choices: list[str]
    gold: int


def write_task(file: str | Path, out: str | Path, *, name: str | None = None) -> tuple[Path, int, list[BadRow]]:
    """Write `out` (a task's YAML) and its rows beside it (JSONL), from the multiple-choice rows of `file`.

    Known forms are those of `prism pairs choices` (`question_of`).

    Returns:
        The YAML's path, how many rows the task has, and the rows set aside.

    Raises:
        DataError: no row is a multiple choice.
        ConfigError: `out` is no .yaml file.
    """
    place = Path(out)
    if place.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"the task file {place} must end with .yaml")
    rows, rejected = read_choices([str(file)])
    place.parent.mkdir(parents=True, exist_ok=True)
    data = place.with_suffix(".jsonl").absolute()
    if data == Path(file).absolute():
        data = place.with_suffix(".rows.jsonl").absolute()
    lines = (json.dumps({"query": r.query, "choices": r.choices, "gold": r.gold}).encode() + b"\n" for r in rows)
    write_whole(data, lines)
    task = {
        "task": name or re.sub(r"\W+", "_", place.stem),
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{query}}\nAnswer:",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{gold}}",
        "metric_list": [
            {"metric": metric, "aggregation": "mean", "higher_is_better": True} for metric in ("acc", "acc_norm")
        ],
        "metadata": {"version": 1.0},
    }
    write_whole(place, yaml.safe_dump(task, sort_keys=False, allow_unicode=True))
    return place, len(rows), rejected


def read_choices(places: Sequence[str]) -> tuple[list[Choice], list[BadRow]]:
    """Every row that is a multiple choice, and those that are none; raises DataError where none is."""
    found: list[Choice] = []
    rejected: list[BadRow] = []
    for made in each_record(open_sources(list(places)), lambda record, *_: choice_of(record)):
        if isinstance(made, BadRow):
            rejected.append(made)
        else:
            found.append(made)
    if not found:
        first = f"; the first of {len(rejected)}: {rejected[0]}" if rejected else ""
        raise DataError(f"{', '.join(places)} holds no multiple choice{first}")
    return found, rejected


def choice_of(record: Mapping[str, Any]) -> Choice:
    """Options in the form that the row's own answer has, else as text.

    Raises:
        RowError: the row is no multiple choice.
    """
    found = question_of(Item(record, "", 0, Columns({})), show_options=False)
    return Choice(str(found.prompt[-1]["content"]), found.answers(found.own or "text"), found.right)
