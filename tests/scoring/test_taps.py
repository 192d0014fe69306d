"""Taps where a model is not called as usual."""

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from prism.data import Batch, collate
from prism.model import Model
from prism.scoring.taps import Taps
from tests import oracle
from tests.conftest import tiny_llama
from tests.scoring.exactness import encoded, random_direction


def backward_in_parts(model: Model, batch: Batch, parts: list[range]) -> None:
    """The output head on some samples at a time."""
    hidden = model.network.model(input_ids=batch.ids).last_hidden_state.flatten(0, 1)[batch.predictors]
    losses = []
    for samples in parts:
        mine = (batch.owner >= samples.start) & (batch.owner < samples.stop)
        logits = model.network.lm_head(hidden[mine][None])[0]
        losses.append(F.cross_entropy(logits, batch.labels[mine], reduction="sum"))
    torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("parts", [[range(5)], [range(2), range(2, 5)], [range(1), range(1, 4), range(4, 5)]])
@pytest.mark.parametrize("tie", [True, False])
def test_the_head_may_be_called_in_parts(tie: bool, parts: list[range], tokenizer: Any) -> None:
    network = tiny_llama(len(tokenizer), tie_word_embeddings=tie).double()
    model = Model(network, tokenizer, "all")
    samples = encoded(model)
    v = random_direction(model)
    taps = Taps(network, {n: t[None] for n, t in v.tensors.items()}, norms=True)
    batch = collate(samples)
    for _ in range(2):
        with taps.watch(batch):
            backward_in_parts(model, batch, parts)
        scores, squares = sum(taps.scores().values()), sum(taps.squares().values())
        assert isinstance(scores, torch.Tensor) and isinstance(squares, torch.Tensor)
        for i, sample in enumerate(samples):
            _, gradient = oracle.sample_gradient(model, sample)
            size = oracle.norm(gradient)
            assert abs(float(scores[i, 0]) - oracle.dot(gradient, v.tensors)) <= 1e-10 * size * v.norm()
            assert abs(float(squares[i].sqrt()) - size) <= 1e-10 * size


def test_nothing_stays_on_the_model(tokenizer: Any) -> None:
    network = tiny_llama(len(tokenizer))
    model = Model(network, tokenizer, "all")
    taps = Taps(network, {n: p[None] for n, p in model.parameters.items()}, norms=False)

    def held() -> list[Any]:
        return [(vars(m).get("forward"), len(m._forward_hooks)) for m in network.modules()]

    before = held()
    with taps.watch(collate(encoded(model))):
        assert held() != before
    assert held() == before
