"""Pairs of every kind, as `prism select` reads them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from prism import load_model, load_target
from prism.config import load_config
from prism.errors import ConfigError, DataError, ModelError
from prism.pairs.config import PairsConfig
from prism.pairs.make import Made, make_pairs
from prism.pairs.report import length_figures, report
from prism.pairs.swap import form_of
from prism.pairs.verify import verifier
from tests import oracle
from tests.cli.command import prism, refusal
from tests.conftest import DEMO_MODEL, Rows


@pytest.fixture
def make(tmp_path: Path, write_jsonl: Callable[[str, Rows], Path]) -> Callable[..., Made]:
    def made(kind: str, rows: Rows, **options: Any) -> Made:
        data = write_jsonl("data.jsonl", rows)
        given = {"kind": kind, "data": str(data), "out": str(tmp_path / "pairs.jsonl"), "overwrite": True}
        return make_pairs(load_config(None, {**given, **options}, PairsConfig))

    return made


def lines(path: Path) -> Rows:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def said(pair: Any) -> tuple[str, str]:
    return pair.chosen[-1]["content"], pair.rejected[-1]["content"]


class TestPreference:
    @pytest.mark.parametrize(
        "row",
        [
            {"prompt": "q", "chosen": "good", "rejected": "bad"},
            {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "good"}], "rejected": "bad"},
            {"question": "q", "chosen": "good", "rejected": "bad"},
            {"chosen": "\n\nHuman: q\n\nAssistant: good", "rejected": "\n\nHuman: q\n\nAssistant: bad"},
            {
                "conversations": [{"from": "human", "value": "q"}],
                "chosen": {"from": "gpt", "value": "good"},
                "rejected": {"from": "gpt", "value": "bad"},
            },
            {"prompt": "q", "completions": [{"response": "bad", "score": 1}, {"response": "good", "score": 5}]},
            {"prompt": "q", "responses": ["good", "so so", "bad"], "ranks": [0, 1, 2]},
        ],
    )  # fmt: skip
    def test_usual_forms(self, row: dict[str, Any], make: Callable[..., Made]) -> None:
        made = make("preference", [row])
        (pair,) = load_target(made.path)
        assert said(pair) == ("good", "bad")
        assert [m["content"] for m in pair.chosen[:-1]] == ["q"]

    def test_ranked_rows_of_one_prompt(self, make: Callable[..., Made]) -> None:
        rows = [{"prompt": p, "completion": f"{p}{r}", "rank": r} for p in "ab" for r in (2, 0, 1)]
        rows += [{"prompt": "c", "completion": "alone", "rank": 0}, {"prompt": "d", "completion": "no rank"}]
        for ranked, expected in (
            ("best-worst", ["02"] * 2),
            ("adjacent", ["01", "12"] * 2),
            ("all", ["01", "02", "12"] * 2),
        ):
            made = make("preference", rows, ranked=ranked)
            assert [a[1] + b[1] for a, b in map(said, load_target(made.path))] == expected
            reasons = [row["reason"] for row in lines(made.rejected)]
            assert any("it has no other answer" in reason for reason in reasons) and len(reasons) == 2

    def test_ties_make_no_pair(self, make: Callable[..., Made]) -> None:
        rows = [{"prompt": "a", "completion": str(i), "score": 3} for i in range(2)]
        with pytest.raises(DataError, match="its 2 answers are ranked alike"):
            make("preference", rows)


class TestSwap:
    def test_the_same_form_another_answer_and_length_that_tells_nothing(self, make: Callable[..., Made]) -> None:
        answers = [str(i) for i in range(20)] + [f"word {'and more ' * i}" for i in range(20)] + ["yes", "no"] * 5
        made = make("swap", [{"prompt": f"q{i}", "completion": a, "id": str(i)} for i, a in enumerate(answers)])
        pairs = list(load_target(made.path))
        assert len(pairs) == 50
        for pair in pairs:
            chosen, rejected = said(pair)
            assert chosen.strip() != rejected.strip() and form_of(chosen) == form_of(rejected)
        assert 0.4 < made.summary["length"]["all"]["auc"] < 0.6
        first = made.path.read_bytes()
        assert make("swap", lines(made.path.with_name("data.jsonl"))).path.read_bytes() == first
        assert make("swap", lines(made.path.with_name("data.jsonl")), seed=1).path.read_bytes() != first

    def test_nothing_to_swap_with(self, make: Callable[..., Made]) -> None:
        rows = [{"prompt": "a", "completion": "1"}, {"prompt": "b", "completion": "1"}]
        with pytest.raises(DataError, match=r"no other item has a different answer of its form \(number\)"):
            make("swap", rows)


class TestModel:
    def test_sampled_answers_are_the_models_own_and_wrong(self, make: Callable[..., Made]) -> None:
        rows = [
            {"prompt": q, "completion": a, "id": q} for q, a in (("Add 2 and 2.", "4"), ("Name a fruit.", "An apple."))
        ]
        options = {"model": str(DEMO_MODEL), "samples": 3, "max_new_tokens": 8, "per_item": 2, "dtype": "float32"}
        made = make("sampled", rows, **options)
        first = made.path.read_text()
        pairs = list(load_target(made.path))
        assert pairs and {pair.rejected_from for pair in pairs} == {"sampled, wrong by exact"}
        assert all(said(pair)[0] in ("4", "An apple.") and said(pair)[1] not in ("4", "An apple.") for pair in pairs)
        assert make("sampled", rows, **options).path.read_text() == first
        assert make("sampled", rows, **options, seed=5).path.read_text() != first

    def test_greedy_samples_are_the_greedy_answer(self, make: Callable[..., Made]) -> None:
        rows = [{"prompt": "Add 2 and 2.", "completion": "4"}]
        made = make(
            "sampled", rows, model=str(DEMO_MODEL), samples=1, temperature=0.0, max_new_tokens=6, dtype="float32"
        )
        (pair,) = load_target(made.path)
        model = load_model(DEMO_MODEL, dtype="float32")
        ids = model.encoder().prompt(({"role": "user", "content": "Add 2 and 2."},)).tolist()
        for _ in range(6):
            with torch.no_grad():
                ids.append(int(model.network(torch.tensor([ids])).logits[0, -1].argmax()))
        assert model.tokenizer.decode(ids[-6:], skip_special_tokens=True).strip().startswith(said(pair)[1])

    def test_answers_under_two_system_prompts(self, make: Callable[..., Made]) -> None:
        rows = [{"prompt": "Say something about the sea.", "id": "sea"}]
        systems = {"good_system": "Be kind and long.", "bad_system": "Zz!! 9 9 9 rude"}
        made = make(
            "prompts", rows, model=str(DEMO_MODEL), max_new_tokens=12, temperature=1.0, dtype="float32", **systems
        )
        (pair,) = load_target(made.path)
        assert [m["role"] for m in pair.chosen] == ["user", "assistant"]
        assert not any(system in made.path.read_text() for system in systems.values())
        assert pair.rejected_from == "bad system prompt"

    def test_the_wrong_option_that_the_model_likes_most(self, make: Callable[..., Made]) -> None:
        texts = ["a boat", "some bread and butter", "zqx vvk", "the green hill"]
        row = {"question": "What floats?", "choices": texts, "answer": 0}
        made = make("choices", [row], wrong="likely", model=str(DEMO_MODEL), answer_form="text", dtype="float64")
        (pair,) = load_target(made.path)
        model = load_model(DEMO_MODEL, dtype="float64")
        encoder = model.encoder()
        losses = {}
        for text in texts[1:]:
            encoded = encoder.conversation((*pair.chosen[:-1], {"role": "assistant", "content": text}))
            with torch.no_grad():
                losses[text] = float(oracle.token_losses(model.network, encoded).mean())
        assert said(pair)[1] == min(losses, key=lambda text: losses[text])


@pytest.mark.parametrize(
    ("kind", "pattern", "answer", "reference", "own", "verdict"),
    [
        ("exact", None, " paris. ", "Paris", None, True),
        ("exact", None, "Rome", "Paris", None, False),
        ("exact", None, "B", "because … so B", "B", True),
        ("number", None, "that makes 1,200", "#### 1200", None, True),
        ("number", None, "x = 7 #### 8", "… #### 8", "8", True),
        ("number", None, "about 7", "#### 8", None, False),
        ("number", None, "no idea", "#### 8", None, None),
        ("regex", r"answer is (\w)", "first answer is A, no, answer is B", "answer is B", None, True),
        ("regex", r"answer is (\w)", "the answer is C", "…", "B", False),
        ("regex", r"answer is (\w)", "who knows", "answer is B", None, None),
    ],
)
def test_verifiers(kind: str, pattern: Any, answer: str, reference: str, own: Any, verdict: Any) -> None:
    assert verifier(kind, pattern)(answer, reference, own) is verdict


class TestReport:
    def test_length_against_every_pair_of_answers(self, make: Callable[..., Made]) -> None:
        rng = np.random.default_rng(0)
        sizes = rng.integers(1, 9, (30, 2))
        rows = [{"prompt": f"{i}", "chosen": "a" * c, "rejected": "b" * r} for i, (c, r) in enumerate(sizes.tolist())]
        found = make("preference", rows).summary["length"]["all"]
        wins = [(c > r) + 0.5 * (c == r) for c in sizes[:, 0] for r in sizes[:, 1]]
        assert found["auc"] == pytest.approx(np.mean(wins))
        assert found["longer"] == pytest.approx(np.mean([(c > r) + 0.5 * (c == r) for c, r in sizes]))
        assert length_figures([]) == {}

    def test_length_that_tells_all_is_told(self, make: Callable[..., Made]) -> None:
        rows = [{"prompt": f"q{i}", "chosen": f"a long answer {i}", "rejected": f"no {i}"} for i in range(5)]
        notices = make("preference", rows).summary["notices"]
        assert len(notices) == 1 and "chosen tends to be longer (AUC 1.00" in notices[0]

    def test_leaks_duplicates_and_equal_sides(self, make: Callable[..., Made]) -> None:
        rows = [
            {"id": "leak", "prompt": "The answer is Blue Sky!", "chosen": "blue sky.", "rejected": "red sun"},
            {"id": "both", "prompt": "blue sky or red sun?", "chosen": "blue sky", "rejected": "red sun"},
            {"id": "part", "prompt": "The skyline", "chosen": "sky", "rejected": "sun"},
            {"id": "twice", "prompt": "The skyline", "chosen": "sky", "rejected": "sun"},
            {"id": "same", "prompt": "p", "chosen": "x ", "rejected": "x"},
            {"id": "empty", "prompt": "p", "chosen": "x", "rejected": " "},
        ]
        made = make("preference", rows)
        assert made.summary["leaks"] == {"pairs": 1, "ids": ["leak"]}
        assert made.summary["both_in_prompt"] == 1
        assert [(row["id"], row["line"]) for row in lines(made.rejected)] == [("twice", 4), ("same", 5), ("empty", 6)]
        assert lines(made.rejected)[0]["reason"] == "says the same as the pair part"
        assert (made.summary["duplicates"], made.summary["equal"], made.summary["dropped"]) == (1, 1, 3)

    def test_nothing(self) -> None:
        assert report([])["pairs"] == 0


def test_ids_subtasks_and_sources_reach_the_target(make: Callable[..., Made]) -> None:
    rows = [
        {"id": 7, "question": "a?", "choices": ["x", "y"], "answer": 0, "subject": "law"},
        {"question": "b?", "choices": ["x", "y"], "answer": 0, "category": "art"},
        {"id": "7", "question": "c?", "choices": ["x", "y"], "answer": 0},
    ]
    first, again = ([(p.id, p.subtask, p.rejected_from) for p in load_target(make("choices", rows).path)] for _ in "ab")
    assert first == again
    assert first[0] == ("7", "law", "wrong option") and first[1][1] == "art" and first[2][1] == "pairs"
    assert len({name for name, *_ in first}) == 3 and first[2][0].startswith("7-")


def test_odd_rows_are_listed_and_fatal_only_when_asked(tmp_path: Path, make: Callable[..., Made]) -> None:
    good = {"question": "☀?", "choices": ["漢", "字"], "answer": 0}
    made = make("choices", [good, {"question": 5}, {}])
    (tmp_path / "data.jsonl").open("a").write('{"broken\n[1]\n')
    made = make_pairs(PairsConfig(kind="choices", data=[str(tmp_path / "data.jsonl")], out=str(tmp_path / "two.jsonl")))
    assert [row["line"] for row in lines(made.rejected)] == [2, 3, 4, 5]
    assert "漢" in made.path.read_text(encoding="utf-8")
    with pytest.raises(DataError, match="line 2"):
        make("choices", [good, {"question": 5}], on_bad_row="stop")
    with pytest.raises(DataError, match="gives no pair"):
        make("choices", [{"text": "hello"}])


class TestCommand:
    def test_choices(self, tmp_path: Path, write_jsonl: Callable[[str, Rows], Path]) -> None:
        data = write_jsonl("q.jsonl", [{"question": "Q [b]?", "choices": ["x", "y"], "answer": 0}])
        out = tmp_path / "new" / "pairs.jsonl"
        done = prism("pairs", "choices", "--data", data, "--out", out)
        assert done.code == 0 and "1 pairs of 1 rows read" in done.out
        assert "is there already" in refusal("pairs", "choices", "--data", data, "--out", out)
        done = prism("pairs", "choices", "--data", data, "--out", out, "--overwrite", "--json")
        assert json.loads(done.out)["rejected_from"] == {"wrong option": 1}

    @pytest.mark.parametrize(
        ("words", "reason"),
        [
            (["sampled"], "sampled needs a --model that answers"),
            (["choices", "--wrong", "likely"], "choices needs a --model that judges"),
            (["prompts", "--model", "m"], "needs --good-system and --bad-system"),
            (["sampled", "--model", "m", "--verify", "regex"], "--verify regex and --pattern go together"),
            (["sampled", "--model", "m", "--verify", "regex", "--pattern", "("], "is no regular expression"),
            (["guess"], "--kind"),
            (["choices", "--columns", "colour=x"], "unknown field 'colour'"),
        ],
    )
    def test_what_is_refused(self, words: list[str], reason: str, tmp_path: Path) -> None:
        assert reason in refusal("pairs", *words, "--data", "x.jsonl", "--out", tmp_path / "o.jsonl")

    def test_a_file_that_is_missing_or_no_jsonl(self, tmp_path: Path) -> None:
        assert "does not exist" in refusal("pairs", "swap", "--data", "x.jsonl", "--out", tmp_path / "o.jsonl")
        with pytest.raises(ConfigError, match=r"written as \.jsonl"):
            make_pairs(PairsConfig(kind="swap", data=["x.jsonl"], out=str(tmp_path / "o.csv")))


def test_a_model_of_nan_is_named(tmp_path: Path, model_folder: Path, make: Callable[..., Made]) -> None:
    file = model_folder / "model.safetensors"
    tensors = load_file(file)
    name = next(n for n in tensors if "layers.0" in n)
    save_file({**tensors, name: tensors[name] * float("nan")}, file, metadata={"format": "pt"})
    rows = [{"question": "q", "options": ["a", "b", "c"], "answer": "A"}]
    with pytest.raises(DataError, match="no wrong option has a finite loss"):
        make("choices", rows, wrong="likely", model=str(model_folder))
    for temperature in (0.8, 0.0):
        with pytest.raises(ModelError, match="answers with NaN"):
            make(
                "sampled",
                [{"prompt": "q", "completion": "a"}],
                model=str(model_folder),
                temperature=temperature,
                samples=1,
                max_new_tokens=4,
            )
