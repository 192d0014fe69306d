"""Recognise the form of a record and turn it into messages.

Each form is one entry of `FORMS`: the fields that show it, and a function from the record to messages.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from prism.data.rows import Message, Messages, kind
from prism.errors import RowError

FIELDS = (
    "messages", "conversations", "prompt", "completion", "instruction", "input", "output", "system", "history",
    "chosen", "rejected", "id", "source", "subtask", "rejected_from",
)  # fmt: skip
SHAREGPT_ROLES = {
    "human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant", "bard": "assistant",
    "bing": "assistant", "model": "assistant", "assistant": "assistant", "system": "system", "tool": "tool",
}  # fmt: skip
SIDES = ("chosen", "rejected")
REASONING = ("reasoning_content", "reasoning", "thinking")
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
    if system := _system(record, columns, messages):
        messages, strings = system + messages, False
    last = max((i for i, m in enumerate(messages) if m["role"] == "assistant"), default=None)
    if last is None:
        raise RowError("no assistant turn, so there is no response to score")
    if last == 0:
        raise RowError("the first message is the assistant's: there is no prompt")
    if not messages[last]["content"].strip():
        raise RowError("the response is empty")
    return messages[: last + 1], strings


def target_messages(record: Mapping[str, Any], columns: Columns) -> tuple[Messages, Messages, bool]:
    """As `pair_messages`, of rows that need no rejected: it is empty where they have none, and a row without `chosen`
    may have any form of a pool row."""
    if columns.get(record, "rejected") is not None:
        return pair_messages(record, columns)
    if columns.get(record, "chosen") is None:
        wanted, strings = pool_messages(record, columns)
    else:
        (wanted,), strings = _sides(record, columns, ("chosen",))
    return wanted, (), strings


def pair_messages(record: Mapping[str, Any], columns: Columns) -> tuple[Messages, Messages, bool]:
    """(prompt + chosen, prompt + rejected, came as strings) of a target row, in TRL's preference format.

    `prompt`, `chosen` and `rejected` are strings or message lists; without `prompt`, chosen and rejected are whole
    conversations that share their turns up to the last.
    """
    for field in SIDES:
        if columns.get(record, field) is None:
            name = columns.names.get(field, field)
            raise RowError(
                f"no {name!r} field, or it is null; a target row has prompt, chosen and rejected "
                "(methods that follow the chosen answers alone do without rejected: see prism methods)"
            )
    (chosen, rejected), strings = _sides(record, columns, SIDES)
    if chosen == rejected:
        raise RowError("chosen and rejected are equal")
    return chosen, rejected, strings


def _sides(record: Mapping[str, Any], columns: Columns, fields: tuple[str, ...]) -> tuple[list[Messages], bool]:
    """The conversations that end with each of `fields`, and whether they came as strings."""
    prompt, answers = columns.get(record, "prompt"), [columns.get(record, field) for field in fields]
    if prompt is None:
        if any(isinstance(answer, str) and _json_list(answer) is None for answer in answers):
            raise RowError(f"no {columns.names.get('prompt', 'prompt')!r} field, and the answers are strings")
        sides = [_messages(answer, field) for answer, field in zip(answers, fields, strict=True)]
        if any(len(side) < 2 or side[:-1] != sides[0][:-1] for side in sides):
            raise RowError(f"no prompt field, and {' and '.join(fields)} don't share their turns up to the last")
        strings = False
    else:
        opening, is_string = _prompt(prompt)
        strings = is_string and all(isinstance(answer, str) and _json_list(answer) is None for answer in answers)
        turns = [_answer(answer, field) for answer, field in zip(answers, fields, strict=True)]
        # TRL's "conversational with explicit prompt" repeats nothing; some sets repeat the prompt's turns.
        sides = [a if a[: len(opening)] == opening else opening + a for a in turns]
        if system := _system(record, columns, opening):
            sides, strings = [system + side for side in sides], False
    for side, field in zip(sides, fields, strict=True):
        if side[-1]["role"] != "assistant":
            raise RowError(f"{field} does not end with an assistant turn")
        if not side[-1]["content"].strip():
            raise RowError(f"the {field} response is empty")
    return sides, strings


def prompt_messages(record: Mapping[str, Any], columns: Columns) -> Messages:
    """What an answer is asked to: a row's `prompt` (text or messages), else its `messages` up to the last answer.

    Raises:
        RowError: there is neither, or nobody asks.
    """
    if columns.get(record, "prompt") is not None:
        messages, _ = _prompt(columns.get(record, "prompt"))
    elif columns.get(record, "messages") is not None:
        messages = _messages(columns.get(record, "messages"), "messages")
        messages = messages[:-1] if messages[-1]["role"] == "assistant" else messages
    else:
        raise RowError("no prompt, and no messages")
    if not messages or messages[-1]["role"] == "assistant":
        raise RowError("the prompt does not end with a turn to answer")
    return _system(record, columns, messages) + messages


def asks_in_text(record: Mapping[str, Any], columns: Columns) -> bool:
    """Whether a row's prompt is one string, which plain text joins with its answer as it is."""
    prompt = columns.get(record, "prompt")
    return isinstance(prompt, str) and _json_list(prompt) is None and not columns.get(record, "system")


