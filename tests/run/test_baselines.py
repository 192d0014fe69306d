"""Methods without gradients in a run folder."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from transformers import AutoTokenizer

from prism.config import SelectConfig
from prism.data import load_pool, load_target
from prism.errors import ConfigError, ModelError, PrismError, RunError
from prism.methods.baselines import BASELINES
from prism.methods.baselines.robin import round_robin
from prism.model import find_model, load_model
from prism.model.load import load_encoder
from prism.run.baselines import MATRIX
from prism.run.select import load_selection, run_select
from prism.scoring import SHARD_ROWS
from tests.conftest import TEXTS, Rows, tiny_llama
from tests.run.test_select import Notes, contents

FREE = [name for name, baseline in BASELINES.items() if not baseline.needs_model]


def given(config: SelectConfig, **changes: Any) -> SelectConfig:
    return SelectConfig.model_validate(config.model_dump(by_alias=False) | changes)


@pytest.fixture
def many(config: SelectConfig, write_jsonl: Callable[[str, Rows], Path]) -> SelectConfig:
    """A pool of three shards, of real texts."""
    rows = [
        {"id": str(n), "prompt": f"{TEXTS[n % 7][0]} ({n})", "completion": f"{TEXTS[n // 7 % 7][1]} {n % 13}"}
        for n in range(2 * SHARD_ROWS + 30)
    ]
    return given(config, pool=[str(write_jsonl("many.jsonl", rows))], batch_tokens=8192, budget="1%")


@pytest.mark.parametrize("name", FREE)
def test_what_needs_no_model_loads_no_weights(config: SelectConfig, name: str) -> None:
    weights = next(Path(config.model).glob("*.safetensors"))
    weights.write_bytes(b"no weights at all")
    run = run_select(given(config, method=name))
    assert len(run.selection) >= 1 and np.isfinite(run.selection.scores.column("score")).all()
    if name == "random":
        with pytest.raises(ModelError):
            run_select(given(config, method="embed", out=f"{config.out}-other"))


@pytest.mark.parametrize("name", [name for name in BASELINES if name != "delta-loss"])
def test_every_baseline_selects_and_is_reused(config: SelectConfig, name: str) -> None:
    first = run_select(given(config, method=name))
    table = pq.read_table(Path(config.out) / "scores")
    assert len(table) == len(TEXTS) and not list(Path(config.out).glob("groups"))
    again = run_select(given(config, method=name, budget="3"))
    assert again.summary["rows"]["reused"] == len(TEXTS)
    best = np.argsort(-table["score"].to_numpy(), kind="stable")[:1]
    assert first.selection.places[0] == best[0]
    assert first.summary["selection"]["gain"] is None and first.summary["target"]["preference"] == {}
    with pytest.raises(RunError, match="holds another run"):
        run_select(given(config, method="random" if name != "random" else "longest"))


def test_round_robin_leaves_the_scores_against_each_target(many: SelectConfig) -> None:
    run = run_select(given(many, method="rds+"))
    places = run.selection.scores.column("score")
    stored = pq.read_table(run.folder / MATRIX)
    matrix = np.stack(stored["scores"].to_numpy())
    assert json.loads(stored.schema.metadata[b"prism.targets"]) == [p.id for p in load_target(many.target[0])]
    assert np.array_equal(places, round_robin(iter(matrix.T), len(matrix)))
    assert stored["id"].to_pylist() == [str(n) for n in range(len(matrix))]
    assert np.abs(matrix).max() <= 1 + 1e-6


def test_a_stopped_round_robin_goes_on_with_its_shards(many: SelectConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run_select(given(many, method="rds+", out=f"{many.out}-whole"))
    config = given(many, method="rds+")

    class Stopped(Notes):
        rows = 0

        def advance(self, rows: int, tokens: int) -> None:
            self.rows += rows
            if self.rows > SHARD_ROWS + 100:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_select(config, Stopped())
    assert [p.name for p in sorted((Path(config.out) / "groups").iterdir())] == ["shard-000000.parquet"]
    monkeypatch.setattr("prism.run.baselines.gather_matrix", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):  # after the places, before they are all put away
        run_select(config)
    monkeypatch.undo()
    run = run_select(config)
    assert run.summary["rows"]["reused"] == len(run.selection.scores)
    mine, theirs = contents(config.out), contents(whole.folder)
    assert {n: d for n, d in mine.items() if n.startswith("scores/")} == {
        n: d for n, d in theirs.items() if n.startswith("scores/")
    }
    assert mine["selected.jsonl"] == theirs["selected.jsonl"]


def test_the_encoder_without_the_model_is_the_models(config: SelectConfig) -> None:
    own = load_model(config.model).encoder()
    alone = load_encoder(find_model(config.model))
    assert (alone.max_length, alone.vocabulary) == (own.max_length, own.vocabulary)
    for row in load_pool(config.pool[0]):
        assert np.array_equal(alone.row(row).ids, own.row(row).ids)
    with pytest.raises(ConfigError, match="max_length 500 is beyond the model's 256 positions"):
        load_encoder(find_model(config.model), max_length=500)


def test_delta_loss_takes_a_model_or_an_adapter(config: SelectConfig, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    tokenizer = AutoTokenizer.from_pretrained(config.model)
    other = tiny_llama(len(tokenizer), num_hidden_layers=1)
    other.save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    base = load_model(config.model).network
    get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)).save_pretrained(
        str(tmp_path / "lora")
    )
    scores = {}
    for name in ("other", "lora"):
        changed = given(config, method="delta-loss", reference=str(tmp_path / name), out=f"{config.out}-{name}")
        scores[name] = run_select(changed).selection.scores.column("score")
        assert np.abs(scores[name]).min() > 0
    assert not np.allclose(scores["other"], scores["lora"])
    (tmp_path / "lora" / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(RunError, match="changed since: the contents of reference"):
        run_select(given(config, method="delta-loss", reference=str(tmp_path / "lora"), out=f"{config.out}-lora"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "delta-loss"}, "delta-loss needs --reference"),
        ({"method": "random", "ngrams": 3}, "random takes no --ngrams"),
        ({"method": "bm25", "embedder": "x/y"}, "bm25 takes no --embedder"),
        ({"embedder": "x/y"}, "--embedder"),
        ({"ngrams": 3}, "--ngrams"),
        ({"aggregate": "max"}, "--aggregate"),
        ({"method": "delta-loss", "reference": "/nowhere"}, "/nowhere does not exist"),
        ({"method": "embed", "embedder": "/nowhere"}, "/nowhere"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_anything_is_written(
    config: SelectConfig, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(PrismError, match=message):
        run_select(given(config, **changes))
    assert not (Path(config.out) / "manifest.json").exists()


@pytest.mark.parametrize("name", [name for name, baseline in BASELINES.items() if not baseline.needs_target])
def test_what_looks_at_no_target_needs_none(config: SelectConfig, name: str) -> None:
    options = {"method": name, "reference": config.model} if name == "delta-loss" else {"method": name}
    with_one = run_select(given(config, **options))
    without = run_select(given(config, **options, target=[], out=f"{config.out}-bare"))
    scores = [run.selection.scores.column("score") for run in (with_one, without)]
    np.testing.assert_array_equal(scores[0], scores[1])
    assert without.summary["target"]["pairs"] == 0
    json.dumps(without.summary, allow_nan=False)
    again = run_select(given(config, **options, target=[], out=f"{config.out}-bare", budget="1"))
    assert again.summary["rows"]["reused"] == len(TEXTS) and load_selection(again.folder).ids == again.selection.ids


@pytest.mark.parametrize("name", ["prism", "bm25", "rds+"])
def test_what_needs_a_target_says_so(config: SelectConfig, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"--target: is required by the method {re.escape(name)}"):
        run_select(given(config, method=name, target=[]))
