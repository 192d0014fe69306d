"""Strategies on a real run: what they need, and that they select again without its model."""

import json
from pathlib import Path

import numpy as np
import pytest

from prism.config import SelectConfig, load_config
from prism.errors import ConfigError
from prism.run.estimate import estimate_run
from prism.run.reweigh import reweigh
from prism.run.select import load_selection, run_select
from tests.run.test_reweigh import expected


@pytest.fixture
def job(config: SelectConfig) -> SelectConfig:
    return config.model_copy(update={"pair_scores": True, "dtype": "float64", "budget": "3"})


def test_a_strategy_that_needs_pair_scores_is_refused_before_anything_is_scored(config: SelectConfig) -> None:
    for run in (run_select, estimate_run):
        with pytest.raises(ConfigError, match=r"--strategy coverage .* add --pair-scores"):
            run(config.model_copy(update={"strategy": "coverage"}))
    assert not (Path(config.out) / "scores").exists()


@pytest.mark.parametrize(
    ("method", "why"), [("random", "no gradients"), ("prism-mean", "divides"), ("prism", "add --p")]
)
def test_a_method_without_pairs_is_named(method: str, why: str, config: SelectConfig) -> None:
    with pytest.raises(ConfigError, match=why):
        run_select(config.model_copy(update={"strategy": "coverage", "method": method}))


@pytest.mark.parametrize("strategy", ["per-token", "round-robin", "coverage"])
def test_a_finished_run_selects_again(strategy: str, job: SelectConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    run_select(job)
    monkeypatch.setattr("prism.run.select.load", lambda *_: pytest.fail("the model is not needed"))
    again = job.model_copy(update={"strategy": strategy, "pair_scores": False, "near_duplicates": 0.9})
    run = run_select(again)
    assert run.summary["selection"]["strategy"] == strategy
    lines = (run.folder / "selected.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["prism"]["id"] for line in lines] == run.selection.ids
    assert load_selection(run.folder).ids == run.selection.ids
    assert estimate_run(again)["seconds"] >= 0
    json.dumps(run.summary, allow_nan=False)


def test_round_robin_takes_the_best_row_of_each_pair_by_autograd(job: SelectConfig) -> None:
    run = run_select(job.model_copy(update={"strategy": "round-robin", "budget": "4"}))
    chosen, rejected = expected(job)
    left, picks = set(range(len(chosen))), []
    for turn in range(4):
        column = (chosen - rejected)[:, turn]
        picks.append(max(left, key=lambda row: column[row]))
        left.remove(picks[-1])
    assert run.selection.places.tolist() == picks


def test_coverage_predicts_from_the_pairs_own_margins(job: SelectConfig) -> None:
    run = run_select(job.model_copy(update={"strategy": "coverage", "coverage_step": 0.01}))
    chosen, rejected = expected(job)
    losses = [run.target.table.column(f"loss_{side}").to_numpy() for side in ("rejected", "chosen")]
    after = losses[0] - losses[1] + 0.01 * (chosen - rejected)[run.selection.places].sum(0)
    predicted = run.summary["selection"]["predicted_log_preference"]
    assert predicted == pytest.approx(-np.log1p(np.exp(-after)).mean(), rel=1e-6)


def test_reweigh_with_another_strategy(job: SelectConfig) -> None:
    run = run_select(job)
    made = reweigh(run.folder, "uniform", strategy="round-robin", turns="subtask", quotas=["pool=100%"])
    assert made.summary["selection"]["strategy"] == "round-robin"
    assert load_config(run.folder / "config.yaml", {}).strategy == "top"
    with pytest.raises(ConfigError, match="--strategy"):
        reweigh(run.folder, "uniform", strategy="best")


@pytest.mark.parametrize(
    ("field", "value"), [("quota", "web"), ("quotas", ["a=..200%"]), ("near_duplicates", 2), ("coverage_step", 0)]
)
def test_malformed_options_are_refused_when_the_config_is_read(field: str, value: object) -> None:
    given = {"model": "m", "pool": "p", "target": "t", "out": "o", field: value}
    with pytest.raises(ConfigError, match=f"--{field.rstrip('s').replace('_', '-')}"):
        load_config(None, given)
