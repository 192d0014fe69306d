"""Every usual shape of a multiple choice, and the wrong option that becomes y-."""

from typing import Any

import pytest

from prism.data.forms import Columns
from prism.errors import RowError
from prism.pairs.choices import choice_pairs, question_of
from prism.pairs.config import PairsConfig
from prism.pairs.items import Item, Reading

LISTED = "Where do fish live?\nA. water\nB. fire"


def turns(question: str, answer: str | None = None, **more: Any) -> dict[str, Any]:
    said = [{"role": "user", "content": question}]
    return {"messages": said + ([{"role": "assistant", "content": answer}] if answer is not None else []), **more}


SHAPES: dict[str, tuple[dict[str, Any], str, str, str]] = {  # record, last turn of the prompt, right, wrong
    "ARC": (
        {
            "question": "Where do fish live?",
            "choices": {"text": ["water", "fire"], "label": ["A", "B"]},
            "answerKey": "A",
        },
        LISTED, "A. water", "B. fire",
    ),
    "ARC, numbered": (
        {"question": "Q?", "choices": {"text": ["x", "y"], "label": ["1", "2"]}, "answerKey": "2"},
        "Q?\n1. x\n2. y", "2. y", "1. x",
    ),
    "CommonsenseQA as distributed": (
        {
            "question": {
                "stem": "Q?",
                "choices": [{"label": "A", "text": "x"}, {"label": "B", "text": "y"}],
            },
            "answerKey": "B",
        },
        "Q?\nA. x\nB. y", "B. y", "A. x",
    ),
    "AQuA": ({"question": "1+1?", "options": ["A)2", "B)3"], "correct": "A"}, "1+1?\nA. 2\nB. 3", "A. 2", "B. 3"),
    "MMLU": ({"question": "Q?", "choices": ["x", "y"], "answer": 1}, "Q?\nA. x\nB. y", "B. y", "A. x"),
    "MMLU in columns": (
        {"question": "Q?", "A": "x", "B": "y", "answer": "B"}, "Q?\nA. x\nB. y", "B. y", "A. x",
    ),
    "MedQA": (
        {"question": "Q?", "options": {"A": "x", "B": "y"}, "answer_idx": "A", "answer": "x"},
        "Q?\nA. x\nB. y", "A. x", "B. y",
    ),
    "HellaSwag": ({"ctx": "He", "endings": ["ran", "is"], "label": "0"}, "He\nA. ran\nB. is", "A. ran", "B. is"),
    "PIQA": ({"goal": "G", "sol1": "x", "sol2": "y", "label": 1}, "G\nA. x\nB. y", "B. y", "A. x"),
    "a letter": (turns(LISTED, "A"), LISTED, "A", "B"),
    "an option as listed": (turns("Q?\n(A) x\n(B) y", "(B) y"), "Q?\n(A) x\n(B) y", "(B) y", "(A) x"),
    "an option's text": (turns(LISTED, "water", options=["water", "fire"], gold=0), LISTED, "water", "fire"),
    "a rationale": (turns("1+1?\nA)2\nB)3", "As one and one are two.\nAnswer : A"), "1+1?\nA)2\nB)3", "A)2", "B)3"),
    "over lines": (turns("Q?\nA. x\n x2\nB. y", "B"), "Q?\nA. x\n x2\nB. y", "B", "A"),
    "TruthfulQA": (turns("Q?", "x", mc1_targets={"x": 1, "y": 0}), "Q?", "x", "y"),
    "TruthfulQA on the hub": (
        {"question": "Q?", "mc1_targets": {"choices": ["x", "y"], "labels": [1, 0]}}, "Q?", "x", "y",
    ),
    "lists of answers": (
        {"question": "Q?", "best_answer": "x", "correct_answers": ["z", "x"], "incorrect_answers": ["y"]},
        "Q?", "x", "y",
    ),
}  # fmt: skip


def item(record: dict[str, Any], **columns: str) -> Item:
    return Item(record, "f.jsonl", 1, Columns(columns))


def made(rows: list[dict[str, Any]], **options: Any) -> tuple[list[Any], Reading]:
    reading = Reading(rows, {})  # type: ignore[arg-type]
    config = PairsConfig(kind="choices", data=["-"], out="o.jsonl", **options)
    return list(choice_pairs(config, reading)), reading


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes(shape: str) -> None:
    record, asked, right, wrong = SHAPES[shape]
    (draft,), reading = made([record])
    assert draft.prompt[-1]["content"] == asked
    assert (draft.chosen, draft.rejected) == (right, wrong)
    assert draft.rejected_from == "wrong option" and not reading.rejected


@pytest.mark.parametrize(("form", "right"), [("label", "A"), ("text", "water"), ("both", "A. water")])
def test_answers_take_the_form_that_is_asked_for(form: str, right: str) -> None:
    for shape in ("ARC", "a letter", "an option's text"):
        assert made([SHAPES[shape][0]], answer_form=form)[0][0].chosen == right


def test_all_wrong_options_and_stable_ids() -> None:
    drafts, _ = made([{"question": "Q?", "choices": ["x", "y", "z", "x"], "answer": 0}], wrong="all")
    assert [(d.rejected, d.suffix) for d in drafts] == [("B. y", "-B"), ("C. z", "-C")], (
        "no option that equals the right one"
    )


def test_random_wrong_options_follow_the_seed() -> None:
    rows = [{"question": f"{i}?", "choices": list("abcdef"), "answer": i % 6} for i in range(40)]
    first, again, other = ([d.rejected for d in made(rows, seed=seed)[0]] for seed in (1, 1, 2))
    assert first == again != other
    assert len(set(first)) == 6


def test_without_the_options_in_the_prompt() -> None:
    (draft,), _ = made([SHAPES["MMLU"][0]], show_options=False, answer_form="text")
    assert (draft.prompt[-1]["content"], draft.chosen) == ("Q?", "y")


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"text": "hello"}, "no multiple choice: the row's fields are text"),
        ({"question": "Q?", "choices": ["x"], "answer": 0}, "two options at least"),
        ({"question": "Q?", "choices": ["x", "x"], "answer": 0}, "says the same as the right one"),
        ({"question": "Q?", "choices": ["x", "y"], "answer": 2}, "beyond the 2 options"),
        ({"question": "Q?", "choices": ["x", "y"], "answer": "C"}, "'C' is none of the 2 options"),
        ({"question": "Q?", "choices": ["x", "y"]}, "no field says which option is right"),
        ({"question": "Q?", "choices": ["x", " "], "answer": 0}, "an option is empty"),
        ({"question": "Q?", "choices": [["x"], "y"], "answer": 0}, "an option is no text"),
        ({"choices": ["x", "y"], "answer": 0}, "no question"),
        (turns("Q?\nA. x\nC. y", "A"), "no multiple choice"),
        ({"question": "Q?", "mc1_targets": {"x": 1}}, "1 right and 0 wrong"),
    ],
)
def test_what_is_no_multiple_choice(record: dict[str, Any], reason: str) -> None:
    with pytest.raises(RowError, match=reason):
        question_of(item(record))


def test_columns_of_other_names() -> None:
    question = question_of(item({"q": "Q?", "o": ["x", "y"], "k": "y"}, question="q", options="o", answer="k"))
    assert (question.texts, question.right) == (["x", "y"], 1)
