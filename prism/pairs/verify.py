"""Tell a wrong answer from a right one."""

import re
from collections.abc import Callable
from typing import Any

from prism.evaluation.checks import PASSES, number_in

Verdict = bool | None
FINAL = re.compile(r"####\s*(.+?)\s*$", re.MULTILINE)


def verifier(kind: str, pattern: str | None = None) -> Callable[[str, str, Any], Verdict]:
    """A function of (answer, reference, the row's `answer` field or None): whether the answer is right; None where the
    verifier finds nothing to compare in the answer, which then says nothing.

    `"exact"` compares words (case, spaces and a final full stop aside), `"number"` the last number, `"regex"` what the
    last match of `pattern` gives (its first group, or all of it).
    """
    if kind == "exact":
        return lambda answer, reference, own: PASSES["exact"](answer, _wanted(reference, own))
    if kind == "number":
        return _same_number
    expression = re.compile(pattern or "")

    def same(answer: str, reference: str, own: Any) -> Verdict:
        found = _last(expression, answer)
        wanted = _last(expression, reference)
        wanted = (str(own).strip() if own is not None else None) if wanted is None else wanted
        return None if found is None or wanted is None else PASSES["exact"](found, wanted)

    return same


def _same_number(answer: str, reference: str, own: Any) -> Verdict:
    wanted = str(own) if own is not None and number_in(str(own)) is not None else reference
    if number_in(answer) is None or number_in(wanted) is None:
        return None
    return PASSES["number"](_final(answer), _final(wanted))


def _final(text: str) -> str:
    """What stands after GSM8K's ####, or all."""
    found = FINAL.findall(text)
    return found[-1] if found and number_in(found[-1]) is not None else text


def _wanted(reference: str, own: Any) -> str:
    return str(own) if isinstance(own, str | int | float) and not isinstance(own, bool) else reference


def _last(expression: re.Pattern[str], text: str) -> str | None:
    found = list(expression.finditer(text))
    if not found:
        return None
    return (found[-1][1] if expression.groups else found[-1][0]) or None
