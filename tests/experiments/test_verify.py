"""First-order predictions against autograd, sums over subsets against brute force, and the command end to end."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from transformers import AutoModelForCausalLM, AutoTokenizer

from prism import load_model, load_pool, load_target
from prism.config import SelectConfig
from prism.errors import ConfigError, RunError
from prism.experiments.first_order import dot, mean_gradient, steps
from prism.experiments.lds import Measured, draw_subsets, score, summed
from prism.experiments.verify import verify
from prism.experiments.verify_config import VerifyConfig
from prism.experiments.verify_report import remarks
from prism.run.select import run_select
from prism.target import measure_target, potential
from tests import oracle
from tests.cli.command import prism, refusal
from tests.experiments.conftest import Place

QUICK = {"epochs": 1, "learning_rate": 1e-3, "full": True, "checkpoints": 0}


@pytest.fixture
def run(place: Place) -> Any:
    config = SelectConfig(
        model=str(place.model), pool=[str(place.data)], target=[str(place.target)], budget="5", pair_scores=True,
        dtype="float32", out=str(place.folder / "run"),
    )  # fmt: skip
    return run_select(config)


def test_the_first_order_against_autograd(place: Place) -> None:
    model = load_model(place.model, dtype="float64")
    encoder, target = model.encoder(), load_target(place.target)
    samples = [encoder.row(row) for row in load_pool(place.data)][:6]
    gradient = mean_gradient(model, samples, 60)  # several batches
    alone = [oracle.sample_gradient(model, sample)[1] for sample in samples]
    for name, tensor in gradient.items():
        torch.testing.assert_close(tensor, sum(g[name] for g in alone) / 6, rtol=1e-5, atol=1e-6)
    direction = measure_target(model, target, encoder).direction.tensors

    def measure() -> list[float]:
        sides = [encoder.pair(pair) for pair in target]
        losses = [[oracle.token_losses(model.network, side).mean() for side in pair] for pair in sides]
        return [float(potential(*(torch.stack(side) for side in zip(*losses, strict=True))))]

    before = {name: p.clone() for name, p in model.parameters.items()}
    found = steps(model, gradient, direction, [1e-4, 1e-2], measure)
    assert all(torch.equal(p, before[name]) for name, p in model.parameters.items())
    weights = dot(before, before) ** 0.5
    for step in found:
        assert step.rate * dot(gradient, gradient) ** 0.5 == pytest.approx(step.size * weights)
        assert step.predicted == pytest.approx(step.rate * dot(gradient, direction))
    ratios = [step.ratio or 0 for step in found]
    assert ratios[0] == pytest.approx(1, abs=5e-3) and abs(ratios[0] - 1) < abs(ratios[1] - 1)


def test_subsets_are_halves_and_stay_when_more_are_drawn() -> None:
    among = np.arange(20) % 4 != 0
    some, more = (draw_subsets(20, 0.5, count, 3, among) for count in (4, 9))
    assert (some == more[:4]).all() and not some[:, ~among].any()
    assert set(more.sum(1)) == {7} and len(np.unique(more, axis=0)) > 5
    assert draw_subsets(20, 0.99, 2, 0, among).sum(1).tolist() == [14, 14]  # never all


def test_sums_over_subsets(run: Any) -> None:
    from prism.run.folder import RunFiles
    from prism.scoring import PairScores

    manifest = RunFiles(run.folder).manifest
    assert manifest is not None
    matrix = PairScores(run.folder / "pairs.parquet", manifest["fingerprint"])
    subsets = draw_subsets(21, 0.4, 5, 0, np.ones(21, np.bool_))
    blocks = list(matrix.blocks())
    chosen, rejected = (np.concatenate([block[side] for block in blocks]) for side in (0, 1))
    brute = np.array([(chosen - rejected)[subset].sum(0) for subset in subsets])
    np.testing.assert_allclose(summed(matrix, subsets), brute, rtol=1e-9)
    np.testing.assert_allclose(summed(matrix, subsets, rejected=False), np.array([chosen[s].sum(0) for s in subsets]))


def test_a_score_that_is_right_has_correlation_one() -> None:
    rng = np.random.default_rng(0)
    pairs = rng.normal(size=(12, 3))
    held = rng.normal(size=12)
    measured = Measured(["a", "b", "c"], np.exp(pairs), pairs.mean(1), held)
    found = score(pairs.mean(1) * 3, pairs[:, ::-1], ["c", "b", "a"], measured, seed=0)
    assert found["mean"].value == pytest.approx(1) and found["pair"].value == pytest.approx(1)
    assert found["by_pair"] == pytest.approx({"a": 1.0, "b": 1.0, "c": 1.0})
    assert found["potential"].value == pytest.approx(
        stats.spearmanr(pairs.mean(1), np.log1p(np.exp(np.exp(pairs))).mean(1)).statistic
    )
    assert found["held_out"].value == pytest.approx(stats.spearmanr(pairs.mean(1), held).statistic)
    noise = score(rng.normal(size=12), rng.normal(size=(12, 3)), ["a", "b", "c"], measured, seed=0)
    assert noise["pair"].low < noise["pair"].value < 0.9
    each = [stats.spearmanr(a, b).statistic for a, b in zip(pairs.T, pairs.T, strict=True)]
    assert found["pair"].value == pytest.approx(np.mean(each))


def test_the_command(run: Any, place: Place) -> None:
    out = place.folder / "verified"
    words: list[str | Path] = [
        "verify",
        run.folder,
        "--out",
        out,
        "--held-out",
        place.held_out,
        "--lds",
        "--subsets",
        "3",
    ]
    words += ["--methods", "bm25", "--train", *(f"{name}={value}" for name, value in QUICK.items())]
    shown = prism(*words)
    assert shown.code == 0, shown.err
    found = json.loads((out / "verify.json").read_text())
    step = found["one_step"]
    assert step["chosen"]["slope"] == pytest.approx(step["mean_score"], rel=1e-4)
    assert step["chosen"]["slope"] > step["random"]["slope"]
    assert step["chosen"]["steps"][0]["ratio"] == pytest.approx(1, abs=0.1)
    assert set(found["lds"]["methods"]) == {"prism", "bm25"} and found["lds"]["rows"] == 21
    assert set(found["lds"]["methods"]["prism"]["by_pair"]) == {"p0", "p1", "p2", "p3"}
    assert found["training"]["chosen"]["changes"]["held_out"]["preference"] is not None
    assert not [p for p in (out / "lds").glob("subset-*") if p.is_dir()]
    again = prism(*words, "--json")
    assert json.loads(again.out) == found and "subset 1 of 3" not in again.err


def test_a_training_by_plain_descent_and_several_targets(place: Place) -> None:
    config = SelectConfig(
        model=str(place.model), pool=[str(place.data)], target=[str(place.target), str(place.held_out)], budget="12",
        dtype="float32", parameters="all", pair_scores=True, out=str(place.folder / "run"),
    )  # fmt: skip
    run = run_select(config)
    train: dict[str, Any] = {**QUICK, "learning_rate": 3e-3, "batch": 12, "epochs": 3}  # all rows in each step
    for number, clip in enumerate((0, 0.3)):
        told = {**train, "trainer": {"optim": "sgd", "max_grad_norm": clip}}
        out = str(place.folder / f"verified-{number}")
        found = verify(VerifyConfig(run=str(run.folder), train=told, lds=not clip, subsets=3, out=out))
        for name in ("chosen", "random"):
            part = found["training"][name]
            assert part["predicted"] == pytest.approx(part["changes"]["target"]["potential"], rel=0.05)
        if found["lds"]:
            assert set(found["lds"]["methods"]["prism"]["by_pair"]) == set(run.target.table.column("id").to_pylist())
    losses = json.loads((place.folder / "verified-1" / "training-chosen" / "train.json").read_text())["losses"]
    assert len(losses) == 3 and min(entry["gradient_norm"] for entry in losses) > 0.3  # it was clipped
    told = {**QUICK, "full": False}
    found = verify(VerifyConfig(run=str(run.folder), train=told, out=str(place.folder / "lora")))
    assert found["training"]["chosen"]["predicted"] is None
    assert any("nothing is foretold of the whole training" in remark for remark in remarks(found))


def test_bad_input(place: Place, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run folder"):
        verify(VerifyConfig(run=str(tmp_path / "nowhere")))
    for option, value in (("sizes", "big"), ("sizes", "-1"), ("subset_share", "100%"), ("subset_share", "7")):
        with pytest.raises(ValueError, match=r"number|share"):
            VerifyConfig.model_validate({"run": "r", option: value})
    assert "--subsets" in refusal("verify", tmp_path, "--subsets", "1")


def test_an_unknown_method_costs_no_training(run: Any, place: Place) -> None:
    config = VerifyConfig(run=str(run.folder), lds=True, methods=["less"], training=False, train=QUICK)
    with pytest.raises(ConfigError, match="--methods less: it scores at the checkpoints of a warm-up"):
        verify(config)
    with pytest.raises(ConfigError, match="there is no method 'lesss'"):
        verify(config.model_copy(update={"methods": ["lesss"]}))
    with pytest.raises(ConfigError, match="add --lds"):
        verify(config.model_copy(update={"lds": False}))
    assert not (place.folder / "run-verify").exists()


def test_a_step_of_a_16_bit_model_is_taken_in_32(place: Place) -> None:
    narrow = place.folder / "bf16"
    AutoModelForCausalLM.from_pretrained(place.model, dtype=torch.bfloat16).save_pretrained(narrow)
    AutoTokenizer.from_pretrained(place.model).save_pretrained(narrow)
    common = {"model": str(narrow), "pool": [str(place.data)], "target": [str(place.target)], "budget": "4"}
    for dtype, precise in (("auto", "float32"), ("bfloat16", "bfloat16")):
        made = run_select(SelectConfig.model_validate({**common, "dtype": dtype, "out": str(place.folder / dtype)}))
        found = verify(VerifyConfig(run=str(made.folder), training=False, sizes=[1e-4]))
        assert found["one_step"]["precision"] == precise
        assert any("rounds short steps away" in remark for remark in remarks(found)) == (precise == "bfloat16")
        right = found["one_step"]["chosen"]["steps"][0]["ratio"] == pytest.approx(1, abs=0.1)
        assert right == (precise == "float32")
