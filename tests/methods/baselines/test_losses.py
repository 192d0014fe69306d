"""Loss baselines against transformers' own loss, one sample at a time."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from prism.data import Encoded, Encoder, load_pool
from prism.errors import ConfigError
from prism.methods.baselines import BASELINES, score_baseline
from prism.methods.baselines.losses import without_prompt
from prism.methods.context import Options
from prism.model import Model
from tests import oracle
from tests.conftest import DEMO_MODEL, tiny_gpt2, tiny_llama
from tests.methods.baselines.contexts import ROWS, with_model


def own_loss(network: Any, ids: Any, response: Any) -> float:
    """Mean loss of the response tokens, from all logits in float64."""
    with torch.no_grad():
        return float(oracle.token_losses(network, Encoded(np.array(ids), np.array(response))).mean())


def library_loss(network: Any, sample: Encoded) -> float:
    """What transformers computes, in float32: the mean over labels that are not -100."""
    tokens = torch.tensor(sample.ids)[None]
    labels = torch.where(torch.tensor(sample.response)[None], tokens, -100)
    with torch.no_grad():
        return float(network(input_ids=tokens, attention_mask=torch.ones_like(tokens), labels=labels).loss)


@pytest.fixture
def network(tokenizer: Any) -> Any:
    return tiny_llama(len(tokenizer)).double()


@pytest.fixture
def samples(tokenizer: Any) -> list[Encoded]:
    encoder = Encoder(tokenizer, max_length=256)
    return [encoder.row(row) for row in load_pool(ROWS)]


def test_perplexity_is_the_mean_loss_lowest_first(network: Any, tokenizer: Any, samples: list[Encoded]) -> None:
    table = score_baseline(BASELINES["perplexity"], with_model(network, tokenizer, batch_tokens=200), shard_rows=8)
    expected = np.array([own_loss(network, s.ids, s.response) for s in samples])
    np.testing.assert_allclose(table.column("score"), -expected, rtol=1e-10)
    np.testing.assert_allclose(table.column("loss"), expected * table.column("response_tokens"), rtol=1e-10)
    np.testing.assert_allclose(-table.column("score"), [library_loss(network, s) for s in samples], rtol=1e-6)


def test_ifd_is_the_loss_with_over_the_loss_without_the_prompt(
    network: Any, tokenizer: Any, samples: list[Encoded]
) -> None:
    table = score_baseline(BASELINES["ifd"], with_model(network, tokenizer, batch_tokens=200), shard_rows=8)
    expected = []
    for sample in samples:
        answer = [int(t) for t, counts in zip(sample.ids, sample.response, strict=True) if counts]
        alone = own_loss(network, [tokenizer.bos_token_id, *answer], [False] + [True] * len(answer))
        expected.append(own_loss(network, sample.ids, sample.response) / alone)
    ratio = np.array(expected)
    assert (ratio > 1).any() and (ratio < 1).any()
    np.testing.assert_allclose(table.column("score"), np.where(ratio > 1, 1 - ratio, ratio), rtol=1e-10)
    order = np.argsort(-table.column("score"))
    helped = ratio[order] <= 1
    assert helped.tolist() == sorted(helped, reverse=True)  # the authors drop the others


def test_a_response_alone_stands_behind_bos_or_the_token_before_it() -> None:
    sample = Encoded(np.array([1, 5, 6, 7, 8]), np.array([False, False, False, True, True]))
    assert without_prompt(sample, 1).ids.tolist() == [1, 7, 8]
    assert without_prompt(sample, None).ids.tolist() == [6, 7, 8]
    assert without_prompt(sample, None).response.tolist() == [False, True, True]
    turns = Encoded(np.array([5, 7, 6, 8]), np.array([False, True, False, True]))
    assert without_prompt(turns, 1).ids.tolist() == [1, 7, 8]


def test_delta_loss_is_the_difference_of_mean_losses(network: Any, tokenizer: Any, samples: list[Encoded]) -> None:
    reference = tiny_gpt2(len(tokenizer)).double()
    asked: list[str] = []

    def other(place: str) -> Model:
        asked.append(place)
        return Model(reference, tokenizer)

    context = with_model(network, tokenizer, batch_tokens=200, other=other)
    table = score_baseline(BASELINES["delta-loss"], context, Options(reference="there"), shard_rows=8)
    mine, theirs = (np.array([own_loss(n, s.ids, s.response) for s in samples]) for n in (network, reference))
    np.testing.assert_allclose(table.column("score"), mine - theirs, atol=1e-12)
    np.testing.assert_allclose(table.column("loss"), mine * table.column("response_tokens"), rtol=1e-10)
    assert asked == ["there"]


def test_a_reference_with_other_words_is_refused(network: Any, tokenizer: Any) -> None:
    words = AutoTokenizer.from_pretrained(DEMO_MODEL)
    words.add_tokens(["another"])
    context = with_model(network, tokenizer, other=lambda _: Model(tiny_gpt2(len(words)), words))
    with pytest.raises(ConfigError, match="has another vocabulary"):
        score_baseline(BASELINES["delta-loss"], context, Options(reference="there"))
