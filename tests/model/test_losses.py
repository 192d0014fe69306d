from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import Gemma2Config, Gemma2ForCausalLM

import prism.model.losses
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


@pytest.mark.parametrize("build", [lambda: tiny_llama(V), lambda: tiny_gpt2(V), gemma2])
def test_a_head_in_parts_gives_the_same_losses_and_gradients(
    build: Any, samples: list[Encoded], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = build().double().eval().requires_grad_(False)
    weight = next(p for n, p in network.named_parameters() if (p.dim() == 2 and "layers.1" in n) or "h.1.mlp" in n)
    weight.requires_grad_(True)
    batch, upstream = collate(samples), torch.arange(1.0, 9.0).double()

    def outcome() -> tuple[torch.Tensor, torch.Tensor]:
        losses = token_losses(network, batch)
        return losses.detach(), torch.autograd.grad((losses * upstream).sum(), weight)[0]

    whole, calls = outcome(), []
    network.get_output_embeddings().register_forward_hook(lambda _, __, output: calls.append(output.shape[1]))
    monkeypatch.setattr(prism.model.losses, "LOGITS", {"cpu": 4 * V})
    parted = outcome()
    assert calls == [2, 4, 2]  # no sample is cut in two, though the second alone fills a part
    torch.testing.assert_close(parted, whole, rtol=1e-12, atol=1e-14)
    with torch.no_grad():
        torch.testing.assert_close(token_losses(network, batch), whole[0])


def test_the_head_sees_response_tokens_only(samples: list[Encoded]) -> None:
    network = tiny_llama(V)
    batch: Batch = collate(samples)
    token_losses(network, batch)  # the first call also finds out how the head can be called
    rows: list[int] = []
    network.lm_head.register_forward_hook(lambda _, __, output: rows.append(output.shape[:-1].numel()))
    token_losses(network, batch)
    assert rows == [sum(s.response_tokens for s in samples)] == [8]


def test_half_precision_is_summed_in_float32(samples: list[Encoded]) -> None:
    assert token_losses(tiny_llama(V).to(torch.bfloat16), collate(samples)).dtype == torch.float32
