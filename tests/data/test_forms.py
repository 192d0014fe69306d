"""Which form a record has, what it says as messages, and why it is refused."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from prism.data.forms import Columns, pair_messages, pool_messages
from prism.errors import RowError

USER, ASSISTANT = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
SYSTEM = {"role": "system", "content": "s"}
Record = dict[str, Any]


def pool(record: Record, columns: Mapping[str, str] | None = None) -> tuple[list[tuple[str, str]], bool]:
    messages, strings = pool_messages(record, Columns(columns or {}))
    return [(m["role"], m["content"]) for m in messages], strings


def pair(record: Record, columns: Mapping[str, str] | None = None) -> tuple[str, str, bool]:
    chosen, rejected, strings = pair_messages(record, Columns(columns or {}))
    sides = [" ".join(f"{m['role'][0]}:{m['content']}" for m in side) for side in (chosen, rejected)]
    return sides[0], sides[1], strings


QA = [("user", "q"), ("assistant", "a")]
SQA = [("system", "s"), *QA]


@pytest.mark.parametrize(
    ("record", "expected", "strings"),
    [
        ({"messages": [USER, ASSISTANT]}, QA, False),
        ({"messages": (SYSTEM, USER, ASSISTANT)}, SQA, False),
        ({"messages": json.dumps([USER, ASSISTANT])}, QA, False),
        ({"messages": [USER, ASSISTANT, USER]}, QA, False),
        ({"messages": [USER, ASSISTANT], "system": "s"}, SQA, False),
        ({"messages": [SYSTEM, USER, ASSISTANT], "system": "other"}, SQA, False),
        ({"messages": [USER, ASSISTANT], "system": ""}, QA, False),
        ({"messages": [{**USER, "content": [{"type": "text", "text": "q"}]}, ASSISTANT]}, QA, False),
        ({"messages": [USER, {**ASSISTANT, "tool_calls": None}]}, QA, False),
        ({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}, QA, False),
        ({"conversations": [{"from": "SYSTEM", "value": "s"}, USER, {"from": "bing", "value": "a"}]}, SQA, False),
        ({"prompt": "q", "completion": "a"}, QA, True),
        ({"prompt": "q", "completion": "a", "system": "s"}, SQA, False),
        ({"prompt": [SYSTEM, USER], "completion": [ASSISTANT]}, SQA, False),
        ({"prompt": [USER], "completion": "a"}, QA, False),
        ({"prompt": "q", "completion": ASSISTANT}, QA, False),
        ({"prompt": json.dumps([USER], indent=1), "completion": json.dumps([ASSISTANT])}, QA, False),
        ({"instruction": "q", "output": "a"}, QA, False),
        ({"instruction": "q", "input": "", "output": "a", "system": "s"}, SQA, False),
        ({"instruction": "q", "input": None, "output": "a", "history": None}, QA, False),
        ({"instruction": "q", "output": "a", "history": [["q", "a"]]}, [*QA, *QA], False),
        ({"instruction": "q", "output": "a", "history": '[["q", "a"]]'}, [*QA, *QA], False),
        ({"instruction": "do", "input": "this", "output": "a"}, [("user", "do\n\nthis"), QA[1]], False),
        ({"instruction": "", "input": "this", "output": "a"}, [("user", "\n\nthis"), QA[1]], False),
        ({"messages": None, "prompt": "q", "completion": "a"}, QA, True),
        ({"messages": float("nan"), "instruction": "q", "output": "a"}, QA, False),
    ],
)
def test_forms(record: Record, expected: list[tuple[str, str]], strings: bool) -> None:
    assert pool(record) == (expected, strings)


def test_text_is_kept_to_the_letter() -> None:
    text = ' \ttwo\r\n\u2028"lines"\x00 '
    assert pool({"prompt": text, "completion": text})[0] == [("user", text), ("assistant", text)]


@pytest.mark.parametrize("text", ['[{"a": 1}]', "[]", "[1, 2]", "[{", '[{"role": "user"}]', "[" * 100_000])
def test_strings_that_only_look_like_messages(text: str) -> None:
    assert pool({"prompt": text, "completion": text}) == ([("user", text), ("assistant", text)], True)


@pytest.mark.parametrize(
    ("record", "columns", "expected"),
    [
        ({"question": "q", "answer": "a"}, {"prompt": "question", "completion": "answer"}, QA),
        ({"chat": [USER, ASSISTANT]}, {"messages": "chat"}, QA),
        ({"messages": "nothing", "q": "q", "a": "a"}, {"prompt": "q", "completion": "a"}, QA),
        ({"messages": [ASSISTANT], "text": "q", "output": "a"}, {"instruction": "text"}, QA),
        ({"messages": "nothing", "prompt": "q", "completion": "a"}, {"messages": ""}, QA),
        ({"prompt": "q", "completion": "a", "system": "s"}, {"system": ""}, QA),
        ({"prompt": "q", "completion": "a", "role": "s"}, {"system": "role"}, SQA),
    ],
)
def test_columns_override(record: Record, columns: dict[str, str], expected: list[tuple[str, str]]) -> None:
    assert pool(record, columns)[0] == expected


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({}, "unknown form: the row's fields are none; known forms are messages; conversations; "),
        ({"prompt": "q", "completion": None}, r"the row's fields are prompt, completion \(null\)"),
        ({"messages": "hello"}, "messages must be a list of messages"),
        ({"messages": 5}, "messages must be a list of messages"),
        ({"messages": {"role": "user"}}, "messages must be a list of messages"),
        ({"messages": []}, "messages is an empty list"),
        ({"messages": ["hello", "you"]}, r"messages\[0\] must be an object with role and content"),
        ({"messages": [USER, [ASSISTANT]]}, r"messages\[1\] must be an object"),
        ({"messages": [USER, {"content": "a"}]}, r"messages\[1\] has no role"),
        ({"messages": [USER, {"role": "critic", "content": "a"}]}, r"messages\[1\] has the unknown role 'critic'"),
        ({"messages": [USER, {"role": ["assistant"], "content": "a"}]}, r"messages\[1\] has a list as its role"),
        ({"messages": [USER, {"role": "assistant", "content": None}]}, r"messages\[1\] is missing or null"),
        ({"messages": [USER, {"role": "assistant", "content": 5}]}, r"messages\[1\] must be text, not a number"),
        ({"messages": [USER, {**ASSISTANT, "tool_calls": [{}]}]}, r"messages\[1\] calls tools"),
        ({"messages": [USER, {**ASSISTANT, "content": None, "function_call": {"name": "f"}}]}, "calls tools"),
        ({"messages": [{**USER, "content": [{"type": "image"}]}, ASSISTANT]}, "has content that is not text"),
        ({"messages": [{**USER, "content": ["q"]}, ASSISTANT]}, "has content that is not text"),
        ({"messages": [{**USER, "content": [{"type": "text"}]}, ASSISTANT]}, "is missing or null"),
        ({"messages": [USER]}, "no assistant turn, so there is no response to score"),
        ({"messages": [ASSISTANT, USER]}, "the first message is the assistant's: there is no prompt"),
        ({"messages": [USER, {**ASSISTANT, "content": " \n"}]}, "the response is empty"),
        ({"messages": [USER, {**ASSISTANT, "content": "\ud800"}]}, r"messages\[1\] holds an unpaired surrogate"),
        ({"messages": [USER, ASSISTANT], "system": 5}, "system must be text, not a number"),
        ({"conversations": [{"from": "function_call", "value": "a"}]}, "unknown role 'function_call'"),
        ({"conversations": [{"from": None, "value": "a"}]}, "has no role"),
        ({"conversations": [{"from": "human"}]}, r"conversations\[0\] is missing or null"),
        ({"prompt": " ", "completion": "a"}, "the prompt is empty"),
        ({"prompt": [USER, ASSISTANT], "completion": "a"}, "the prompt ends with an assistant turn"),
        ({"prompt": 5, "completion": "a"}, "prompt must be text or a list of messages"),
        ({"prompt": "q", "completion": ""}, "the response is empty"),
        ({"prompt": "q", "completion": 5}, "completion must be text or a list of messages"),
        ({"prompt": "q", "completion": [USER]}, "no assistant turn"),
        ({"instruction": " ", "output": "a"}, "the instruction is empty"),
        ({"instruction": ["q"], "output": "a"}, "instruction must be text, not a list"),
        ({"instruction": "q", "input": 0, "output": "a"}, "input must be text, not a number"),
        ({"instruction": "q", "output": {}}, "output must be text, not an object"),
        ({"instruction": "q", "output": "a", "history": 5}, "history must be a list of"),
        ({"instruction": "q", "output": "a", "history": "hi"}, "history must be a list of"),
        ({"instruction": "q", "output": "a", "history": {"q": "a"}}, "history must be a list of"),
        ({"instruction": "q", "output": "a", "history": [["q"]]}, "history must be a list of"),
        ({"instruction": "q", "output": "a", "history": [["q", None]]}, "history is missing or null"),
    ],
)
def test_reasons(record: Record, reason: str) -> None:
    with pytest.raises(RowError, match=reason):
        pool(record)


def test_a_mapped_column_that_is_not_there() -> None:
    with pytest.raises(RowError, match=r"no column 'quest', which --columns names; the row's fields are question, a"):
        pool({"question": "q", "a": "a"}, {"prompt": "quest", "completion": "a"})


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, ("u:q a:a", "u:q a:b", True)),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "system": "s"}, ("s:s u:q a:a", "s:s u:q a:b", False)),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "system": ""}, ("u:q a:a", "u:q a:b", True)),
        ({"prompt": [SYSTEM, USER], "chosen": [ASSISTANT], "rejected": "b"}, ("s:s u:q a:a", "s:s u:q a:b", False)),
        ({"prompt": [USER], "chosen": [USER, ASSISTANT], "rejected": "b"}, ("u:q a:a", "u:q a:b", False)),
        ({"prompt": "q", "chosen": ASSISTANT, "rejected": "b"}, ("u:q a:a", "u:q a:b", False)),
        (
            {"chosen": [USER, ASSISTANT], "rejected": [USER, {**ASSISTANT, "content": "b"}]},
            ("u:q a:a", "u:q a:b", False),
        ),
        (
            {"prompt": json.dumps([USER]), "chosen": json.dumps([ASSISTANT]), "rejected": "b"},
            ("u:q a:a", "u:q a:b", False),
        ),
    ],
)
def test_pairs(record: Record, expected: tuple[str, str, bool]) -> None:
    assert pair(record) == expected


def test_pair_columns() -> None:
    columns = {"prompt": "q", "chosen": "good", "rejected": "bad"}
    assert pair({"q": "x", "good": "a", "bad": "b"}, columns) == ("u:x a:a", "u:x a:b", True)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"prompt": "q", "chosen": "a"}, "no 'rejected' field, or it is null; a target row has prompt, chosen and"),
        ({"prompt": "q", "chosen": None, "rejected": "b"}, "no 'chosen' field"),
        ({"chosen": "a", "rejected": "b"}, "no 'prompt' field, and the answers are strings"),
        ({"chosen": [USER, ASSISTANT], "rejected": [SYSTEM, ASSISTANT]}, "don't share their turns up to the last"),
        ({"chosen": [ASSISTANT], "rejected": [ASSISTANT]}, "don't share their turns"),
        ({"chosen": 5, "rejected": 6}, "chosen must be a list of messages"),
        ({"prompt": "", "chosen": "a", "rejected": "b"}, "the prompt is empty"),
        ({"prompt": "q", "chosen": " ", "rejected": "b"}, "the chosen response is empty"),
        ({"prompt": "q", "chosen": "a", "rejected": ""}, "the rejected response is empty"),
        ({"prompt": "q", "chosen": "a", "rejected": "a"}, "chosen and rejected are equal"),
        ({"prompt": "q", "chosen": [USER], "rejected": "b"}, "chosen does not end with an assistant turn"),
        ({"prompt": [USER], "chosen": [USER], "rejected": "b"}, "chosen does not end with an assistant turn"),
        ({"prompt": "q", "chosen": {"a": 1}, "rejected": "b"}, r"chosen\[0\] has no role"),
        ({"prompt": "q", "chosen": "a", "rejected": "\udfff"}, "rejected holds an unpaired surrogate"),
        ({"prompt": {}, "chosen": "a", "rejected": "b"}, "prompt must be text or a list of messages"),
    ],
)
def test_pair_reasons(record: Record, reason: str) -> None:
    with pytest.raises(RowError, match=reason):
        pair(record)
