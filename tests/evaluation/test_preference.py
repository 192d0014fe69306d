from typing import Any

import pytest
import torch

from prism.data import load_target
from prism.evaluation import evaluate_preference
from prism.model import Model
from tests import oracle
from tests.conftest import Rows, tiny_llama


def test_figures_follow_from_the_losses_of_each_pair(tokenizer: Any, pair_rows: Rows) -> None:
    model = Model(tiny_llama(len(tokenizer)).double(), tokenizer)
    encoder, target = model.encoder(), load_target(pair_rows)
    measured = evaluate_preference(model, target, encoder, batch_tokens=100)
    pairs = [encoder.pair(pair) for pair in target]
    with torch.no_grad():
        margins = torch.stack(
            [
                oracle.token_losses(model.network, rejected).mean() - oracle.token_losses(model.network, chosen).mean()
                for chosen, rejected in pairs
            ]
        )
    pi = 1 / (1 + torch.exp(-margins))
    assert measured.pairs == len(pairs)
    assert measured.mean == pytest.approx(float(pi.mean()), rel=1e-12)
    assert measured.won == float((margins > 0).double().mean())
    assert measured.mean_log == pytest.approx(float(pi.log().mean()), rel=1e-12)
    assert measured.potential == pytest.approx(float(-(1 - pi).log().mean()), rel=1e-12)
