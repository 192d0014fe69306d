from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from prism.errors import ConfigError, DataError, RowError
from prism.evaluation.choices import choice_of, write_task
from prism.evaluation.tasks import check_tasks, run_tasks, task_figures
from prism.model import Model, load_model
from tests.conftest import DEMO_MODEL, Rows

Write = Callable[[str, Rows], Path]
ASKED = "What is blue?\nA. the sky\nB. a rose\nC. the sun"


def messages(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


@pytest.mark.parametrize(
    ("row", "choices", "gold"),
    [
        ({"question": "q", "choices": ["x", "y"], "answer": 1}, ["x", "y"], 1),
        ({"question": "q", "choices": ["x", "y"], "answer": "B"}, ["x", "y"], 1),
        ({"question": "q", "choices": ["x", "y"], "answer": "1"}, ["x", "y"], 1),
        ({"question": "q", "choices": {"text": ["x", "y"], "label": ["1", "2"]}, "answerKey": "2"}, ["x", "y"], 1),
        (messages(ASKED, "C"), ["A", "B", "C"], 2),
        (messages(ASKED.replace("A.", "(A)").replace("B.", "(B)").replace("C.", "(C)"), "(B) a rose"), None, 1),
        (messages(ASKED, "the sky"), ["the sky", "a rose", "the sun"], 0),
        ({**messages(ASKED, "the sky"), "options": ["the sky", "a rose"], "gold": 0}, ["the sky", "a rose"], 0),
        ({**messages("Blue?", "yes"), "mc1_targets": {"yes": 1, "no": 0}}, ["yes", "no"], 0),
    ],
)
def test_the_usual_forms_of_multiple_choice(row: dict[str, Any], choices: list[str] | None, gold: int) -> None:
    found = choice_of(row)
    assert found.gold == gold
    assert found.choices == (choices or ["(A) the sky", "(B) a rose", "(C) the sun"])


@pytest.mark.parametrize(
    "row",
    [
        {"question": "q", "choices": ["x", "y"], "answer": "Z"},
        {"question": "q", "choices": ["x"], "answer": 0},
        {"question": "q", "choices": ["x", "x"], "answer": 0},
        {"question": 3, "choices": ["x", "y"], "answer": 0},
        messages("No options here.", "A"),
        messages(ASKED, "E"),
        {"messages": []},
        {"text": "x"},
    ],
)
def test_what_is_none_is_refused(row: dict[str, Any]) -> None:
    with pytest.raises(RowError):
        choice_of(row)


@torch.no_grad()
def log_likelihood(model: Model, context: str, choice: str) -> float:
    """Of `choice` after `context`, from all logits of the two."""
    start = model.tokenizer(context)["input_ids"]
    ids = torch.tensor(model.tokenizer(context + choice)["input_ids"])
    logits = model.network(input_ids=ids[None]).logits[0, :-1].log_softmax(-1)
    return float(logits.gather(1, ids[1:, None])[len(start) - 1 :].sum())


def test_lm_eval_scores_a_local_file_as_our_own_likelihoods_do(
    tmp_path: Path, write_jsonl: Write, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("lm_eval")
    words = ["sky", "rose", "sun", "boat", "tree", "river", "song", "lamp"]
    rows = [
        messages(f"What comes after {w}?\nA. {words[i - 1]}\nB. {words[i - 2]}\nC. {words[i - 3]}", "ABC"[i % 3])
        for i, w in enumerate(words)
    ]
    texts: Rows = [
        {"question": f"Say {w}.", "choices": [words[i - 3], f"the {w} and more", "no"], "answer": i % 3}
        for i, w in enumerate(words)
    ]
    files = [write_jsonl("letters.jsonl", [*rows, {"x": 1}]), write_jsonl("texts.jsonl", texts)]
    task, count, rejected = write_task(files[1], tmp_path / "my_task.yaml")
    assert (count, len(rejected)) == (8, 0) and yaml.safe_load(task.read_text())["task"] == "my_task"
    model = load_model(DEMO_MODEL, parameters="all", dtype="float32")
    monkeypatch.chdir(tmp_path)  # where there is no repository
    scores = run_tasks(model, [str(files[0]), str(task)], max_length=512)
    assert capfd.readouterr().err == ""
    assert set(scores) == {"letters", "my_task"} and "1 of 9 rows are no multiple choice" in scores["letters"].notes[0]
    for name, given in (("letters", rows), ("my_task", texts)):
        right = []
        for row in given:
            choice = choice_of(row)
            likelihoods = [log_likelihood(model, f"{choice.query}\nAnswer:", f" {c}") for c in choice.choices]
            right.append(float(max(range(3), key=likelihoods.__getitem__) == choice.gold))
        assert scores[name].questions["acc"].tolist() == right and scores[name].count == 8
        figures = task_figures(scores[name], None, 100, 0)
        assert figures["acc"]["value"] == pytest.approx(sum(right) / 8) and figures["acc"]["low"] is not None
    difference = task_figures(scores["letters"], scores["letters"], 100, 0)["acc"]
    assert difference == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_a_task_is_read_and_its_first_question_rendered_before_a_model_is_loaded(
    tmp_path: Path, write_jsonl: Write
) -> None:
    pytest.importorskip("lm_eval")
    data = write_jsonl("questions.jsonl", [{"question": "2 + 2?", "options": ["3", "4"], "answer": 1}])
    good = tmp_path / "sums.yaml"
    good.write_text(
        f"task: sums\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {data}}}}}\ntest_split: test\n"
        'output_type: multiple_choice\ndoc_to_text: "{{question}}"\ndoc_to_choice: "{{options}}"\n'
        "doc_to_target: answer\n"
    )
    check_tasks([str(good)])
    for old, new, message in (
        ("{{question}}", "{{questio}}", "'questio' is undefined"),
        (str(data), str(tmp_path / "gone.jsonl"), "Unable to find .*gone.jsonl"),
    ):
        bad = tmp_path / "bad.yaml"
        bad.write_text(good.read_text().replace(old, new))
        with pytest.raises(DataError, match=f"lm-evaluation-harness failed on {bad}: {message}"):
            check_tasks([str(bad)])


def test_tasks_that_are_none_are_refused(tmp_path: Path, write_jsonl: Write) -> None:
    pytest.importorskip("lm_eval")
    model = load_model(DEMO_MODEL, parameters="all")
    bad = tmp_path / "bad.yaml"
    bad.write_text("a: [1")
    none = tmp_path / "none.yaml"
    none.write_text("frob: 1")
    cases: list[tuple[str, type[Exception], str]] = [
        (str(tmp_path / "missing.yaml"), ConfigError, "does not exist"),
        (str(bad), ConfigError, "can't be read"),
        (str(none), ConfigError, "it names no task"),
        (str(tmp_path / "missing.jsonl"), DataError, "does not exist"),
        (str(write_jsonl("prose.jsonl", [{"text": "x"}])), DataError, "holds no multiple choice"),
    ]
    for task, kind, message in cases:
        with pytest.raises(kind, match=message):
            run_tasks(model, [task], max_length=64)
        with pytest.raises(kind, match=message):
            check_tasks([task])
    model.tokenizer.chat_template = None
    with pytest.raises(ConfigError, match="--chat: the model's tokenizer has no chat template"):
        run_tasks(model, [str(tmp_path / "any.jsonl")], chat=True, max_length=64)
    model.tokenizer.bos_token = model.tokenizer.eos_token = None
    with pytest.raises(ConfigError, match="neither a begin-of-text nor an end-of-text token"):
        run_tasks(model, [str(tmp_path / "any.jsonl")], max_length=64)
    with pytest.raises(ConfigError, match=r"must end with \.yaml"):
        write_task(write_jsonl("c.jsonl", []), tmp_path / "task.txt")
