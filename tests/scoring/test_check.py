"""The self-check: what streams wrongly is noticed, and what can't be scored at all is refused by name."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from prism.data import collate, load_pool
from prism.errors import DataError, ModelError
from prism.model import Model
from prism.scoring import score_pool
from prism.scoring.check import check_model, check_samples, self_check
from tests.conftest import Rows, tiny_llama
from tests.scoring.exactness import check_exact, encoded, random_direction
from tests.scoring.test_families import FAMILIES, build


class Wrapped(nn.Module):
    """A layer whose output goes through `change`, which also gets the layer."""

    def __init__(self, inner: nn.Module, change: Callable[[Any, torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.inner, self.change = inner, change

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.change(self.inner, x, self.inner(x))


def behind(inner: Any, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return y + F.linear(x, inner.weight.tanh())


def noisy(inner: Any, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return F.dropout(y, 0.5, training=True)


def mixed(inner: Any, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return y - 50 * y.mean((0, 1))


def changed(tokenizer: Any, change: Callable[[Any, torch.Tensor, torch.Tensor], torch.Tensor]) -> Model:
    network = tiny_llama(len(tokenizer)).double()
    layer = network.model.layers[1].mlp
    layer.down_proj = Wrapped(layer.down_proj, change)
    return Model(network, tokenizer, "linear")


def test_a_weight_used_behind_its_module_is_noticed_and_scored_right(tokenizer: Any, pool_rows: Rows) -> None:
    model = changed(tokenizer, behind)
    samples = encoded(model)
    worst, name = self_check(model, collate(samples[:2]))
    assert worst > 0.01 and name == "model.layers.1.mlp.down_proj.inner.weight"
    assert "down_proj.inner.weight is off by" in check_exact(model, samples)
    with pytest.raises(
        ModelError, match=r"^model.layers.1.mlp.down_proj.inner \(Linear\) fails the self-check: the st"
    ):
        check_model(model, samples)


def test_a_check_sample_with_nan_proves_nothing(tokenizer: Any, pool_rows: Rows) -> None:
    """That a weight is used behind its module must show although the first samples are NaN."""
    model = changed(tokenizer, behind)
    encoder, v = model.encoder(), random_direction(model)
    clean = score_pool(model, load_pool(pool_rows), v, encoder)
    scores = dict(zip(clean.column("id").tolist(), clean.column("score").tolist(), strict=True))
    token = tokenizer("zebra", add_special_tokens=False)["input_ids"][-1]
    with torch.no_grad():
        model.network.get_input_embeddings().weight[token] = torch.nan
    broken = [{"prompt": "Which animal is striped? " * n, "completion": "A zebra"} for n in (1, 2, 3)]
    result = score_pool(model, load_pool([*broken, *pool_rows]), v, encoder)
    assert result.details["engine"] == "per-sample"
    assert result.column("flag").tolist()[:3] == ["non-finite"] * 3
    again = dict(zip(result.column("id").tolist(), result.column("score").tolist(), strict=True))
    assert all(again[i] == pytest.approx(s, rel=1e-9) for i, s in scores.items())


def test_a_model_that_is_not_the_same_twice_is_refused(tokenizer: Any) -> None:
    model = changed(tokenizer, noisy)
    where = r", first in model.layers.1.mlp.down_proj \(Wrapped\): what is random there must be off in evaluation$"
    with pytest.raises(ModelError, match="the model gives a sample another loss each time, .*" + where):
        check_model(model, encoded(model))


def test_a_model_in_which_neighbours_matter_is_refused(tokenizer: Any) -> None:
    model = changed(tokenizer, mixed)
    where = r", first in model.layers.1.mlp.down_proj \(Wrapped\): padding or neighbours must not matter$"
    with pytest.raises(ModelError, match="the model gives a sample the loss .* beside a longer one" + where):
        check_exact(model, encoded(model))


class Straight(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no derivative of this kernel")


def test_a_model_that_can_not_be_differentiated_is_refused(tokenizer: Any) -> None:
    model = changed(tokenizer, lambda inner, x, y: Straight.apply(y))  # type: ignore[no-untyped-call]
    with pytest.raises(ModelError, match="a LlamaForCausalLM can't be differentiated: no derivative of this kernel"):
        check_model(model, encoded(model))


def test_nothing_is_finite(tokenizer: Any) -> None:
    network = tiny_llama(len(tokenizer))
    network.lm_head.weight.data.fill_(torch.nan)
    model = Model(network, tokenizer)
    with pytest.raises(ModelError, match="no check sample has a finite loss and gradient"):
        check_model(model, encoded(model))


def test_a_gradient_that_is_all_rounding_is_no_error(tokenizer: Any) -> None:
    """Attention does not depend on OPT's key biases, so that their gradients are noise."""
    model = Model(build(FAMILIES["opt"], len(tokenizer)).bfloat16(), tokenizer, "all")
    report = check_model(model, encoded(model))
    assert report.engine == "backward" and report.error is not None


def test_half_precision_is_compared_where_routers_choose_the_same_experts(tokenizer: Any) -> None:
    model = Model(build(FAMILIES["mixtral"], len(tokenizer)).bfloat16(), tokenizer, "linear")
    report = check_model(model, encoded(model))
    assert report.engine == "backward" and report.error is not None


def test_what_can_not_be_tapped_is_no_error(tokenizer: Any) -> None:
    model = Model(build(FAMILIES["gpt-oss"], len(tokenizer)), tokenizer, "all")
    report = check_model(model, encoded(model))
    assert (report.engine, report.error) == ("per-sample", None)
    assert report.reason == "model.layers.0.self_attn.sinks: a GptOssAttention uses it in reshape"


def test_own_texts_and_a_pool(tokenizer: Any, pool_rows: Rows) -> None:
    model = Model(tiny_llama(len(tokenizer)), tokenizer)
    own = check_samples(model.encoder())
    assert len(own) == len({len(s) for s in own}) == 5
    given = check_samples(model.encoder(), load_pool(pool_rows))
    assert [len(s) for s in given] == [len(model.encoder().row(row)) for row in load_pool(pool_rows[:5])]
    small = Model(tiny_llama(60), tokenizer)
    with pytest.raises(
        DataError, match=r"no row can be used for the check; the first: <list>, line 1: the tokenizer makes"
    ):
        check_samples(small.encoder(), load_pool(pool_rows))
