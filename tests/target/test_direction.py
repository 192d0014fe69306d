"""The direction and what it promises: METHOD's first-order argument, checked against autograd in float64."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from prism.data import Encoder, Target, load_pool, load_target
from prism.errors import DataError, RunError
from prism.model import Model
from prism.scoring import score_pool
from prism.target import Direction, measure_target, potential, preference
from prism.target.losses import all_losses
from tests import oracle
from tests.conftest import Rows, tiny_gpt2, tiny_llama


def mean_losses(model: Model, target: Target, encoder: Encoder) -> tuple[torch.Tensor, torch.Tensor]:
    sides = zip(*(encoder.pair(pair) for pair in target), strict=True)
    chosen, rejected = (
        torch.stack([oracle.token_losses(model.network, sample).mean() for sample in side]) for side in sides
    )
    return chosen, rejected


@pytest.fixture(params=[tiny_llama, tiny_gpt2], ids=["llama", "gpt2"])
def model(request: pytest.FixtureRequest, tokenizer: Any) -> Model:
    return Model(request.param(len(tokenizer)).double(), tokenizer, "linear")


def test_gradient_of_the_potential_is_minus_the_direction(model: Model, pair_rows: Rows) -> None:
    target, encoder = load_target(pair_rows[:3]), model.encoder()
    measured = measure_target(model, target, encoder, batch_tokens=200)
    with model.requiring_grad():
        chosen, rejected = mean_losses(model, target, encoder)
        gradient = oracle.gradients(model, potential(chosen, rejected))
    for name, tensor in measured.direction.tensors.items():
        assert torch.allclose(gradient[name], -tensor, rtol=0, atol=1e-12 * oracle.norm(gradient))


def test_the_table_holds_losses_and_preferences(model: Model, pair_rows: Rows) -> None:
    target, encoder = load_target(pair_rows), model.encoder()
    table = measure_target(model, target, encoder).table
    with torch.no_grad():
        chosen, rejected = mean_losses(model, target, encoder)
    assert np.allclose(table.column("loss_chosen").to_numpy(), chosen, rtol=1e-12)
    assert np.allclose(table.column("loss_rejected").to_numpy(), rejected, rtol=1e-12)
    ratio = torch.exp(-chosen) / (torch.exp(-chosen) + torch.exp(-rejected))
    assert np.allclose(table.column("preference").to_numpy(), ratio, rtol=1e-12)
    assert np.allclose(table.column("weight").to_numpy(), ratio, rtol=1e-12)


def test_pairs_can_be_weighed_by_another_models_preferences(model: Model, pair_rows: Rows, tokenizer: Any) -> None:
    target, encoder = load_target(pair_rows), model.encoder()
    torch.manual_seed(5)
    other = Model(type(model.network)(model.network.config).double(), tokenizer, "linear")
    with torch.no_grad():
        for parameter in other.network.parameters():
            parameter.mul_(1.5)
        theirs = preference(*mean_losses(other, target, encoder))
    weighing = all_losses(other, target, encoder)
    measured = measure_target(model, target, encoder, weighing=weighing, batch_tokens=200)
    with model.requiring_grad():
        chosen, rejected = mean_losses(model, target, encoder)
        gradient = oracle.gradients(model, (theirs * (chosen - rejected)).mean())
    assert (theirs - preference(chosen, rejected)).abs().max() > 1e-3
    for name, tensor in measured.direction.tensors.items():
        assert torch.allclose(gradient[name], tensor, rtol=0, atol=1e-12 * oracle.norm(gradient))
    for name, values in (
        ("preference", theirs),
        ("weight", theirs),
        ("loss_chosen", chosen),
        ("loss_rejected", rejected),
    ):
        assert np.allclose(measured.table.column(name).to_numpy(), values.detach(), rtol=1e-12)
    weighing[0, 1] = np.nan
    one_less = measure_target(model, target, encoder, weighing=weighing).table
    assert one_less.column("flag").to_pylist()[1] == "non-finite" and one_less.column("weight").to_pylist()[1] == 0


def test_a_step_along_a_sample_changes_the_potential_by_its_score(
    model: Model, pool_rows: Rows, pair_rows: Rows
) -> None:
    """K(theta - eta g_z) - K(theta) = eta s(z) + O(eta^2): halving eta halves the error of the slope.

    Llama's steps stay long enough for the float32 in which its norms compute, whatever the model's dtype is.
    """
    longest = 8e-3 if model.network.config.model_type == "llama" else 2e-3
    target, encoder = load_target(pair_rows), model.encoder()
    pool = load_pool(pool_rows[:3])
    direction = measure_target(model, target, encoder).direction
    scores = score_pool(model, pool, direction, encoder).column("score")

    def k() -> float:
        with torch.no_grad():
            return float(potential(*mean_losses(model, target, encoder)))

    before = k()
    for row, score in zip(pool, scores, strict=True):
        _, gradient = oracle.sample_gradient(model, encoder.row(row))
        errors = []
        for halving in range(4):
            eta = longest / 2**halving / oracle.norm(gradient)
            with torch.no_grad():
                for name, parameter in model.parameters.items():
                    parameter.sub_(eta * gradient[name])
                change = k() - before
                for name, parameter in model.parameters.items():
                    parameter.add_(eta * gradient[name])
            errors.append(abs(change / eta - score))
        assert errors[-1] <= 0.1 * abs(score) + 1e-5 * oracle.norm(gradient) * direction.norm()
        ratios = [big / small for big, small in pairwise(errors)]
        assert all(1.7 < ratio < 2.3 for ratio in ratios), ratios


def test_preference_is_a_ratio_of_normalised_likelihoods() -> None:
    chosen, rejected = torch.tensor([1.0, 2.0, 3.0]).double(), torch.tensor([2.0, 2.0, 0.5]).double()
    pi = preference(chosen, rejected)
    assert torch.allclose(pi, torch.exp(-chosen) / (torch.exp(-chosen) + torch.exp(-rejected)))
    assert torch.allclose(potential(chosen, rejected), -torch.log(1 - pi).mean())


def test_batching_changes_nothing(model: Model, pair_rows: Rows) -> None:
    target, encoder = load_target(pair_rows), model.encoder()
    one, many = (measure_target(model, target, encoder, batch_tokens=n).direction for n in (1, 10_000))
    difference = {name: one.tensors[name] - many.tensors[name] for name in one.tensors}
    assert oracle.norm(difference) <= 1e-12 * one.norm()


def test_pairs_that_can_not_be_used_are_set_aside(model: Model, pair_rows: Rows) -> None:
    bad = [
        {"prompt": "p", "chosen": "same", "rejected": "same"},
        {"prompt": "p", "chosen": "", "rejected": "x"},
        {"prompt": "p", "chosen": "long " * 200 + "a", "rejected": "long " * 200 + "b"},
    ]
    measured = measure_target(model, load_target(pair_rows + bad), model.encoder(max_length=64))
    assert measured.table.num_rows == len(pair_rows)
    reasons = [row.reason for row in measured.rejected]
    assert len(reasons) == 3
    assert "equal" in reasons[0]
    assert "empty" in reasons[1]
    assert "truncated" in reasons[2]
    with pytest.raises(DataError, match="all 3 rows of the target"):
        measure_target(model, load_target(bad), model.encoder(max_length=64))


def test_a_pair_with_a_broken_token_is_flagged_and_left_out(tokenizer: Any, pair_rows: Rows) -> None:
    network = tiny_llama(len(tokenizer)).double()
    token = tokenizer("Paris", add_special_tokens=False)["input_ids"][-1]
    rows = [row for row in pair_rows if "Paris" not in row["chosen"] + row["rejected"]]
    assert len(rows) < len(pair_rows)
    with torch.no_grad():
        network.model.embed_tokens.weight[token] = torch.nan
    model = Model(network, tokenizer, "linear")
    measured = measure_target(model, load_target(pair_rows), model.encoder())
    flags = measured.table.column("flag").to_pylist()
    assert flags.count("non-finite") == len(pair_rows) - len(rows)
    assert measured.direction.is_finite()
    expected = measure_target(model, load_target(rows), model.encoder()).direction
    gap = {n: expected.tensors[n] - measured.direction.tensors[n] for n in expected.tensors}
    assert oracle.norm(gap) <= 1e-6 * expected.norm()  # Llama norms compute in float32


def test_a_model_that_is_all_nan_is_an_error(tokenizer: Any, pair_rows: Rows) -> None:
    network = tiny_llama(len(tokenizer))
    with torch.no_grad():
        network.model.norm.weight.fill_(torch.nan)
    model = Model(network, tokenizer, "linear")
    with pytest.raises(DataError, match="finite loss"):
        measure_target(model, load_target(pair_rows), model.encoder())


def test_a_direction_survives_its_file(tmp_path: Path) -> None:
    direction = Direction({"a": torch.randn(3, 2), "b": torch.randn(4).double()}, {"pairs": 7})
    direction.save(tmp_path / "d.safetensors")
    again = Direction.load(tmp_path / "d.safetensors")
    assert again.provenance == direction.provenance
    assert all(torch.equal(again.tensors[n], t) for n, t in direction.tensors.items())
    (tmp_path / "d.safetensors").write_bytes(b"\x00" * 20)
    with pytest.raises(RunError, match="can't be read"):
        Direction.load(tmp_path / "d.safetensors")
