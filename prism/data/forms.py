"""Recognise the form of a record and turn it into messages.

Each form is one entry of `FORMS`: the fields that show it, and a function from the record to messages.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from prism.data.rows import Message, Messages
from prism.errors import RowError

FIELDS = (
    "messages", "conversations", "prompt", "completion", "instruction", "input", "output", "system", "history",
    "chosen", "rejected", "id", "source",
)  # fmt: skip
SHAREGPT_ROLES = {
    "human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant", "bard": "assistant",
    "bing": "assistant", "model": "assistant", "assistant": "assistant", "system": "system", "tool": "tool",
}  # fmt: skip
ROLES = ("system", "developer", "user", "assistant", "tool")


@dataclass(frozen=True)
class Columns:
    """Which of the user's columns holds which field: `{"prompt": "question"}`; an empty name ignores a field."""

    names: Mapping[str, str]

    def get(self, record: Mapping[str, Any], field: str) -> Any:
        """The field's value; a missing field, null and NaN (how some tools write null) are all None."""
        name = self.names.get(field, field)
        value = record.get(name) if name else None
        return None if isinstance(value, float) and value != value else value

    def has(self, record: Mapping[str, Any], fields: tuple[str, ...]) -> bool:
        return all(self.get(record, field) is not None for field in fields)


def pool_messages(record: Mapping[str, Any], columns: Columns) -> tuple[Messages, bool]:
    """Messages of a pool row, up to its last assistant turn, and whether it came as two strings.

    Turns after the last assistant turn carry no loss and, in a causal model, change none: they are cut.

    Raises:
        RowError: the form is unknown, a field is mistyped, or no assistant turn says anything.
    """
    form = _recognise(record, columns)
    messages, strings = form(record, columns)
    system = columns.get(record, "system")
    if system is not None and messages and messages[0]["role"] != "system":
        messages = ({"role": "system", "content": _text(system, "system")}, *messages)
        strings = False
    last = max((i for i, m in enumerate(messages) if m["role"] == "assistant"), default=None)
    if last is None:
        raise RowError("no assistant turn, so there is no response to score")
    if last == 0:
        raise RowError("the first message is the assistant's: there is no prompt")
    if not messages[last]["content"].strip():
        raise RowError("the response is empty")
    return messages[: last + 1], strings


def pair_messages(record: Mapping[str, Any], columns: Columns) -> tuple[Messages, Messages, bool]:
    """(prompt + chosen, prompt + rejected, came as strings) of a target row, in TRL's preference format.

    `prompt`, `chosen` and `rejected` are strings or message lists; without `prompt`, chosen and rejected are whole
    conversations that share their turns up to the last.
    """
    for field in ("chosen", "rejected"):
        if columns.get(record, field) is None:
            raise RowError(
                f"no {columns.names.get(field, field)!r} field; a target row has prompt, chosen and rejected"
            )
    prompt = columns.get(record, "prompt")
    if prompt is None:
        chosen, rejected = (_messages(columns.get(record, f), f) for f in ("chosen", "rejected"))
        if len(chosen) < 2 or chosen[:-1] != rejected[:-1]:
            raise RowError("no prompt field, and chosen and rejected don't share their turns up to the last")
        strings = False
    else:
        opening, is_string = _prompt(prompt)
        sides = [columns.get(record, f) for f in ("chosen", "rejected")]
        strings = is_string and all(isinstance(side, str) and _json_list(side) is None for side in sides)
        answers = [_answer(side, field) for side, field in zip(sides, ("chosen", "rejected"), strict=True)]
        # TRL's "conversational with explicit prompt" repeats nothing; some sets repeat the prompt's turns.
        chosen, rejected = (a if a[: len(opening)] == opening else opening + a for a in answers)
        system = columns.get(record, "system")
        if system is not None and opening[0]["role"] != "system":
            turn: Message = {"role": "system", "content": _text(system, "system")}
            chosen, rejected, strings = (turn, *chosen), (turn, *rejected), False
    for side, field in ((chosen, "chosen"), (rejected, "rejected")):
        if side[-1]["role"] != "assistant":
            raise RowError(f"{field} does not end with an assistant turn")
        if not side[-1]["content"].strip():
            raise RowError(f"the {field} response is empty")
    if chosen == rejected:
        raise RowError("chosen and rejected are equal")
    return chosen, rejected, strings


def _from_messages(record: Mapping[str, Any], columns: Columns) -> tuple[Messages, bool]:
    return _messages(columns.get(record, "messages"), "messages"), False


def _from_sharegpt(record: Mapping[str, Any], columns: Columns) -> tuple[Messages, bool]:
    return _messages(columns.get(record, "conversations"), "conversations"), False


