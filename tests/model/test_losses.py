from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import Gemma2Config, Gemma2ForCausalLM

from prism.data import Batch, Encoded, collate
from prism.model import sample_losses, token_losses
from tests.conftest import tiny_gpt2, tiny_llama

V = 64


def gemma2() -> Any:
    """Caps its logits after the head."""
    torch.manual_seed(3)
    sizes = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "head_dim": 6}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "final_logit_softcapping": 0.1}
    return Gemma2ForCausalLM(Gemma2Config(vocab_size=V, **sizes, **heads))


@pytest.fixture
def samples() -> list[Encoded]:
    generator = np.random.default_rng(0)
    masks = [[0, 0, 1, 1], [0, 1, 0, 0, 1, 1, 1], [0, 1], [0, 0, 0, 0, 1]]
    return [Encoded(generator.integers(3, V, len(m)), np.array(m, dtype=bool)) for m in masks]


@pytest.mark.parametrize("build", [lambda: tiny_llama(V), lambda: tiny_gpt2(V), gemma2])
def test_they_are_those_of_the_full_logits(build: Any, samples: list[Encoded]) -> None:
    network = build().double().eval()
    batch = collate(samples)
    expected, sums = [], []
    for sample in samples:
        logits = network(input_ids=torch.from_numpy(sample.ids)[None]).logits[0]
        losses = F.cross_entropy(logits[:-1], torch.from_numpy(sample.ids)[1:], reduction="none")
        mine = losses[torch.from_numpy(sample.response)[1:]]
        expected.append(mine)
        sums.append(mine.sum())
    found = token_losses(network, batch)
    torch.testing.assert_close(found, torch.cat(expected))
    torch.testing.assert_close(sample_losses(found, batch), torch.stack(sums))


def test_the_head_sees_response_tokens_only(samples: list[Encoded]) -> None:
    network = tiny_llama(V)
    rows: list[int] = []
    network.lm_head.register_forward_hook(lambda _, __, output: rows.append(output.shape[:-1].numel()))
    batch: Batch = collate(samples)
    token_losses(network, batch)
    assert rows == [sum(s.response_tokens for s in samples)] == [8]


def test_half_precision_is_summed_in_float32(samples: list[Encoded]) -> None:
    assert token_losses(tiny_llama(V).to(torch.bfloat16), collate(samples)).dtype == torch.float32