def _system(record: Mapping[str, Any], columns: Columns, messages: Messages) -> Messages:
    """The system turn that a field of its own brings; many sets fill it with "" where there is none."""
    text = columns.get(record, "system")
    if text is None or text == "" or messages[0]["role"] == "system":
        return ()
    return ({"role": "system", "content": _text(text, "system")},)


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
    history = columns.get(record, "history") or ()
    if isinstance(history, str):
        history = _json(history)
    if not isinstance(history, list | tuple):
        raise RowError("history must be a list of [instruction, response] pairs")
    for exchange in history:
        if not isinstance(exchange, list | tuple) or len(exchange) != 2:
            raise RowError("history must be a list of [instruction, response] pairs")
        turns.append({"role": "user", "content": _text(exchange[0], "history")})
        turns.append({"role": "assistant", "content": _text(exchange[1], "history")})
    instruction = _text(columns.get(record, "instruction"), "instruction")
    extra = columns.get(record, "input")
    extra = "" if extra is None else _text(extra, "input")
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
    """The first form whose fields are all there; forms with a field that the user mapped come first."""
    for fields, form in sorted(FORMS.items(), key=lambda item: not any(columns.names.get(f) for f in item[0])):
        if columns.has(record, fields):
            return form
    found = ", ".join(f"{name}{' (null)' * (record[name] is None)}" for name in list(record)[:12]) or "none"
    if lost := [name for name in columns.names.values() if name and name not in record]:
        raise RowError(f"no column {lost[0]!r}, which --columns names; the row's fields are {found}")
    known = "; ".join(" + ".join(fields) for fields in FORMS)
    raise RowError(f"unknown form: the row's fields are {found}; known forms are {known} (or map them with --columns)")


def _prompt(value: Any) -> tuple[Messages, bool]:
    if isinstance(value, str) and (turns := _json_list(value)) is not None:
        value = turns
    if isinstance(value, str):
        if not value.strip():
            raise RowError("the prompt is empty")
        return ({"role": "user", "content": _text(value, "prompt")},), True
    if not isinstance(value, list | tuple):
        raise RowError(f"prompt must be text or a list of messages, not {kind(value)}")
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
    if not isinstance(value, list | tuple):
        raise RowError(f"{field} must be text or a list of messages, not {kind(value)}")
    return _messages(value, field)


def _messages(value: Any, field: str) -> Messages:
    if isinstance(value, str):
        value = _json_list(value)
    if not isinstance(value, list | tuple):
        raise RowError(f"{field} must be a list of messages (in CSV: as JSON text)")
    if not value:
        raise RowError(f"{field} is an empty list")
    return tuple(_message(turn, f"{field}[{i}]") for i, turn in enumerate(value))


def _message(turn: Any, where: str) -> Message:
    if not isinstance(turn, Mapping):
        raise RowError(f"{where} must be an object with role and content")
    role, content = turn.get("role"), turn.get("content")
    if role is None and "from" in turn:
        role, content = turn["from"], turn.get("value")
        role = SHAREGPT_ROLES.get(role.lower(), role) if isinstance(role, str) else role
    if not isinstance(role, str):
        raise RowError(f"{where} has no role" if role is None else f"{where} has {kind(role)} as its role")
    if role not in ROLES:
        raise RowError(f"{where} has the unknown role {role!r}")
    if unspoken := next((field for field in REASONING if turn.get(field)), None):
        raise RowError(f"{where} has {unspoken}, which is not supported: write the reasoning into content, or drop it")
    if turn.get("tool_calls") or turn.get("function_call"):
        raise RowError(f"{where} calls tools, which are not supported")
    if isinstance(content, list):  # OpenAI's content parts
        if not all(isinstance(p, Mapping) and p.get("type") == "text" for p in content):
            raise RowError(f"{where} has content that is not text")
        content = "".join(_text(p.get("text"), where) for p in content)
    return {"role": role, "content": _text(content, where)}


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise RowError(f"{where} is missing or null" if value is None else f"{where} must be text, not {kind(value)}")
    if not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
        raise RowError(f"{where} holds an unpaired surrogate, which is not valid Unicode text")
    return value


def _json_list(text: str) -> list[Any] | None:
    """Message lists come as JSON text in CSV files; anything else is a plain string."""
    value = _json(text) if text.lstrip().startswith("[") else None
    if not isinstance(value, list) or not value:
        return None
    keys = ({"role", "content"}, {"from", "value"})
    return value if all(isinstance(v, dict) and any(k <= v.keys() for k in keys) for v in value) else None


def _json(text: str) -> Any:
    """What `text` says as JSON; None where it is no JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
