"""What a dry run foretells, against the run that follows; times are shown in docs/performance.md, not tested."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prism.config import SelectConfig
from prism.errors import ConfigError, DataError, ModelError, PrismError, RunError
from prism.run.clock import PHASES
from prism.run.estimate import estimate_run
from prism.run.folder import PAIR_SCORES
from prism.run.select import run_select
from tests.conftest import Rows
from tests.run.test_select import Notes, contents, flip

Writer = Callable[[str, Rows], Path]
SAMPLE = 200
ROWS = 1100


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prism.run.trial.LONG_ENOUGH", 0.2)
    monkeypatch.setattr("prism.run.estimate.SAMPLE", SAMPLE)


@pytest.fixture
def many(config: SelectConfig, write_jsonl: Writer) -> SelectConfig:
    """A pool of three shards, with short rows before long ones."""
    rows = [{"prompt": f"Count to {n}", "completion": f"{n}! " * (1 + n // 250), "id": str(n)} for n in range(ROWS)]
    return config.model_copy(update={"pool": [str(write_jsonl("many.jsonl", rows))], "budget": "50%"})


def around(config: SelectConfig) -> list[str]:
    return sorted(p.name for p in Path(config.out).parent.iterdir())


def test_disk_is_what_the_run_takes(many: SelectConfig) -> None:
    with Path(many.pool[0]).open("a") as file:
        file.write("broken\n" * 30)
    estimate = estimate_run(many)
    disk = estimate["disk_bytes"]
    run = run_select(many)
    size = {p.name: p.stat().st_size for p in run.folder.iterdir() if p.is_file()}
    assert disk["scores"] == pytest.approx(sum(p.stat().st_size for p in run.folder.glob("scores/*")), rel=0.25)
    assert disk["direction"] == pytest.approx(size["direction.safetensors"], rel=0.1)
    assert disk["selected"] == pytest.approx(size["selected.jsonl"], rel=0.25)
    assert disk["rejected"] == size["rejected.jsonl"]
    assert disk["total"] == sum(disk[name] for name in ("scores", "direction", "selected", "rejected"))
    assert disk["free"] > disk["total"]
    assert estimate["rows"] == {"good": ROWS, "rejected": 30, "stored": 0}
    assert estimate["pairs"] == 4 and estimate["engine"] == run.summary["engine"]


def test_figures_are_whole(many: SelectConfig) -> None:
    estimate = estimate_run(many)
    assert json.loads(json.dumps(estimate, allow_nan=False)) == estimate
    assert list(estimate["phases"]) == list(PHASES) == list(run_select(many).summary["phases"])
    assert all(seconds > 0 for seconds in estimate["phases"].values())
    assert estimate["seconds"] == pytest.approx(sum(estimate["phases"].values()), abs=0.1)
    assert estimate["peak_memory_mb"] > 100 and estimate["device_memory_mb"] is None
    assert estimate["measured"]["rows"] >= SAMPLE and estimate["measured"]["batches"] >= 4


def test_nothing_is_written(many: SelectConfig) -> None:
    before = around(many)
    notes = Notes()
    estimate_run(many, notes)
    assert around(many) == before
    assert any("engine" in note for note in notes.notes)
    run_select(many)
    made = contents(many.out)
    log = (Path(many.out) / "run.log").read_bytes()
    estimate_run(many.model_copy(update={"budget": "3"}))
    assert contents(many.out) == made and (Path(many.out) / "run.log").read_bytes() == log


def test_what_is_done_already_costs_no_more(many: SelectConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = estimate_run(many)
    run_select(many)
    (Path(many.out) / "scores" / "shard-000000.parquet").unlink()
    flip(Path(many.out) / "scores" / "shard-000002.parquet")
    rest = estimate_run(many)
    assert rest["rows"]["stored"] == 512
    assert rest["phases"]["scoring"] < whole["phases"]["scoring"]
    assert rest["phases"]["target"] < whole["phases"]["target"]
    run_select(many)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("prism.run.prepare.load_model", refuse)
    done = estimate_run(many)
    assert done["rows"]["stored"] == ROWS and done["measured"]["rows"] == 0
    assert done["phases"]["scoring"] == done["phases"]["loading"] == 0
    selected = (Path(many.out) / "selected.jsonl").stat().st_size
    assert done["disk_bytes"]["selected"] == selected


@pytest.mark.parametrize("memory", ["4GB", "80KB"])
def test_pair_scores(many: SelectConfig, memory: str) -> None:
    config = many.model_copy(update={"pair_scores": True, "direction_memory": memory})
    estimate = estimate_run(config)
    run = run_select(config)
    assert estimate["disk_bytes"]["pair scores"] == 8 * 4 * ROWS
    assert estimate["phases"]["pairs"] > 0 and estimate["phases"].keys() == run.summary["phases"].keys()
    assert "pairs" not in estimate_run(config)["phases"]
    (run.folder / PAIR_SCORES).unlink()
    rest = estimate_run(config)
    assert rest["phases"]["pairs"] > 0 and rest["phases"]["scoring"] < estimate["phases"]["scoring"]


@pytest.mark.parametrize("budget", ["1", "50%", "200 tok", "7"])
def test_a_few_rows(config: SelectConfig, budget: str) -> None:
    estimate = estimate_run(config.model_copy(update={"budget": budget}))
    assert estimate["rows"]["good"] == 7 and estimate["seconds"] > 0


def test_rows_that_can_not_be_encoded_are_passed_over(config: SelectConfig, write_jsonl: Writer) -> None:
    (Path(config.model) / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ raise_exception('no') if 'bad' in m['content'] else m['content'] }} {% endfor %}"
    )
    rows = [{"prompt": "bad" if n % 3 == 0 else f"q{n}", "completion": "fine"} for n in range(30)]
    pool = str(write_jsonl("some.jsonl", rows))
    assert estimate_run(config.model_copy(update={"pool": [pool]}))["measured"]["rows"] > 0
    rows = [{"prompt": "bad", "completion": "fine"}] * 9
    pool = str(write_jsonl("none.jsonl", rows))
    with pytest.raises(DataError, match=r"all 9 rows of the pool were rejected; the first: .*none\.jsonl, line 1: the"):
        estimate_run(config.model_copy(update={"pool": [pool]}))


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"pool": ["missing.jsonl"]}, DataError),
        ({"budget": "99"}, ConfigError),
        ({"max_length": 257}, ConfigError),
        ({"parameters": "zzz"}, ConfigError),
        ({"model": "missing"}, ModelError),
        ({"columns": {"messages": "nachrichten"}}, DataError),
        ({"out": "/proc/prism/run"}, RunError),
    ],
)
def test_it_refuses_what_the_run_refuses(config: SelectConfig, change: dict[str, Any], kind: type[PrismError]) -> None:
    config = config.model_copy(update=change)
    said = []
    for job in (estimate_run, run_select):
        with pytest.raises(kind) as caught:
            job(config)
        said.append(str(caught.value))
    assert said[0] == said[1]


def test_bad_rows_stop_it_where_they_stop_the_run(config: SelectConfig) -> None:
    with Path(config.pool[0]).open("a") as file:
        file.write("broken\n")
    with pytest.raises(DataError, match=r"pool\.jsonl, line 8: not JSON"):
        estimate_run(config.model_copy(update={"on_bad_row": "stop"}))


def test_another_run_in_the_folder(config: SelectConfig) -> None:
    run_select(config)
    with pytest.raises(RunError, match="option seed: 0 → 1"):
        estimate_run(config.model_copy(update={"seed": 1}))
    (Path(config.out) / "manifest.json").unlink()
    with pytest.raises(RunError, match="holds other files"):
        estimate_run(config)


@pytest.mark.parametrize("method", ["random", "bm25", "rds+", "prism-cosine", "groups.yaml"])
def test_methods_that_are_no_plain_pass(many: SelectConfig, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prism.run.method_trial.TOO_LONG", 0.2)
    if method.endswith(".yaml"):
        file = Path(many.out).parent / method
        file.write_text("aggregate: subtask-max\ncandidate_map: sign\n")
        method = str(file)
    config = many.model_copy(update={"method": method, "budget": "100"})
    before = around(config)
    estimate = estimate_run(config)
    assert around(config) == before, "nothing is left"
    run = run_select(config)
    assert estimate["phases"].keys() == run.summary["phases"].keys() and estimate["engine"] == run.summary["engine"]
    assert estimate["rows"] == {"good": ROWS, "rejected": 0, "stored": 0} and estimate["pairs"] == 4
    assert estimate["seconds"] > 0 and estimate["measured"]["rows"] > 64
    patterns = {"scores": "scores/*", "groups": "groups.parquet", "checkpoints": "checkpoints/**/*"}
    for kind, pattern in patterns.items():
        real = sum(f.stat().st_size for f in run.folder.glob(pattern) if f.is_file())
        assert estimate["disk_bytes"].get(kind, 0) == pytest.approx(real, rel=0.4), kind
    assert json.loads(json.dumps(estimate, allow_nan=False)) == estimate


def test_a_method_that_was_stopped_has_the_rest_to_do(many: SelectConfig) -> None:
    config = many.model_copy(update={"method": "prism-cosine"})
    run = run_select(config)
    for file in (run.folder / "summary.json", run.folder / "checkpoints/001/shard-000001.parquet"):
        file.unlink()
    rest = estimate_run(config)
    assert rest["rows"]["stored"] == ROWS * 2 // 3


def test_loading_is_counted_once(config: SelectConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a method that loads its model while it scores."""
    whole = run_select(config.model_copy(update={"method": "perplexity"})).summary
    assert whole["phases"]["loading"] > 0
    assert sum(whole["phases"].values()) <= whole["seconds"] + 0.05
