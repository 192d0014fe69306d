"""What a run leaves, and what a second one makes of it. The messages that users see are tested in tests/cli."""

import hashlib
import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from prism import load_model, load_pool, load_target, score
from prism.config import SelectConfig
from prism.errors import ConfigError, DataError, RunError
from prism.run.explain import explain_row
from prism.run.select import load_selection, run_select
from prism.sealed import seal
from tests.conftest import TEXTS, Rows
from tests.small_memory import room_for


class Notes:
    """Remembers what a run says."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.phases: list[str] = []

    def start(self, phase: str, rows: int) -> None:
        self.phases.append(phase)

    def advance(self, rows: int, tokens: int) -> None: ...

    def note(self, message: str) -> None:
        self.notes.append(message)


def contents(folder: str | Path) -> dict[str, str]:
    """File → digest of all that a run has made; the log may grow."""
    files = [p for p in Path(folder).rglob("*") if p.is_file() and p.name != "run.log"]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def flip(path: Path, where: float = 0.5) -> None:
    raw = bytearray(path.read_bytes())
    raw[int(len(raw) * where)] ^= 1
    path.write_bytes(raw)


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("prism.run.prepare.load_model", refuse)


@pytest.fixture
def many(config: SelectConfig, write_jsonl: Callable[[str, Rows], Path]) -> SelectConfig:
    """A pool of three shards."""
    rows = [{"prompt": f"Count to {n}", "completion": f"{n}!", "id": str(n)} for n in range(1100)]
    return config.model_copy(update={"pool": [str(write_jsonl("many.jsonl", rows))], "batch_tokens": 4096})


def test_the_scores_are_those_of_the_library(config: SelectConfig) -> None:
    run_select(config)
    table = pq.read_table(Path(config.out) / "scores")
    expected = score(load_model(config.model), load_pool(config.pool[0]), load_target(config.target[0]))
    np.testing.assert_array_equal(table["score"].to_numpy(), expected.column("score"))
    assert table["id"].to_pylist() == expected.column("id").tolist()


def test_the_manifest_tells_what_it_was_made_from(config: SelectConfig) -> None:
    run_select(config)
    manifest = json.loads((Path(config.out) / "manifest.json").read_text())
    assert set(manifest) == {
        "created", "command", "seed", "git", "python", "platform", "fingerprint", "identity",
    }  # fmt: skip
    identity = manifest["identity"]
    assert set(identity) == {
        "model",
        "tokenizer",
        "template",
        "pool",
        "target",
        "method",
        "option",
        "device",
        "version",
    }
    assert identity["device"] == "cpu" and identity["version"]["torch"] == torch.__version__
    assert identity["option"]["dtype"] == "auto" and "budget" not in identity["option"]
    digest = hashlib.sha256(Path(config.pool[0]).read_bytes()).hexdigest()
    assert identity["pool"] == {"file 1 (pool.jsonl)": digest}


def test_the_summary_adds_up(config: SelectConfig) -> None:
    with Path(config.pool[0]).open("a") as file:
        file.write("broken\n")
    run = run_select(config)
    table = pq.read_table(Path(config.out) / "scores")
    scores, summary = np.sort(table["score"].to_numpy())[::-1], run.summary
    assert summary == json.loads((Path(config.out) / "summary.json").read_text())
    assert summary["rows"] == {
        "read": 8, "good": 7, "rejected": 1, "scored": 7, "truncated": 0, "non_finite": 0,
        "too_long": 0, "reused": 0,
    }  # fmt: skip
    assert summary["selection"]["gain"] == pytest.approx(scores[:3].sum())
    assert summary["selection"]["random_gain"] == pytest.approx(3 * scores.mean())
    assert summary["score"]["max"] == scores[0] and summary["score"]["median"] == np.median(scores)
    pairs = pq.read_table(Path(config.out) / "target.parquet").to_pylist()
    most = max(pairs, key=lambda pair: pair["preference"])
    assert summary["target"]["most_preferred"][0] == {k: most[k] for k in ("id", "preference", "prompt")}
    assert summary["target"]["pairs"] == 4


@pytest.mark.usefixtures("no_model")
def test_a_run_needs_the_model(config: SelectConfig) -> None:
    with pytest.raises(AssertionError, match="the model was loaded"):
        run_select(config)


@pytest.mark.parametrize(
    "change",
    [
        {"budget": "2"},
        {"budget": "30 tok"},
        {"order": "bottom"},
        {"cap_per_source": "1"},
        {"keep_duplicates": True},
        {"quiet": True},
        {},
    ],
)
def test_another_selection_does_not_load_the_model(
    config: SelectConfig, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    first = run_select(config)
    request.getfixturevalue("no_model")
    config = config.model_copy(update=change)
    again = run_select(config)
    assert again.summary["rows"]["reused"] == len(TEXTS)
    monkeypatch.undo()
    fresh = run_select(config.model_copy(update={"out": config.out + "2"}))
    for name in ("selected.jsonl", "direction.safetensors", "scores/shard-000000.parquet"):
        assert (again.folder / name).read_bytes() == (fresh.folder / name).read_bytes()
    assert (again.selection.ids == first.selection.ids) == (not change or set(change) <= {"quiet", "keep_duplicates"})
    saved = yaml.safe_load((again.folder / "config.yaml").read_text())
    assert {k: saved[k] for k in change} == change


@pytest.mark.usefixtures("no_model")
def test_the_selection_can_be_loaded(config: SelectConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    run = run_select(config)
    assert load_selection(run.folder).ids == run.selection.ids


def test_a_failed_selection_loses_nothing(config: SelectConfig) -> None:
    run_select(config)
    before = contents(config.out)
    for wrong in ({"budget": "99"}, {"budget": "9999 tok"}, {"budget": "1 tok"}):
        with pytest.raises((ConfigError, DataError)):
            run_select(config.model_copy(update=wrong))
    assert contents(config.out) == before


def test_a_failed_first_selection_keeps_the_scores(config: SelectConfig) -> None:
    with pytest.raises(ConfigError, match="above the pool"):
        run_select(config.model_copy(update={"budget": "9999 tok"}))
    assert run_select(config).summary["rows"]["reused"] == len(TEXTS)


def change_model(config: SelectConfig) -> SelectConfig:
    file = Path(config.model) / "model.safetensors"
    weights = load_file(file)
    weights["lm_head.weight"][0, 0] += 1
    save_file(weights, file, {"format": "pt"})
    return config


def change_template(config: SelectConfig) -> SelectConfig:
    file = Path(config.model) / "chat_template.jinja"
    file.write_text(file.read_text() + " ")
    return config


def change_tokenizer(config: SelectConfig) -> SelectConfig:
    file = Path(config.model) / "tokenizer.json"
    file.write_text(file.read_text() + " ")
    return config


def change_pool(config: SelectConfig) -> SelectConfig:
    file = Path(config.pool[0])
    file.write_text(file.read_text().replace("Paris", "Lyon"))
    return config


def change_target(config: SelectConfig) -> SelectConfig:
    file = Path(config.target[0])
    file.write_text(file.read_text().replace("Paris", "Lyon"))
    return config


def add_a_file(config: SelectConfig) -> SelectConfig:
    second = Path(config.pool[0]).with_name("second.jsonl")
    second.write_text('{"prompt": "x", "completion": "y"}\n')
    return config.model_copy(update={"pool": [*config.pool, str(second)]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_model, "changed since: the contents of model."),
        (change_template, "changed since: the contents of template."),
        (change_tokenizer, "changed since: the contents of tokenizer."),
        (change_pool, "changed since: the contents of pool file 1 (pool.jsonl)."),
        (change_target, "changed since: the contents of target file 1 (pairs.jsonl)."),
        (add_a_file, "changed since: pool file 2 (second.jsonl) (added)."),
        (lambda c: c.model_copy(update={"dtype": "float64"}), "changed since: option dtype: auto → float64."),
        (lambda c: c.model_copy(update={"max_length": 9}), "changed since: option max_length: None → 9."),
        (lambda c: c.model_copy(update={"parameters": "all"}), "changed since: option parameters: auto → all."),
        (lambda c: c.model_copy(update={"seed": 1}), "changed since: option seed: 0 → 1."),
        (lambda c: c.model_copy(update={"batch_tokens": 64}), "changed since: option batch_tokens: 4096 → 64."),
    ],
)
def test_a_folder_does_not_mix_runs(
    config: SelectConfig, change: Callable[[SelectConfig], SelectConfig], message: str
) -> None:
    run_select(config)
    before = contents(config.out)
    with pytest.raises(RunError) as caught:
        run_select(change(config))
    assert message in str(caught.value)
    assert contents(config.out) == before


def test_a_finished_run_moves_to_another_machine(
    config: SelectConfig, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    run_select(config)
    manifest = contents(config.out)["manifest.json"]
    monkeypatch.setattr("prism.run.provenance._version", lambda name: "99")
    request.getfixturevalue("no_model")
    assert len(run_select(config.model_copy(update={"budget": "1"})).selection) == 1
    assert contents(config.out)["manifest.json"] == manifest


def test_an_unfinished_run_stays_on_its_machine(config: SelectConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    run_select(config)
    (Path(config.out) / "summary.json").unlink()
    with monkeypatch.context() as patch:
        patch.setattr("prism.run.provenance._version", lambda name: "99")
        with pytest.raises(RunError, match=r"version torch: .* → 99"):
            run_select(config)
    run_select(config)
    flip(Path(config.out) / "scores" / "shard-000000.parquet")  # now there is something to compute again
    monkeypatch.setattr("prism.run.provenance._version", lambda name: "99")
    with pytest.raises(RunError, match=r"version torch: .* → 99"):
        run_select(config)


def test_a_damaged_shard_is_made_again(many: SelectConfig) -> None:
    run_select(many)
    before = contents(many.out)
    shard = Path(many.out) / "scores" / "shard-000001.parquet"
    foreign = run_select(many.model_copy(update={"out": many.out + "2", "seed": 1})).folder / "scores" / shard.name
    harms: dict[str, Callable[[], object]] = {
        "truncated": lambda: shard.write_bytes(shard.read_bytes()[:-100]),
        "flipped": lambda: flip(shard),
        "empty": lambda: shard.write_bytes(b""),
        "gone": shard.unlink,
        "foreign": lambda: shard.write_bytes(foreign.read_bytes()),
    }
    for harm, do in harms.items():
        do()
        notes = Notes()
        run = run_select(many, notes)
        assert run.summary["rows"]["reused"] == 1100 - 512, harm
        assert "reused the scores of 588 rows" in notes.notes
        assert "reused the measured target of 4 pairs" in notes.notes
        after = contents(many.out)
        assert {k: v for k, v in after.items() if k != "summary.json"} == {
            k: v for k, v in before.items() if k != "summary.json"
        }
        assert max(pq.read_metadata(p).num_rows for p in Path(many.out).glob("scores/*")) == 512


@pytest.mark.parametrize("name", ["target.parquet", "direction.safetensors"])
@pytest.mark.parametrize("where", [None, 0.2, 0.5, 0.9])
def test_a_damaged_target_is_made_again(config: SelectConfig, name: str, where: float | None) -> None:
    run_select(config)
    folder = Path(config.out)
    before, pairs = contents(folder), pq.read_table(folder / "target.parquet")
    if where is None:
        (folder / name).unlink()
    else:
        flip(folder / name, where)
    run_select(config)
    assert contents(folder)["direction.safetensors"] == before["direction.safetensors"]
    assert contents(folder)["selected.jsonl"] == before["selected.jsonl"]
    assert pq.read_table(folder / "target.parquet").equals(pairs)


def test_a_damaged_summary_costs_no_score(config: SelectConfig) -> None:
    run_select(config)
    (Path(config.out) / "summary.json").write_text("{")
    assert run_select(config).summary["rows"]["reused"] == len(TEXTS)


def test_what_goes_through_is_said(config: SelectConfig, write_jsonl: Callable[[str, Rows], Path]) -> None:
    rows: Rows = [
        {"id": "a", "prompt": "Say it twice", "completion": "twice"},
        {"id": "a", "prompt": "Say it twice", "completion": "twice"},
        {"id": "a", "prompt": "Say it", "completion": "once"},
        {"prompt": "Write on", "completion": "and on " * 200},
    ]
    pool = write_jsonl("mixed.jsonl", rows)
    target = write_jsonl("one.jsonl", [{"prompt": "Hi", "chosen": "Hello", "rejected": "Go away"}])
    update = {"pool": [str(pool)], "target": [str(target)], "max_length": 64}
    notes = Notes()
    run = run_select(config.model_copy(update=update), notes)
    said = "\n".join(notes.notes)
    assert "rows set aside as bad: 1 " in said
    assert "rows truncated: 1 of the pool, 0 of the target" in said
    assert "rows that say the same as another: 1" in said
    assert "the target has a single pair" in said
    (bad,) = [json.loads(line) for line in (run.folder / "rejected.jsonl").read_text().splitlines()]
    assert (bad["line"], bad["id"]) == (3, "a")


def test_rows_and_pairs_too_long_for_the_memory(
    config: SelectConfig, write_jsonl: Callable[[str, Rows], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    long = "and so on, " * 30
    pool, target = (Path(places[0]).read_text() for places in (config.pool, config.target))
    more = {"pool": {"id": "endless", "prompt": "Go", "completion": long}, "target": {"id": "vast", "prompt": "Go"}}
    more["target"] |= {"chosen": long, "rejected": "No."}
    for text, places, row in ((pool, config.pool, more["pool"]), (target, config.target, more["target"])):
        Path(places[0]).write_text(text + json.dumps(row) + "\n")

    def load_tight(*args: Any, **options: Any) -> Any:
        model = load_model(*args, **options)
        stack.enter_context(room_for(model.network, 100))
        return model

    with ExitStack() as stack:
        monkeypatch.setattr("prism.run.prepare.load_model", load_tight)
        notes = Notes()
        run = run_select(config.model_copy(update={"budget": "100%"}), notes)
    assert "rows too long for the memory, which are never selected: 1: endless" in notes.notes
    assert "pairs too long for the memory, which are left out of the direction: 1: vast" in notes.notes
    assert run.summary["rows"]["too_long"] == 1 and run.summary["rows"]["non_finite"] == 0
    assert "endless" not in run.selection.ids and len(run.selection) == len(TEXTS)
    assert run.summary["selection"]["notices"] == [
        "only 7 of the 8 rows asked for could be chosen (1 without a finite score)"
    ]
    flags = pq.read_table(run.folder / "target.parquet")["flag"].to_pylist()
    assert flags == ["ok"] * 4 + ["too-long"]


def test_the_summary_names_the_engine_and_its_error(
    config: SelectConfig, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    exact = run_select(config.model_copy(update={"gradient_norms": True})).summary
    assert exact["engine"] == "backward" and exact["engine_error"] is None
    config = config.model_copy(update={"engine": "forward", "out": str(tmp_path / "forward")})
    run = run_select(config)
    assert run.summary["engine"] == "forward (central difference)" and 0 < run.summary["engine_error"] < 1e-3
    request.getfixturevalue("no_model")
    again = run_select(config.model_copy(update={"budget": "1"})).summary
    assert {n: again[n] for n in ("engine", "engine_error")} == {n: run.summary[n] for n in ("engine", "engine_error")}


def test_a_run_from_before_an_option_existed(config: SelectConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it lacks has the default, which is what it did; its scores and its target stay."""
    import prism.run.folder as folder
    import prism.run.prepare as prepare

    whole: Any = vars(prepare)["identity"]

    def earlier(*given: Any) -> dict[str, Any]:
        found = {name: part for name, part in whole(*given).items() if name != "method"}
        return {**found, "option": {k: v for k, v in found["option"].items() if k not in ("curvature", "quantize")}}

    def sealed(path: Path, table: Any, *more: Any) -> None:
        seal(path, table.drop_columns(["subtask", "rejected_from"]) if path.name == "target.parquet" else table, *more)

    with monkeypatch.context() as then:
        then.setattr(prepare, "identity", earlier)
        then.setattr(folder, "seal", sealed)
        first = run_select(config)
    made = {name: data for name, data in contents(config.out).items() if name.startswith(("scores", "target"))}
    monkeypatch.setattr("prism.run.select.load", lambda *_: pytest.fail("the model is not needed"))
    again = run_select(config.model_copy(update={"budget": "1"}))
    assert again.summary["rows"]["reused"] == len(first.selection.scores)
    assert again.target.table.column("subtask").to_pylist() == [""] * 4
    assert made.items() <= contents(config.out).items()
    for change, said in (
        ({"curvature": "diagonal"}, "curvature: None → diagonal"),
        ({"method": "hard"}, "prism → hard"),
    ):
        with pytest.raises(RunError, match=said):
            run_select(config.model_copy(update=change))
    assert explain_row(Path(config.out), first.selection.ids[0])["score"] == pytest.approx(
        first.selection.scores.column("score")[first.selection.places[0]], rel=1e-4
    )
