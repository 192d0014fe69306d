import json
import logging
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

from tests.cli.command import prism
from tests.cli.conftest import Job
from tests.conftest import TEXTS, Rows

Write = Callable[[str, Rows], Path]


def strict(text: str) -> Any:
    """The one JSON object that `text` is."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


def lines(path: Path) -> Rows:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def change_weights(model: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    file = model / "model.safetensors"
    weights = load_file(file)
    change(weights)
    save_file(weights, file, {"format": "pt"})


def test_it_shows_tables_and_leaves_a_run(job: Job) -> None:
    outcome = job.select()
    assert outcome.code == 0
    for heading in ("pool", "quantiles", "most and least preferred pairs", "selected: 3 rows"):
        assert heading in outcome.out
    assert "backward engine" in outcome.err and "backward engine" in outcome.out
    made = {p.name for p in job.out.iterdir()}
    assert made == {
        ".lock", "config.yaml", "manifest.json", "target.parquet", "direction.safetensors", "scores",
        "rejected.jsonl", "selected.jsonl", "summary.json", "run.log",
    }  # fmt: skip
    marks = [row["prism"] for row in lines(job.out / "selected.jsonl")]
    assert [mark["rank"] for mark in marks] == [1, 2, 3]
    assert sorted((mark["score"] for mark in marks), reverse=True) == [mark["score"] for mark in marks]


def test_quiet_prints_nothing(job: Job) -> None:
    outcome = job.select("--quiet")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")


def test_json_is_the_summary_and_nothing_else(job: Job) -> None:
    outcome = job.select("--json")
    assert outcome.err == ""
    assert strict(outcome.out) == strict((job.out / "summary.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("option", ["--json", "--quiet"])
def test_what_a_model_says_stays_out_of_it(job: Job, option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = LlamaForCausalLM.forward

    def chatty(self: Any, *args: Any, **kwargs: Any) -> Any:
        print("look at me")
        warnings.warn("a python warning", stacklevel=1)
        logging.getLogger("somebody").warning("a logged warning")
        logging.getLogger("transformers").warning("a warning of transformers")
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(LlamaForCausalLM, "forward", chatty)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        outcome = job.select(option)
    assert outcome.code == 0 and outcome.err == ""
    assert outcome.out == "" if option == "--quiet" else strict(outcome.out)
    log = (job.out / "run.log").read_text(encoding="utf-8")
    assert "a python warning" in log and "a logged warning" in log


def test_a_narrow_terminal(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    outcome = job.select()
    assert outcome.code == 0 and max(map(len, outcome.out.splitlines())) <= 40
    monkeypatch.setenv("COLUMNS", "1")
    assert job.select().code == 0


def test_data_can_not_steer_the_terminal(job: Job, write_jsonl: Write) -> None:
    evil = "\x1b]0;owned\x07[bold red]x[/]"
    target = write_jsonl("evil.jsonl", [{"prompt": evil, "chosen": "yes", "rejected": "no", "id": "[/red]"}])
    pool = write_jsonl("[red].jsonl", [{"prompt": "a", "completion": "b", "id": "[/]"}])
    outcome = job.select(target=target, pool=pool)
    assert outcome.code == 0
    assert not {"\x1b", "\x07"} & {*outcome.out, *outcome.err}
    assert "[bold red]x[/]" in outcome.out and "[/red]" in outcome.out and "[red]" in outcome.out


def test_names_with_spaces_and_letters_of_any_script(job: Job, pool_rows: Rows, write_jsonl: Write) -> None:
    rows = [{**row, "id": f"行 {number} é", "source": "größe"} for number, row in enumerate(pool_rows)]
    pool = write_jsonl("pool ü 100%20 #1.jsonl", rows)
    out = job.folder / "läufe & mehr" / "a%20b?c#d"
    outcome = job.select("--json", pool=pool, out=out)
    assert strict(outcome.out)["selection"]["sources"] == {"größe": 3}
    assert strict(outcome.out)["out"] == str(out)
    assert all(row["id"] == row["prism"]["id"] and row["id"].startswith("行") for row in lines(out / "selected.jsonl"))
    again = strict(prism("select", "--config", out / "config.yaml", "--json").out)
    assert again["rows"]["reused"] == len(rows)


def test_a_shell_pattern_may_stand_for_many_files(job: Job, pool_rows: Rows, write_jsonl: Write) -> None:
    first, second = write_jsonl("a.jsonl", pool_rows[:3]), write_jsonl("b.jsonl", pool_rows[3:])
    places: list[str | Path] = ["--model", job.model, "--target", job.target, "--out", job.out]
    assert strict(prism("select", "--pool", first, second, *places, "--json").out)["rows"]["good"] == len(pool_rows)
    assert yaml.safe_load((job.out / "config.yaml").read_text())["pool"] == [str(first), str(second)]


def test_relative_places_are_those_of_the_working_folder(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(job.folder)
    assert job.select("--quiet", model="model", pool="pool.jsonl", target="pairs.jsonl", out="here").code == 0
    monkeypatch.chdir("/")
    assert prism("select", "--config", job.folder / "here" / "config.yaml", "--quiet").code == 0


def test_the_written_config_repeats_the_run(job: Job) -> None:
    assert job.select("--quiet", "--gradient-norms", budget=4, max_length=40, parameters="mlp").code == 0
    again = job.folder / "again"
    assert prism("select", "--config", job.out / "config.yaml", "--out", again).code == 0
    assert (again / "selected.jsonl").read_bytes() == (job.out / "selected.jsonl").read_bytes()
    shards = sorted(p.relative_to(job.out) for p in job.out.glob("scores/*"))
    assert shards and all((again / s).read_bytes() == (job.out / s).read_bytes() for s in shards)
    assert (again / "direction.safetensors").read_bytes() == (job.out / "direction.safetensors").read_bytes()
    first, second = (yaml.safe_load((run / "config.yaml").read_text()) for run in (job.out, again))
    assert {**first, "out": None} == {**second, "out": None}


class TestDryRun:
    def test_a_table(self, job: Job) -> None:
        outcome = job.select("--dry-run")
        assert outcome.code == 0 and not job.out.exists()
        for word in (
            "the run will take",
            "scoring",
            "peak memory",
            "scores on disk",
            "free",
            "7 good rows, 0 rejected",
        ):
            assert word in outcome.out
        assert "measuring a sample" in outcome.err

    def test_an_object(self, job: Job) -> None:
        outcome = job.select("--dry-run", "--json")
        assert strict(outcome.out)["rows"]["good"] == 7 and outcome.err == ""
        assert job.select("--dry-run", "--quiet").out == "" and not job.out.exists()

    def test_it_may_stand_in_a_config(self, job: Job) -> None:
        config = {"model": str(job.model), "pool": str(job.pool), "target": str(job.target), "dry-run": True}
        (job.folder / "job.yaml").write_text(yaml.safe_dump({**config, "out": str(job.out)}))
        assert "the run will take" in prism("select", "--config", job.folder / "job.yaml").out
        assert prism("select", "--config", job.folder / "job.yaml", "--no-dry-run", "--quiet").code == 0
        assert yaml.safe_load((job.out / "config.yaml").read_text())["dry_run"] is False

    def test_a_finished_run(self, job: Job) -> None:
        job.select("--quiet")
        before = sorted(job.out.iterdir())
        outcome = job.select("--dry-run")
        assert "7 scored already" in outcome.out and sorted(job.out.iterdir()) == before

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"pool": "missing.jsonl"}, "missing.jsonl does not exist"),
            ({"budget": "20"}, "budget 20 is above the pool's 7 samples"),
            ({"budget": "lots"}, "budget 'lots' is not a share"),
            ({"parameters": "zzz"}, "matches no parameter name"),
            ({"out": "/proc/prism/run"}, "the run folder /proc/prism/run can't be written"),
        ],
    )
    def test_it_refuses(self, job: Job, options: dict[str, Any], message: str) -> None:
        assert message in job.refused("--dry-run", **options)


def test_columns_of_other_names(job: Job, write_jsonl: Write) -> None:
    pool = write_jsonl("other.jsonl", [{"frage": q, "antwort": a} for q, a in TEXTS])
    target = write_jsonl("pairs2.jsonl", [{"q": "Hi", "good": "Hello!", "bad": "Go away."}])
    more = ["--columns", "prompt=frage,completion=antwort", "--target-columns", "prompt=q", "chosen=good,rejected=bad"]
    outcome = job.select("--json", *more, pool=pool, target=target)
    assert strict(outcome.out)["rows"]["good"] == len(TEXTS)


def test_notices(job: Job) -> None:
    (job.model / "chat_template.jinja").unlink()
    outcome = job.select(parameters="lora", cap_per_source=1)
    assert outcome.code == 0
    log = (job.out / "run.log").read_text()
    for notice in (
        "the tokenizer has no chat template: turns are joined as plain text",
        "a new LoRA of rank 16 was attached (seed 0): its B is zero, so the gradient of every A vanishes",
        "only 1 of the 3 rows asked for could be chosen (6 over the cap)",
    ):
        assert notice in log
        assert notice in " ".join(outcome.err.split())
    assert len(strict((job.out / "summary.json").read_text())["selection"]["notices"]) == 1


def test_no_notice_where_there_is_nothing_to_notice(job: Job) -> None:
    outcome = job.select()
    for word in ("template", "LoRA", "only", "no use"):
        assert word not in outcome.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pool": "missing.jsonl"}, "missing.jsonl does not exist"),
        ({"target": "missing.jsonl"}, "missing.jsonl does not exist"),
        ({"budget": "20"}, "budget 20 is above the pool's 7 samples"),
        ({"budget": "100000 tok"}, "budget 100000 tok is above the pool's"),
        ({"budget": "0"}, "budget '0' is zero"),
        ({"budget": "-5%"}, "must be positive"),
        ({"budget": "-1"}, "must be positive"),
        ({"budget": "lots"}, "budget 'lots' is not a share"),
        ({"budget": ""}, "budget '' is not a share"),
        ({"order": "middle"}, "--order"),
        ({"cap_per_source": "5 tok"}, "--cap-per-source"),
        ({"columns": "frage=prompt"}, "unknown field 'frage'"),
        ({"device": "nonsense"}, "device 'nonsense' can't be used here"),
        ({"dtype": "nonsense"}, "dtype 'nonsense' is unknown"),
        ({"parameters": "(("}, "is not lora, linear, all or a regular expression: missing )"),
        ({"parameters": "zzz"}, "matches no parameter name; names look like model.embed_tokens.weight"),
        ({"max_length": 257}, "max_length 257 is beyond the model's 256 positions"),
        ({"max_length": 1}, "--max-length"),
        ({"batch_tokens": 0}, "--batch-tokens"),
        ({"lora_rank": 0}, "--lora-rank"),
        ({"seed": -1}, "--seed"),
        ({"config": "missing.yaml"}, "the config missing.yaml can't be read"),
        ({"tokenizer": "missing"}, "the tokenizer missing does not exist"),
        ({"out": "/proc/prism/run"}, "the run folder /proc/prism/run can't be written"),
    ],
)
def test_it_refuses(job: Job, options: dict[str, Any], message: str) -> None:
    assert message in job.refused(**options)
    assert not (job.out / "selected.jsonl").exists()


def test_a_refused_command_can_be_corrected(job: Job) -> None:
    for wrong in ({"parameters": "zzz"}, {"dtype": "nonsense"}, {"max_length": 9999}, {"budget": 99}):
        job.refused(**wrong)
    assert job.select("--quiet").code == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "the pool is empty"),
        (b"\n\n", "the pool is empty"),
        (b"{broken\n[1]\n", "all 2 rows of the pool were rejected; the first"),
        (b'{"prompt": "\xff", "completion": "x"}', "not UTF-8"),
        (b'{"prompt": "no answer"}', "all 1 rows of the pool were rejected"),
    ],
)
def test_a_pool_without_a_row(job: Job, text: bytes, message: str) -> None:
    (job.folder / "bad.jsonl").write_bytes(text)
    assert message in job.refused(pool=job.folder / "bad.jsonl")
    assert message.replace("pool", "target") in job.refused(target=job.folder / "bad.jsonl")


def test_bad_rows_are_listed_and_the_others_scored(job: Job) -> None:
    good = job.pool.read_bytes()
    job.pool.write_bytes(b"{broken\n" + good + b'{"prompt": "\xff", "completion": "x"}\n')
    summary = strict(job.select("--json").out)
    assert (summary["rows"]["read"], summary["rows"]["good"], summary["rows"]["rejected"]) == (9, 7, 2)
    rejected = lines(job.out / "rejected.jsonl")
    assert [(row["file"], row["line"]) for row in rejected] == [(str(job.pool), 1), (str(job.pool), 9)]
    assert "not JSON" in rejected[0]["reason"] and "not UTF-8" in rejected[1]["reason"]


def test_the_first_bad_row_can_end_it(job: Job) -> None:
    job.pool.write_bytes(job.pool.read_bytes() + b"{broken\n")
    assert "pool.jsonl, line 8: not JSON" in job.refused("--on-bad-row", "stop")
    assert job.select("--quiet").code == 0
    selected = (job.out / "selected.jsonl").read_bytes()
    assert "line 8: not JSON" in job.refused("--on-bad-row", "stop")  # of a finished run too
    assert (job.out / "selected.jsonl").read_bytes() == selected


def test_a_target_row_that_can_not_be_encoded_ends_it_too(job: Job) -> None:
    with job.target.open("a") as file:
        file.write('{"prompt": "x", "chosen": "same", "rejected": "same"}\n')
    assert "pairs.jsonl, line 5" in job.refused("--on-bad-row", "stop")
    assert strict(job.select("--json").out)["target"]["rejected"] == 1
    assert [row["line"] for row in lines(job.out / "rejected.jsonl")] == [5]
    assert "pairs.jsonl, line 5" in job.refused("--on-bad-row", "stop")


def test_one_row_and_one_pair_are_enough(job: Job, pool_rows: Rows, pair_rows: Rows, write_jsonl: Write) -> None:
    pool, target = write_jsonl("one.jsonl", pool_rows[:1]), write_jsonl("pair.jsonl", pair_rows[:1])
    assert strict(job.select("--json", pool=pool, target=target).out)["selection"]["rows"] == 1


def test_a_pair_of_equals_is_no_target(job: Job, write_jsonl: Write) -> None:
    target = write_jsonl("same.jsonl", [{"prompt": "x", "chosen": "y", "rejected": "y"}])
    assert "all 1 rows of the target were rejected; the first" in job.refused(target=target)


def test_a_model_of_nan_is_refused(job: Job) -> None:
    change_weights(job.model, lambda w: w["model.norm.weight"].fill_(float("nan")))
    assert "weights NaN?" in job.refused()


def test_nan_in_one_embedding_flags_its_rows_only(job: Job, tokenizer: Any) -> None:
    token = tokenizer("fruits", add_special_tokens=False)["input_ids"][-1]
    hit = {i for i, (q, a) in enumerate(TEXTS) if token in tokenizer(q + " " + a)["input_ids"]}
    assert 0 < len(hit) < len(TEXTS) - 3
    change_weights(job.model, lambda w: w["model.embed_tokens.weight"][token].fill_(float("nan")))
    summary = strict(job.select("--json", budget="100%").out)
    assert summary["rows"]["non_finite"] == len(hit)
    assert summary["selection"]["rows"] == len(TEXTS) - len(hit)
    assert f"{len(hit)} without a finite score" in summary["selection"]["notices"][0]
    chosen = {row["messages"][0]["content"] for row in lines(job.out / "selected.jsonl")}
    assert chosen == {q for i, (q, _) in enumerate(TEXTS) if i not in hit}


def test_a_folder_of_something_else_is_left_alone(job: Job) -> None:
    other = job.folder / "other"
    other.mkdir()
    (other / "thesis.tex").touch()
    assert "holds other files (thesis.tex, …) but no run of ours" in job.refused(out=other)
    assert os.listdir(other) == ["thesis.tex"]


@pytest.mark.parametrize("place", ["pool.jsonl", "pool.jsonl/run"])
def test_a_file_is_no_run_folder(job: Job, place: str) -> None:
    before = job.pool.read_bytes()
    assert "can't be written" in job.refused(out=job.folder / place)
    assert job.pool.read_bytes() == before


def test_pickle_is_refused_until_allowed(job: Job) -> None:
    job.select("--quiet", out=job.folder / "safe")
    torch.save(load_file(job.model / "model.safetensors"), job.model / "pytorch_model.bin")
    (job.model / "model.safetensors").unlink()
    message = job.refused()
    assert "holds only pickle weights (pytorch_model.bin)" in message and "--allow-pickle" in message
    assert job.select("--quiet", "--allow-pickle").code == 0
    assert (job.out / "selected.jsonl").read_bytes() == (job.folder / "safe" / "selected.jsonl").read_bytes()


def test_code_that_comes_with_a_model_does_not_run(job: Job) -> None:
    config = json.loads((job.model / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.OwnModel"}}
    (job.model / "config.json").write_text(json.dumps(config))
    (job.model / "own.py").write_text(f"open({str(job.folder / 'ran')!r}, 'w')\nclass Own: pass\nclass OwnModel: pass")
    assert "--trust-remote-code" in job.refused()
    assert not (job.folder / "ran").exists()
