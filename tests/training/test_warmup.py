"""Warm-ups: their checkpoints, what they weigh, and that they go on after a kill."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import get_linear_schedule_with_warmup

from prism.data import load_pool
from prism.errors import ConfigError, ModelError, RunError
from prism.methods.checkpoints import find_checkpoints
from prism.methods.moments import load_moments
from prism.model import load_model
from prism.progress import Silent
from prism.training.warmup import sample_places, warmup
from prism.training.warmup_config import WarmupConfig
from tests.conftest import Rows

pytest.importorskip("trl")
FAST = {"share": "100%", "batch": 2, "epochs": 3, "learning_rate": 1e-2, "device": "cpu", "max_length": 40}
STEPS = 12  # of seven rows, two at a time


@pytest.fixture
def config(model_folder: Path, pool_rows: Rows, write_jsonl: Callable[[str, Rows], Path], tmp_path: Path) -> Any:
    pool = str(write_jsonl("pool.jsonl", pool_rows))

    def make(**options: Any) -> WarmupConfig:
        fields = {"model": str(model_folder), "pool": [pool], "out": str(tmp_path / "warm"), **FAST, **options}
        return WarmupConfig(**fields)

    return make


@pytest.mark.parametrize("full", [False, True])
def test_each_checkpoint_loads_with_its_moments_and_weighs_its_own_steps_rates(
    full: bool, config: Any, model_folder: Path
) -> None:
    folder = warmup(config(full=full))
    checkpoints = find_checkpoints([folder])
    assert [c.name for c in checkpoints] == ["checkpoint-4", "checkpoint-8", "checkpoint-12"]
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1e-2)
    schedule = get_linear_schedule_with_warmup(optimizer, 0, STEPS)  # 3 % of them, rounded down
    rates = []
    for _ in range(STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    before: dict[str, torch.Tensor] = {}
    for i, checkpoint in enumerate(checkpoints):
        model = load_model(checkpoint) if full else load_model(model_folder, adapter=checkpoint)
        moments = load_moments(checkpoint, model)
        assert set(moments.first) == set(model.parameters)
        assert moments.step == 4 * (i + 1)
        assert moments.learning_rate == pytest.approx(sum(rates[4 * i : 4 * i + 4]) / 4)
        assert moments.rate_from == "warmup.json"
        assert all(not torch.equal(p, before[n]) for n, p in model.parameters.items() if n in before)
        before = {n: p.detach().clone() for n, p in model.parameters.items()}
    record = json.loads((folder / "warmup.json").read_text())
    assert [row["epoch"] for row in record["checkpoints"]] == [1, 2, 3]
    assert record["base"]["model"] == str(model_folder) and record["full"] is full


def test_a_user_may_change_a_weight(config: Any, model_folder: Path) -> None:
    folder = warmup(config(checkpoints=1))
    file = folder / "warmup.json"
    record = json.loads(file.read_text())
    record["checkpoints"][0]["learning_rate"] = 0.25
    file.write_text(json.dumps(record))
    (checkpoint,) = find_checkpoints([folder])
    assert load_moments(checkpoint, load_model(model_folder, adapter=checkpoint)).learning_rate == 0.25
    record["checkpoints"][0]["learning_rate"] = "much"
    file.write_text(json.dumps(record))
    with pytest.raises(ModelError, match="learning rate 'much' is no number"):
        load_moments(checkpoint, load_model(model_folder, adapter=checkpoint))


class Killed(Silent):
    def __init__(self, after: int) -> None:
        self._left = after

    def advance(self, rows: int, tokens: int) -> None:
        self._left -= rows
        if self._left < 0:
            raise KeyboardInterrupt


def test_a_killed_warm_up_goes_on_as_if_nothing_had_been(config: Any, tmp_path: Path, model_folder: Path) -> None:
    whole = warmup(config(out=str(tmp_path / "whole")))
    with pytest.raises(KeyboardInterrupt):
        warmup(config(), Killed(after=10))
    with pytest.raises(ModelError, match="is not finished"):
        find_checkpoints([tmp_path / "warm"])
    part = warmup(config())
    kept = [json.loads((f / "warmup.json").read_text())["checkpoints"] for f in (whole, part)]
    assert kept[0] == kept[1]
    for row in kept[0]:
        first, second = (load_file(f / row["folder"] / "adapter_model.safetensors") for f in (whole, part))
        assert all(torch.equal(first[name], second[name]) for name in first)
    stamp = (part / "checkpoint-12" / "optimizer.pt").stat().st_mtime_ns
    warmup(config())  # nothing is left to do
    assert (part / "checkpoint-12" / "optimizer.pt").stat().st_mtime_ns == stamp


def test_it_takes_no_folder_of_something_else(config: Any, tmp_path: Path) -> None:
    warmup(config(checkpoints=1, epochs=1))
    with pytest.raises(RunError, match=r"another warm-up; changed since: option batch: 2 → 3"):
        warmup(config(checkpoints=1, epochs=1, batch=3))
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="no warm-up of ours"):
        warmup(config(out=str(other)))
    assert [p.name for p in other.iterdir()] == ["notes.txt"]


def test_more_checkpoints_than_steps(config: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="13 of a warm-up that has 12 steps"):
        warmup(config(checkpoints=13))
    assert not (tmp_path / "warm" / "warmup.json").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share": "120%"}, "above 100 %"),
        ({"share": "10k tok"}, "neither a share"),
        ({"trainer": {"save_only_model": True}}, "save_only_model is set by the warm-up"),
        ({"trainer": {"optim": "adafactor"}}, "for Adam's moments"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], message: str, config: Any) -> None:
    with pytest.raises(ValueError, match=message):
        config(**options)


def test_the_share_is_of_the_good_rows_and_seeded(pool_rows: Rows) -> None:
    pool = load_pool([{"prompt": "no answer"}, *pool_rows, *pool_rows])
    everything = sample_places(pool, "100%", 0)
    assert everything == list(range(1, 15))
    few = sample_places(pool, "4", 1)
    assert len(set(few)) == 4 and few == sorted(few) and few == sample_places(pool, "4", 1)
    assert few != sample_places(pool, "4", 2)
    assert sample_places(pool, "50%", 3) != sample_places(pool, "50%", 4)
    with pytest.raises(ConfigError, match="15 rows are more than the pool's 14"):
        sample_places(pool, "15", 0)
