"""Multiple-choice rows of any usual form, as a task of lm-evaluation-harness that needs no hub."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from prism.data.sources import each_record, open_sources
from prism.errors import BadRow, ConfigError, DataError, RowError
from prism.files import write_whole

OPTION = re.compile(r"^\s*\(?([A-Z])[).:]\s*(.*\S)\s*$", re.MULTILINE)
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
Record = Mapping[str, Any]


@dataclass(frozen=True)
class Choice:
    """A question, its answers as they follow it, and the place of the right one."""

    query: str
    choices: list[str]
    gold: int


def write_task(file: str | Path, out: str | Path, *, name: str | None = None) -> tuple[Path, int, list[BadRow]]:
    """Write `out` (a task's YAML) and its rows beside it (JSONL), from the multiple-choice rows of `file`.

    Known forms: `question`, `choices` and `answer` (a number, letter or text), as MMLU, ARC and CommonsenseQA have them
    on the hub; `options` and `gold`; `messages` that list lettered options and answer with a letter or an option;
    TruthfulQA's `mc1_targets`.

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


def choice_of(record: Record) -> Choice:
    """Raises RowError where a row is no multiple choice."""
    for fields, read in FORMS.items():
        if all(record.get(field) is not None for field in fields):
            choice = read(record)
            if len(choice.choices) < 2 or len(set(choice.choices)) < len(choice.choices):
                raise RowError("fewer than two options, or two that are equal")
            return choice
    known = "; ".join(" + ".join(fields) for fields in FORMS)
    raise RowError(f"no multiple choice: the row's fields are {', '.join(list(record)[:12])}; known are {known}")


def _from_choices(record: Record) -> Choice:
    choices: Any = record["choices"]
    letters = list(LETTERS)
    if isinstance(choices, Mapping):  # as ARC and CommonsenseQA have them on the hub
        letters = [str(label) for label in choices.get("label") or LETTERS]
        choices = choices.get("text")
    answer = record["answer"] if record.get("answer") is not None else record.get("answerKey")
    return _chosen(record["question"], choices, letters, answer)


def _from_options(record: Record) -> Choice:
    return _chosen(_asked(record), record["options"], list(LETTERS), record["gold"])


def _from_mc1(record: Record) -> Choice:
    targets = record["mc1_targets"]
    if isinstance(targets, Mapping) and "choices" in targets:
        targets = dict(zip(targets["choices"], targets["labels"], strict=True))
    right = [text for text, label in targets.items() if label == 1]
    if len(right) != 1:
        raise RowError(f"mc1_targets has {len(right)} right answers")
    return _chosen(_asked(record), list(targets), list(LETTERS), right[0])


def _from_messages(record: Record) -> Choice:
    """Lettered options in the question; the choices have the form that the row's own answer has."""
    messages = record["messages"]
    try:
        question, answer = str(messages[-2]["content"]), str(messages[-1]["content"]).strip()
    except (IndexError, KeyError, TypeError) as error:
        raise RowError("messages is no question with an answer") from error
    options = {m[1]: (m[0].strip(), m[2]) for m in OPTION.finditer(question)}
    if list(options) != list(LETTERS[: len(options)]) or len(options) < 2:
        raise RowError("the question lists no lettered options")
    for choices in (list(options), [whole for whole, _ in options.values()], [text for _, text in options.values()]):
        if answer in choices:
            return Choice(question, choices, choices.index(answer))
    raise RowError(f"the answer {answer[:40]!r} is none of the options")


def _asked(record: Record) -> str:
    for field in ("question", "prompt"):
        if isinstance(record.get(field), str):
            return str(record[field])
    turns = record.get("messages")
    if isinstance(turns, list):
        asked = [t for t in turns if isinstance(t, Mapping) and t.get("role") == "user"]
        if asked:
            return str(asked[-1].get("content"))
    raise RowError("no question, prompt or messages")


def _chosen(question: Any, choices: Any, letters: list[str], answer: Any) -> Choice:
    if not isinstance(question, str) or not isinstance(choices, list) or not all(isinstance(c, str) for c in choices):
        raise RowError("the question must be text, and the choices a list of texts")
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(choices):
        return Choice(question, choices, answer)
    text = str(answer).strip()
    if text in choices:
        return Choice(question, choices, choices.index(text))
    if text in letters[: len(choices)]:
        return Choice(question, choices, letters.index(text))
    if text.isdigit() and int(text) < len(choices):
        return Choice(question, choices, int(text))
    raise RowError(f"the answer {text[:40]!r} is none of the {len(choices)} choices")


FORMS: dict[tuple[str, ...], Callable[[Record], Choice]] = {
    ("question", "choices"): _from_choices,
    ("options", "gold"): _from_options,
    ("mc1_targets",): _from_mc1,
    ("messages",): _from_messages,
}
