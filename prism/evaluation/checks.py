"""Generated answers, checked against what they should say."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from prism.data import Encoder
from prism.data.forms import Columns, asks_in_text, prompt_messages
from prism.data.rows import Messages
from prism.data.sources import Source, each_record, open_sources
from prism.errors import BadRow, ConfigError, DataError, RowError, stopped_at
from prism.evaluation.bootstrap import Figure, mean_figures
from prism.model import Model
from prism.model.generate import generate
from prism.progress import Progress, Silent

NUMBER = re.compile(r"[-+]?(?:\d[\d,]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
KINDS = ("exact", "number", "regex")
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Check:
    """A prompt (`strings`: one string), and what its answer has to satisfy; `place` is its (file, line)."""

    id: str
    messages: Messages
    kind: str
    wanted: tuple[str, ...]  # answers, any of which will do, or a regular expression
    strings: bool = False
    place: tuple[str, int] = ("", 0)

    def passes(self, answer: str) -> bool:
        return any(PASSES[self.kind](answer, wanted) for wanted in self.wanted)


@dataclass(frozen=True)
class Answered:
    """Checks with the answers that a model gave: None where the prompt was too long."""

    checks: list[Check]
    answers: list[str | None]
    cut: int
    rejected: list[BadRow]

    def passed(self) -> Floats:
        """1 or 0 for each check, [checks]."""
        pairs = zip(self.checks, self.answers, strict=True)
        return np.array([float(answer is not None and check.passes(answer)) for check, answer in pairs])

    def figures(self, base: "Answered | None", resamples: int, seed: int) -> dict[str, Any]:
        """Share that passes, over all checks and by kind, minus that of `base` where one is given."""
        passed = self.passed() - (0 if base is None else base.passed())
        kinds = np.array([check.kind for check in self.checks])
        found: dict[str, Figure] = mean_figures({"passed": passed}, resamples, seed)
        for kind in KINDS:
            if 0 < (kinds == kind).sum() < len(kinds):
                found |= mean_figures({kind: passed[kinds == kind]}, resamples, seed)
        return dict(found)

    def lines(self) -> list[bytes]:
        """One JSON line for each check: id, prompt, kind, what was wanted, the answer, and whether it passed."""
        rows = zip(self.checks, self.answers, self.passed().astype(bool).tolist(), strict=True)
        return [
            json.dumps(
                {
                    "id": check.id,
                    "prompt": check.messages[-1]["content"],
                    "check": check.kind,
                    "wanted": list(check.wanted),
                    "answer": answer,
                    "passed": passed,
                }
            ).encode()
            + b"\n"
            for check, answer, passed in rows
        ]


def read_checks(places: Sequence[str], on_bad_row: str = "skip") -> tuple[list[Check], list[BadRow]]:
    """Rows with a `prompt` (text or messages; or `messages`, whose last turn is left out) and an `answer` (text, a
    number, or a list of them) or a `regex`; `check` says exact, number or regex, where it is not plain from these.

    Raises:
        DataError: no row can be used, or the first bad one with "stop".
    """
    checks: list[Check] = []
    rejected: list[BadRow] = []
    sources = open_sources(list(places))
    for found in each_record(sources, _check):
        if not isinstance(found, BadRow):
            checks.append(found)
        elif on_bad_row == "stop":
            raise stopped_at(found)
        else:
            rejected.append(found)
    if not checks:
        first = f": all {len(rejected)} were rejected; the first: {rejected[0]}" if rejected else ""
        raise DataError(f"{', '.join(places)} holds no checks that can be used{first}")
    return checks, rejected


def answer_checks(
    model: Model,
    checks: Sequence[Check],
    rejected: Sequence[BadRow],
    encoder: Encoder,
    *,
    max_new_tokens: int,
    batch_tokens: int,
    progress: Progress | None = None,
) -> Answered:
    """Let the model answer every check. Prompts that leave no room for an answer lose their beginning: `cut`.

    Raises:
        ConfigError: answers so long leave no room for a prompt.
        DataError: the chat template refuses every prompt.
    """
    progress = progress or Silent()
    require_room(model, max_new_tokens)
    room = (model.longest or encoder.max_length + max_new_tokens) - max_new_tokens
    progress.start("generate", len(checks))
    prompts, good, bad, cut = [], [], list(rejected), 0
    for check in checks:
        try:
            ids = encoder.prompt(check.messages, check.strings)
        except RowError as error:
            bad.append(BadRow(*check.place, str(error)))
            continue
        cut += len(ids) > room
        prompts.append(ids[-room:].tolist())
        good.append(check)
    if not good:
        raise DataError(f"the chat template refuses every prompt; the first: {bad[-1]}")
    answers = generate(
        model, prompts, encoder, max_new_tokens=max_new_tokens, batch_tokens=batch_tokens, took=progress.advance
    )
    return Answered(good, answers, cut, bad)


def require_room(model: Model, max_new_tokens: int) -> None:
    """Raises ConfigError where answers so long leave no room for a prompt."""
    if model.longest is not None and max_new_tokens >= model.longest:
        raise ConfigError(
            f"--max-new-tokens {max_new_tokens} leaves no room for a prompt within the model's {model.longest} "
            "positions: lower it"
        )


def _check(record: Mapping[str, Any], source: Source, line: int) -> Check:
    name, place = f"{source.stem}:{line}", (source.name, line)
    messages, strings = prompt_messages(record, Columns({})), asks_in_text(record, Columns({}))
    regex, answer = record.get("regex"), record.get("answer")
    kind = record.get("check")
    if kind is not None and kind not in KINDS:
        raise RowError(f"check {kind!r} is none of {', '.join(KINDS)}")
    if kind == "regex" or (kind is None and regex is not None):
        if not isinstance(regex, str):
            raise RowError("regex is missing or no text")
        try:
            re.compile(regex)
        except re.error as error:
            raise RowError(f"regex {regex!r} is none: {error}") from error
        return Check(name, messages, "regex", (regex,), strings, place)
    answers = answer if isinstance(answer, list) else [answer]
    wanted = [str(a) for a in answers if isinstance(a, str | int | float) and not isinstance(a, bool)]
    if not wanted or len(wanted) < len(answers):
        raise RowError("a check has an answer (text, a number, or a list of them) or a regex")
    numbers = all(number_in(text) is not None and NUMBER.fullmatch(text.strip()) for text in wanted)
    kind = kind or ("number" if numbers else "exact")
    if kind == "number" and (odd := next((text for text in wanted if number_in(text) is None), None)) is not None:
        raise RowError(f"check is number, but the answer {odd!r} holds none")
    return Check(name, messages, kind, tuple(wanted), strings, place)


def number_in(text: str) -> float | None:
    """The last number that a text names, thousands' commas aside; None where it names none."""
    found = NUMBER.findall(text)
    try:
        return float(found[-1].replace(",", "")) if found else None
    except ValueError:
        return None


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(".!")


def _same_number(answer: str, wanted: str) -> bool:
    a, b = number_in(answer), number_in(wanted)
    return a is not None and b is not None and bool(np.isclose(a, b, rtol=1e-6, atol=0))


PASSES: dict[str, Callable[[str, str], bool]] = {
    "exact": lambda answer, wanted: _plain(answer) == _plain(wanted),
    "number": _same_number,
    "regex": lambda answer, wanted: re.search(wanted, answer) is not None,
}
