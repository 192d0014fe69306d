import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from prism.data import load_pool, load_target
from prism.errors import ConfigError, DataError, PrismError, RunError
from prism.evaluation import EvaluateConfig, evaluate
from prism.model import load_model
from prism.progress import Silent
from prism.training import TrainConfig, train
from tests import oracle
from tests.conftest import Rows, tiny_llama

Write = Callable[[str, Rows], Path]
Job = Callable[..., EvaluateConfig]


class Counted(Silent):
    """Adds up the rows that a run reports as done."""

    rows = 0

    def advance(self, rows: int, tokens: int) -> None:
        self.rows += rows


@pytest.fixture
def job(model_folder: Path) -> Job:
    def config(**changes: Any) -> EvaluateConfig:
        fields = {"model": str(model_folder), "device": "cpu", "dtype": "float64", "resamples": 200}
        return EvaluateConfig.model_validate({**fields, **changes})

    return config


@pytest.fixture
def other(tmp_path: Path, tokenizer: Any) -> Path:
    folder = tmp_path / "other"
    network = tiny_llama(len(tokenizer))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.03 * torch.randn_like(parameter)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def margins(folder: Path, rows: Rows) -> torch.Tensor:
    """l(y-) - l(y+) of each pair, one sample at a time."""
    model = load_model(folder, dtype="float64", parameters="all")
    encoder = model.encoder()
    with torch.no_grad():
        sides = [
            [oracle.token_losses(model.network, s).mean() for s in encoder.pair(pair)] for pair in load_target(rows)
        ]
    return torch.tensor([rejected - chosen for chosen, rejected in sides], dtype=torch.float64)


def test_figures_and_paired_differences(
    job: Job, model_folder: Path, other: Path, pair_rows: Rows, write_jsonl: Write, tmp_path: Path
) -> None:
    target = str(write_jsonl("held.jsonl", pair_rows))
    report = evaluate(job(target=[target], base=str(other), out=str(tmp_path / "ev"), values=True, batch_tokens=100))
    found = report["targets"][target]
    ours, theirs = (torch.sigmoid(margins(folder, pair_rows)) for folder in (model_folder, other))
    for kind, pi in (("preference", lambda p: p), ("won", lambda p: (p > 0.5).double()), ("log_preference", torch.log)):
        assert found[kind]["value"] == pytest.approx(float(pi(ours).mean()), rel=1e-9)
        assert found["base"][kind]["value"] == pytest.approx(float(pi(theirs).mean()), rel=1e-9)
        assert found["difference"][kind]["value"] == pytest.approx(float((pi(ours) - pi(theirs)).mean()), abs=1e-9)
    assert found["potential"]["value"] == pytest.approx(float(-(1 - ours).log().mean()), rel=1e-9)
    assert found["values"]["preference"] == pytest.approx(ours.tolist(), rel=1e-9)
    low, value, high = (found["preference"][name] for name in ("low", "value", "high"))
    assert low < value < high and found["pairs"] == len(pair_rows)
    assert json.loads((tmp_path / "ev" / "evaluate.json").read_text()) == report
    assert report["bootstrap"] == {"resamples": 200, "confidence": 0.95, "seed": 0}


def test_perplexity_of_rows_and_texts_is_over_their_tokens(
    job: Job, model_folder: Path, other: Path, pool_rows: Rows, write_jsonl: Write
) -> None:
    long = " ".join(f"word{n}" for n in range(60))
    texts = [{"text": "The sea is wide,\nthe sea is deep. ☀"}, {"text": long}, {"text": " "}]
    places = [str(write_jsonl("rows.jsonl", pool_rows)), str(write_jsonl("texts.jsonl", texts))]
    counted = Counted()
    report = evaluate(job(retain=places, base=str(other), max_length=50, batch_tokens=120), counted)["retain"]
    assert counted.rows == 2 * (len(pool_rows) + 2)  # by both models; a text in several pieces is one row

    def losses(folder: Path) -> torch.Tensor:
        model = load_model(folder, dtype="float64", parameters="all")
        encoder = model.encoder(max_length=50)
        with torch.no_grad():
            found = [oracle.token_losses(model.network, encoder.row(row)) for row in load_pool(pool_rows)]
            for text in (texts[0]["text"], long):
                whole = torch.tensor(model.tokenizer(text)["input_ids"])
                for ids in torch.split(whole, 50):
                    logits = model.network(input_ids=ids[None]).logits[0, :-1]
                    found.append(torch.nn.functional.cross_entropy(logits, ids[1:], reduction="none"))
        return torch.cat(found)

    ours, theirs = losses(model_folder), losses(other)
    assert (report["rows"], report["rejected"], report["tokens"]) == (len(pool_rows) + 2, 1, len(ours))
    assert report["perplexity"]["value"] == pytest.approx(float(ours.mean().exp()), rel=1e-9)
    ratio = report["difference"]["perplexity_ratio"]
    assert ratio["value"] == pytest.approx(float((ours - theirs).mean().exp()), rel=1e-9)
    assert ratio["low"] < ratio["value"] < ratio["high"]


