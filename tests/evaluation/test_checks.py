import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from prism.data import load_pool
from prism.errors import ConfigError, DataError
from prism.evaluation import EvaluateConfig, evaluate
from prism.evaluation.checks import answer_checks, number_in, read_checks
from prism.model import load_model
from prism.model.generate import generate
from tests.conftest import DEMO_MODEL, Rows
from tests.run.test_select import Notes

Write = Callable[[str, Rows], Path]
PROMPTS = ["What is the opposite of big?", "Write a short poem about the sea, with three lines.", "Hi"]


@torch.no_grad()
def greedy(model: Any, ids: list[int], stops: set[int], most: int) -> list[int]:
    """Without cache, padding or batches: the likeliest token, again and again."""
    made: list[int] = []
    while len(made) < most:
        logits = model.network(input_ids=torch.tensor([ids + made])).logits[0, -1]
        made.append(int(logits.argmax()))
        if made[-1] in stops:
            return made[:-1]
    return made


def test_batches_padded_on_the_left_answer_as_one_at_a_time_does() -> None:
    model = load_model(DEMO_MODEL, parameters="all", dtype="float64")
    encoder = model.encoder()
    prompts = [encoder.prompt(({"role": "user", "content": text},)).tolist() for text in PROMPTS]
    stop = encoder.tokenizer(encoder.template.end_of_turn, add_special_tokens=False)["input_ids"]  # type: ignore[union-attr]
    stops = {encoder.tokenizer.eos_token_id, *stop}
    found = generate(model, prompts, encoder, max_new_tokens=24)
    wanted = [
        encoder.tokenizer.decode(greedy(model, ids, stops, 24), skip_special_tokens=True).strip() for ids in prompts
    ]
    assert found == wanted
    assert any(wanted)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("text", [False, True])
def test_a_prompt_is_what_the_training_put_before_an_answer(plain: bool, text: bool, write_jsonl: Write) -> None:
    model = load_model(DEMO_MODEL, parameters="all")
    encoder = model.encoder(plain=plain)
    turns = [{"role": "user", "content": PROMPTS[1]}, {"role": "assistant", "content": "Blue."}]
    record = {"prompt": PROMPTS[1], "completion": "Blue."} if text else {"messages": turns}
    row = next(iter(load_pool([record])))
    ((check,), _) = read_checks([str(write_jsonl("checks.jsonl", [{**record, "answer": "Blue."}]))])
    sample, prompt = encoder.row(row), encoder.prompt(check.messages, check.strings)
    assert sample.ids[: int(sample.response.argmax())].tolist() == prompt.tolist()


def test_answers_leave_room_for_a_prompt(write_jsonl: Write) -> None:
    model = load_model(DEMO_MODEL, parameters="all")
    checks, bad = read_checks([str(write_jsonl("checks.jsonl", [{"prompt": "a", "answer": "b"}]))])
    assert model.longest is not None
    with pytest.raises(ConfigError, match="leaves no room for a prompt"):
        answer_checks(model, checks, bad, model.encoder(), max_new_tokens=model.longest, batch_tokens=4096)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("so 3 + 4 = 7.", 7.0),
        ("#### 1,234", 1234.0),
        ("-2.5e3 it is", -2500.0),
        ("none", None),
        ("$18", 18.0),
        (",", None),
    ],
)
def test_the_last_number_counts(text: str, number: float | None) -> None:
    assert number_in(text) == number


def test_each_kind_of_check(write_jsonl: Write) -> None:
    rows: Rows = [
        {"prompt": "Capital?", "answer": "Paris"},
        {"prompt": "Sum?", "answer": 42},
        {"prompt": "Sum?", "answer": "#### 42", "check": "number"},
        {"prompt": "Colour?", "answer": ["red", "blue"]},
        {"messages": [{"role": "user", "content": "List"}, {"role": "assistant", "content": "x"}], "regex": r"^\d+\."},
    ]
    checks, rejected = read_checks([str(write_jsonl("checks.jsonl", rows))])
    assert not rejected and [check.kind for check in checks] == ["exact", "number", "number", "exact", "regex"]
    assert checks[0].passes(" paris. ") and not checks[0].passes("It is Paris")
    assert checks[1].passes("17 + 25 = 42") and not checks[1].passes("42 or 43")
    assert checks[2].passes("42.0") and not checks[2].passes("no idea")
    assert checks[3].passes("Blue") and not checks[3].passes("green")
    assert checks[4].passes("1. a") and not checks[4].passes("a 1.")


def test_bad_checks_are_named(write_jsonl: Write) -> None:
    rows: Rows = [
        {"prompt": "a"},
        {"prompt": "a", "regex": "("},
        {"answer": "a"},
        {"prompt": "a", "answer": "b", "check": "fuzzy"},
        {"prompt": "a", "answer": "many", "check": "number"},
        {"prompt": "a", "answer": [None]},
        {"prompt": "a", "answer": ["5", "five"], "check": "number"},
        {"prompt": "a", "answer": True},
    ]
    with pytest.raises(DataError, match=r"all 8 were rejected; the first: .*line 1: a check has an answer"):
        read_checks([str(write_jsonl("checks.jsonl", rows))])
    good: Rows = [*rows, {"prompt": "a", "answer": "b"}]
    checks, rejected = read_checks([str(write_jsonl("more.jsonl", good))])
    assert len(checks) == 1 and "regex '(' is none" in rejected[1].reason and "no prompt" in rejected[2].reason
    assert "the answer 'five' holds none" in rejected[6].reason and "a check has an answer" in rejected[7].reason


def test_what_the_model_can_t_do_is_said_before_anything_is_measured(write_jsonl: Write) -> None:
    target = [str(write_jsonl("pairs.jsonl", [{"prompt": "a", "chosen": "b", "rejected": "c"}]))]
    asked = {"model": str(DEMO_MODEL), "target": target, "device": "cpu"}
    checks = [str(write_jsonl("checks.jsonl", [{"prompt": "a", "answer": "b"}]))]
    notes = Notes()
    with pytest.raises(ConfigError, match="leaves no room"):
        evaluate(EvaluateConfig.model_validate({**asked, "generate": checks, "max_new_tokens": 9999}), notes)
    assert any(note.startswith("loading") for note in notes.notes) and "pairs" not in notes.phases


def test_what_was_answered_is_written_row_by_row(tmp_path: Path, write_jsonl: Write) -> None:
    rows: Rows = [{"prompt": PROMPTS[0], "regex": "."}, {"prompt": PROMPTS[2], "answer": "no such answer"}]
    place = str(write_jsonl("checks.jsonl", rows))
    fields = {"model": str(DEMO_MODEL), "generate": [place], "out": str(tmp_path / "ev"), "max_new_tokens": 8}
    found = evaluate(EvaluateConfig.model_validate({**fields, "device": "cpu", "resamples": 50}))["generate"]
    lines = [json.loads(line) for line in (tmp_path / "ev" / "generated.jsonl").read_text().splitlines()]
    assert [line["passed"] for line in lines] == [True, False] and all(line["answer"] for line in lines)
    assert found["passed"]["value"] == 0.5 and found["regex"]["value"] == 1.0 and found["exact"]["value"] == 0.0
