"""Contributions of response tokens against autograd of each token's own loss."""

from pathlib import Path

import numpy as np
import pytest
import torch

from prism import load_model, load_pool, load_target
from prism.config import SelectConfig
from prism.errors import DataError, RunError
from prism.run.explain import explain_row, explain_rows
from prism.run.select import Run, run_select
from prism.scoring.forward import ForwardMode
from tests import oracle


@pytest.mark.parametrize("forward", [True, False])
def test_each_token_has_its_own_score(config: SelectConfig, forward: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config.model_copy(update={"dtype": "float64"})
    run = run_select(config)
    model = load_model(config.model, dtype="float64")
    if not forward:

        def refuse(*_: object) -> None:
            raise NotImplementedError("no forward-mode derivative of this operation")

        monkeypatch.setattr(ForwardMode, "tokens", refuse)
    for row in load_pool(config.pool):
        sample = model.encoder().row(row)
        found = explain_row(run.folder, row.id)
        with model.requiring_grad():
            losses = oracle.token_losses(model.network, sample)
            every = list(model.parameters.values())
            parts = [torch.autograd.grad(loss, every, retain_graph=True) for loss in losses]
        gradients = [dict(zip(model.parameters, part, strict=True)) for part in parts]
        right = [oracle.dot(g, run.target.direction.tensors) for g in gradients]
        got = [token["contribution"] for token in found["tokens"]]
        np.testing.assert_allclose(got, right, rtol=1e-6, atol=1e-7 * np.abs(right).max())
        np.testing.assert_allclose([token["loss"] for token in found["tokens"]], losses.detach().numpy())
        assert [token["id"] for token in found["tokens"]] == sample.ids[sample.response].tolist()
        assert found["score"] == pytest.approx(sum(got), rel=1e-12)
        assert found["score"] == pytest.approx(found["run_score"], rel=1e-6)  # the model norms in float32
        assert ("dual numbers" in found["how"]) is forward


def test_an_unknown_id(config: SelectConfig) -> None:
    run_select(config)
    with pytest.raises(DataError, match=r"no row of .* has the id 'nobody'"):
        explain_row(Path(config.out), "nobody")


def test_a_changed_model(config: SelectConfig) -> None:
    run = run_select(config)
    weights = Path(config.model) / "model.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[-1] ^= 1
    weights.write_bytes(raw)
    with pytest.raises(RunError, match="changed since"):
        explain_row(run.folder, "whatever")


def test_pairs_pull_as_their_own_gradients_say(config: SelectConfig) -> None:
    config = config.model_copy(update={"dtype": "float64", "direction_memory": "160KB"})  # several tiles
    run = run_select(config)
    model = load_model(config.model, dtype="float64")
    encoder = model.encoder()
    pool = {row.id: row for row in load_pool(config.pool)}
    ids = run.selection.ids[::-1]
    rows, pulls = explain_rows(run.folder, ids, pulls=True)
    assert pulls is not None
    assert [row["id"] for row in rows] == ids
    assert pulls.pairs == run.target.table.column("id").to_pylist()
    gradients = [oracle.sample_gradient(model, encoder.row(pool[name]))[1] for name in ids]
    for number, (pair, pi) in enumerate(zip(load_target(config.target), weights(run), strict=True)):
        with model.requiring_grad():
            chosen, rejected = (oracle.token_losses(model.network, side).mean() for side in encoder.pair(pair))
            direction = oracle.gradients(model, pi * (chosen - rejected) / len(pulls.pairs))
        right = [oracle.dot(g, direction) for g in gradients]
        np.testing.assert_allclose(pulls.contributions[:, number], right, rtol=1e-5, atol=1e-6 * np.abs(right).max())
    np.testing.assert_allclose(pulls.contributions.sum(1), [row["run_score"] for row in rows], rtol=1e-5)


def weights(run: Run) -> list[float]:
    found: list[float] = run.target.table.column("weight").to_pylist()
    return found