def test_a_pair_without_a_finite_loss_is_left_out_and_said(
    job: Job, tmp_path: Path, tokenizer: Any, pair_rows: Rows, write_jsonl: Write
) -> None:
    network = tiny_llama(len(tokenizer))
    word = tokenizer("France")["input_ids"][-1]
    with torch.no_grad():
        network.model.embed_tokens.weight[word] = float("nan")
    network.save_pretrained(tmp_path / "broken")
    tokenizer.save_pretrained(tmp_path / "broken")
    target = str(write_jsonl("held.jsonl", pair_rows))
    found = evaluate(job(model=str(tmp_path / "broken"), target=[target], values=True))["targets"][target]
    assert found["not_finite"] == 1 and found["pairs"] == len(pair_rows) - 1
    assert found["values"]["preference"][0] is None and np.isfinite(found["preference"]["value"])


def test_a_training_is_evaluated_beside_its_base(job: Job, tmp_path: Path, pool_rows: Rows, write_jsonl: Write) -> None:
    pytest.importorskip("trl")
    from prism.training import TrainConfig, train

    data = write_jsonl("sft.jsonl", pool_rows)
    pairs: Rows = [
        {"prompt": r["messages"][0]["content"], "chosen": r["messages"][1]["content"], "rejected": "zzz"}
        for r in pool_rows
    ]
    target = str(write_jsonl("t.jsonl", pairs))
    fields = {"data": [str(data)], "model": job().model, "out": str(tmp_path / "sft"), "epochs": 4, "full": False}
    trained = train(TrainConfig.model_validate({**fields, "learning_rate": 3e-2, "device": "cpu", "plain": True}))
    report = evaluate(job(model=str(trained.folder), base="auto", target=[target]))
    assert report["model"]["adapter"] == str(trained.folder) and report["base"]["adapter"] is None
    assert report["model"]["plain"] and report["base"]["plain"]  # as it was trained
    assert report["targets"][target]["difference"]["loss_chosen"]["high"] < 0
    assert (trained.folder / "evaluate.json").exists()
    with pytest.raises(ConfigError, match="which knows its own"):
        evaluate(job(model=str(trained.folder), adapter=str(trained.folder), target=[target]))


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({}, ConfigError, "nothing to measure: give --target, --retain, --generate, --tasks"),
        ({"target": ["none.jsonl"]}, DataError, "none.jsonl does not exist"),
        ({"target": ["EMPTY"]}, DataError, "the target is empty"),
        ({"retain": ["EMPTY"]}, DataError, "holds no rows that can be used"),
        ({"generate": ["EMPTY"]}, DataError, "holds no checks that can be used"),
        ({"target": ["HELD"], "base": "auto"}, ConfigError, "--base auto: the model is no folder of prism train"),
        ({"target": ["HELD"], "base_adapter": "x/y"}, ConfigError, "--base-adapter: is on a --base"),
        ({"target": ["HELD"], "device": "cuda"}, ConfigError, "device 'cuda' can't be used here"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    job: Job, changes: dict[str, Any], kind: type[PrismError], message: str, pair_rows: Rows, write_jsonl: Write
) -> None:
    places = {"EMPTY": str(write_jsonl("empty.jsonl", [])), "HELD": str(write_jsonl("held.jsonl", pair_rows))}
    given = {n: [places.get(p, p) for p in v] if isinstance(v, list) else v for n, v in changes.items()}
    with pytest.raises(kind, match=message):
        evaluate(job(**given))