def _from_completion(record: Mapping[str, Any], columns: Columns) -> tuple[Messages, bool]:
    opening, is_string = _prompt(columns.get(record, "prompt"))
    completion = columns.get(record, "completion")
    strings = is_string and isinstance(completion, str) and _json_list(completion) is None
    return opening + _answer(completion, "completion"), strings


def _from_alpaca(record: Mapping[str, Any], columns: Columns) -> tuple[Messages, bool]:
    turns: list[Message] = []
    history = columns.get(record, "history")
    for exchange in history or ():
        if not isinstance(exchange, list | tuple) or len(exchange) != 2:
            raise RowError("history must be a list of [instruction, response] pairs")
        turns.append({"role": "user", "content": _text(exchange[0], "history")})
        turns.append({"role": "assistant", "content": _text(exchange[1], "history")})
    instruction = _text(columns.get(record, "instruction"), "instruction")
    extra = _text(columns.get(record, "input") or "", "input")
    question = f"{instruction}\n\n{extra}" if extra.strip() else instruction
    if not question.strip():
        raise RowError("the instruction is empty")
    turns.append({"role": "user", "content": question})
    turns.append({"role": "assistant", "content": _text(columns.get(record, "output"), "output")})
    return tuple(turns), False


Form = Callable[[Mapping[str, Any], Columns], tuple[Messages, bool]]
FORMS: dict[tuple[str, ...], Form] = {
    ("messages",): _from_messages,
    ("conversations",): _from_sharegpt,
    ("prompt", "completion"): _from_completion,
    ("instruction", "output"): _from_alpaca,
}


def _recognise(record: Mapping[str, Any], columns: Columns) -> Form:
    for fields, form in FORMS.items():
        if columns.has(record, fields):
            return form
    known = "; ".join(" + ".join(fields) for fields in FORMS)
    found = ", ".join(str(name) for name in list(record)[:12]) or "none"
    raise RowError(f"unknown form: the row's fields are {found}; known forms are {known} (or map them with --columns)")


def _prompt(value: Any) -> tuple[Messages, bool]:
    if isinstance(value, str) and (turns := _json_list(value)) is not None:
        value = turns
    if isinstance(value, str):
        if not value.strip():
            raise RowError("the prompt is empty")
        return ({"role": "user", "content": _text(value, "prompt")},), True
    messages = _messages(value, "prompt")
    if messages[-1]["role"] == "assistant":
        raise RowError("the prompt ends with an assistant turn")
    return messages, False


def _answer(value: Any, field: str) -> Messages:
    if isinstance(value, str) and (turns := _json_list(value)) is not None:
        value = turns
    if isinstance(value, str):
        return ({"role": "assistant", "content": _text(value, field)},)
    if isinstance(value, Mapping):
        value = [value]
    return _messages(value, field)


def _messages(value: Any, field: str) -> Messages:
    if isinstance(value, str):
        value = _json_list(value)
    if not isinstance(value, list | tuple):
        raise RowError(f"{field} must be a list of messages")
    if not value:
        raise RowError(f"{field} is an empty list")
    return tuple(_message(turn, f"{field}[{i}]") for i, turn in enumerate(value))


def _message(turn: Any, where: str) -> Message:
    if not isinstance(turn, Mapping):
        raise RowError(f"{where} must be an object with role and content")
    role, content = turn.get("role"), turn.get("content")
    if role is None and "from" in turn:
        role, content = SHAREGPT_ROLES.get(str(turn["from"]).lower()), turn.get("value")
        if role is None:
            raise RowError(f"{where} has the unknown role {turn['from']!r}")
    if role not in ROLES:
        raise RowError(f"{where} has {'no role' if role is None else f'the unknown role {role!r}'}")
    if turn.get("tool_calls"):
        raise RowError(f"{where} calls tools, which are not supported")
    if isinstance(content, list):  # OpenAI's content parts
        if not all(isinstance(p, Mapping) and p.get("type") == "text" for p in content):
            raise RowError(f"{where} has content that is not text")
        content = "".join(_text(p.get("text"), where) for p in content)
    return {"role": role, "content": _text(content, where)}


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise RowError(f"{where} must be text, not {'missing' if value is None else type(value).__name__}")
    if not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
        raise RowError(f"{where} holds an unpaired surrogate, which is not valid Unicode text")
    return value


def _json_list(text: str) -> list[Any] | None:
    """Message lists come as JSON text in CSV files; anything else is a plain string."""
    if not text.startswith("[{"):
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return None
    keys = ({"role", "content"}, {"from", "value"})
    return value if all(isinstance(v, dict) and any(k <= v.keys() for k in keys) for v in value) else None
