"""The output head alone, against the whole network's logits."""

from typing import Any

import pytest
import torch
from torch import nn

from prism.data import collate
from prism.model import Model, token_losses
from prism.model.head import head_of
from tests import oracle
from tests.conftest import tiny_llama
from tests.scoring.exactness import encoded
from tests.scoring.test_families import FAMILIES, build, with_lora


@pytest.mark.parametrize("name", [*FAMILIES, *(f"{name} with a LoRA" for name in ("llama", "gpt2", "gemma2", "opt"))])
def test_its_logits_are_those_of_the_network(name: str, tokenizer: Any) -> None:
    family, _, adapter = name.partition(" ")
    network = build(FAMILIES[family], len(tokenizer)).eval()
    network = with_lora(network) if adapter else network
    ids = torch.arange(20, 32)[None]
    with torch.no_grad():
        logits = network(input_ids=ids, use_cache=False).logits[0]
        head = head_of(network)
        assert head is not None and head.vocabulary == logits.shape[-1]
        hidden = head.hidden_states(ids)[0]
        for part in (slice(0, 1), slice(3, 9), slice(None)):
            torch.testing.assert_close(head.logits(hidden[part]), logits[part], rtol=1e-6, atol=1e-6)


class Mixing(nn.Linear):
    """A head whose logits depend on other tokens."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x + x.cumsum(1))


class Noisy(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + torch.arange(x.shape[1])[None, :, None]  # its place in what the head is given


@pytest.mark.parametrize("kind", [Mixing, Noisy])
def test_a_head_that_looks_around_is_run_on_all_tokens(kind: type[nn.Linear], tokenizer: Any) -> None:
    network = tiny_llama(len(tokenizer)).double()
    head = kind(network.config.hidden_size, len(tokenizer), bias=False).double()
    head.load_state_dict(network.lm_head.state_dict())
    network.lm_head = head
    model = Model(network, tokenizer, "linear")
    assert head_of(network) is None
    sample = encoded(model)[1]
    torch.testing.assert_close(token_losses(network, collate([sample])), oracle.token_losses(network, sample))


def test_a_network_is_left_as_it_was(tokenizer: Any) -> None:
    network = tiny_llama(len(tokenizer)).eval()
    head = head_of(network)
    assert head is not None
    network.lm_head.register_forward_hook(lambda *_: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        head.logits(torch.zeros(3, network.config.hidden_size))
    assert not any("forward" in vars(module) for module in network.modules())