def test_what_was_not_used_is_listed_and_a_place_that_cannot_hold_it_is_refused_first(
    job: Job, tmp_path: Path, pair_rows: Rows, write_jsonl: Write
) -> None:
    target = str(write_jsonl("held.jsonl", [*pair_rows, {"prompt": "a"}]))
    checks = str(write_jsonl("checks.jsonl", [{"prompt": "a", "answer": "b"}, {"prompt": "a", "regex": "("}]))
    with pytest.raises(RunError, match="can't hold the results"):
        evaluate(job(target=[target], out=target))
    evaluate(job(target=[target], generate=[checks], max_new_tokens=2, out=str(tmp_path / "out")))
    lines = [json.loads(line) for line in (tmp_path / "out" / "evaluate_rejected.jsonl").read_text().splitlines()]
    assert [(Path(row["file"]).name.partition(".")[0], row["line"]) for row in lines] == [
        ("held", len(pair_rows) + 1), ("checks", 2)
    ]  # fmt: skip
    assert all(row["reason"] for row in lines)


def test_a_base_is_read_by_the_tokenizer_of_its_training(
    job: Job, tmp_path: Path, pool_rows: Rows, pair_rows: Rows, write_jsonl: Write
) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(
        job().model, bare, ignore=shutil.ignore_patterns("token*", "special*", "chat*", "vocab*", "merges*")
    )
    fields = {"data": [str(write_jsonl("sft.jsonl", pool_rows))], "model": str(bare), "tokenizer": job().model}
    own = {"out": str(tmp_path / "sft"), "epochs": 0.2, "full": True, "device": "cpu", "plain": True}
    trained = train(TrainConfig.model_validate({**fields, **own}))
    target = str(write_jsonl("t.jsonl", pair_rows))
    report = evaluate(job(model=str(trained.folder), base="auto", target=[target]))
    named = evaluate(job(tokenizer=job().model, model=str(bare), plain=True, target=[target]))
    assert report["targets"][target]["base"]["preference"] == named["targets"][target]["preference"]


def test_a_run_is_no_model(job: Job, tmp_path: Path, pair_rows: Rows, write_jsonl: Write) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "selected.jsonl").touch()
    with pytest.raises(RunError, match="is a run of prism select, not a model"):
        evaluate(job(model=str(tmp_path / "run"), target=[str(write_jsonl("held.jsonl", pair_rows))]))


def test_the_way_to_install_lm_eval_is_said(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(ConfigError, match=r"pip install 'prism-select\[eval\]'"):
        evaluate(job(tasks=["arc_easy"]))


def test_a_base_in_few_bits_is_measured_as_it_was_trained(
    job: Job, model_folder: Path, pair_rows: Rows, pool_rows: Rows, write_jsonl: Write, tmp_path: Path
) -> None:
    pytest.importorskip("bitsandbytes", reason="needs the extra quantize")
    pytest.importorskip("trl")
    data, target = (str(write_jsonl(f"{name}.jsonl", rows)) for name, rows in (("sft", pool_rows), ("t", pair_rows)))
    fields = {"data": [data], "model": str(model_folder), "out": str(tmp_path / "out"), "device": "cpu"}
    done = train(TrainConfig.model_validate({**fields, "quantize": "4bit", "epochs": 3, "learning_rate": 1e-2}))
    report = evaluate(job(model=str(done.folder), base="auto", dtype="float32", target=[target]))
    assert report["model"]["quantize"] == report["base"]["quantize"] == "4bit"
    for part, adapter in ((report["targets"][target], done.folder), (report["targets"][target]["base"], None)):
        model = load_model(model_folder, adapter=adapter, quantize="4bit", dtype="float32")
        encoder, found = model.encoder(), []
        with torch.no_grad():
            for pair in load_target(pair_rows):
                chosen, rejected = (oracle.token_losses(model.network, s).mean() for s in encoder.pair(pair))
                found.append(float(torch.sigmoid(rejected - chosen)))
        assert part["preference"]["value"] == pytest.approx(np.mean(found), abs=1e-4)
