from typing import Any

import pytest
import torch

from prism.data import load_pool
from prism.model import Model
from prism.training import fine_tune
from tests import oracle
from tests.conftest import Rows, tiny_llama


def mean_loss(model: Model, samples: list[Any]) -> float:
    with torch.no_grad():
        return float(torch.cat([oracle.token_losses(model.network, s) for s in samples]).mean())


def test_training_lowers_the_loss_and_leaves_the_original_alone(tokenizer: Any, pool_rows: Rows) -> None:
    pytest.importorskip("trl")
    model = Model(tiny_llama(len(tokenizer)), tokenizer)
    encoder = model.encoder()
    samples = [encoder.row(row) for row in load_pool(pool_rows)]
    before, weights = mean_loss(model, samples), {n: p.clone() for n, p in model.network.named_parameters()}
    tuned = fine_tune(model, samples, epochs=20, rate=3e-2)
    assert mean_loss(tuned, samples) < 0.7 * before
    assert mean_loss(model, samples) == before
    assert all(torch.equal(p, weights[n]) for n, p in model.network.named_parameters())
    assert model.tokenizer.chat_template == tokenizer.chat_template


def test_only_response_tokens_are_trained_on(tokenizer: Any, pool_rows: Rows) -> None:
    pytest.importorskip("trl")
    model = Model(tiny_llama(len(tokenizer)), tokenizer)
    encoder = model.encoder()
    sample = encoder.row(next(iter(load_pool(pool_rows))))
    tuned = fine_tune(model, [sample], epochs=40, rate=3e-2)
    ids = torch.from_numpy(sample.ids)[None]
    with torch.no_grad():
        logits = tuned.network(input_ids=ids).logits[0, :-1].log_softmax(-1)
    chosen = logits.gather(1, ids[0, 1:, None])[:, 0].exp()
    response = torch.from_numpy(sample.response[1:])
    assert chosen[response].mean() > 0.5
    assert chosen[~response].mean() < 0.05
