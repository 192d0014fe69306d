"""A causal LM in two parts: the decoder, and all that turns its hidden states into logits."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from inspect import signature
from typing import Any
from weakref import WeakKeyDictionary

import torch

from prism.errors import ModelError
from prism.model.parameters import decoder_layers

_KNOWN: "WeakKeyDictionary[Any, Head | None]" = WeakKeyDictionary()


class Head:
    """The output head with what a family does around it (soft caps, scalings), to be run on any hidden states.

    The family's own code computes the logits: its forward pass runs with the decoder's replaced by one that hands over
    given hidden states.
    """

    def __init__(self, core: Any, decoder: Any, output: type) -> None:
        self._core, self._decoder, self._output = core, decoder, output
        self.vocabulary = int(core.get_output_embeddings().weight.shape[0])

    def hidden_states(self, ids: torch.Tensor) -> torch.Tensor:
        """The decoder's last hidden states [B, T, H]."""
        states: torch.Tensor = self._decoder(input_ids=ids, use_cache=False).last_hidden_state
        return states

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits [N, vocabulary] of hidden states [N, H]."""
        with self._decoder_gives(hidden[None]):
            logits: torch.Tensor = self._core(input_ids=self._ids(hidden), use_cache=False).logits
        return logits.flatten(0, 1)

    def requires_grad(self) -> bool:
        return any(p.requires_grad for p in self._core.get_output_embeddings().parameters())

    def _ids(self, hidden: torch.Tensor) -> torch.Tensor:
        return torch.zeros((1, len(hidden)), dtype=torch.int64, device=hidden.device)

    @contextmanager
    def _decoder_gives(self, states: torch.Tensor) -> Iterator[None]:
        own = vars(self._decoder).get("forward")
        self._decoder.forward = lambda *_, **__: self._output(last_hidden_state=states)
        try:
            yield
        finally:
            del self._decoder.forward
            if own is not None:
                self._decoder.forward = own


def head_of(network: Any) -> Head | None:
    """The head of a network; None where its logits are not those of its decoder's hidden states, token by token."""
    if network not in _KNOWN:
        _KNOWN[network] = _found(network)
    return _KNOWN[network]


def _found(network: Any) -> Head | None:
    core = network.get_base_model() if hasattr(network, "get_base_model") else network
    if core.get_output_embeddings() is None:
        return None
    return next((head for decoder in _decoders(core) if (head := _proven(network, core, decoder))), None)


def _decoders(core: Any) -> Iterator[Any]:
    """What may be the decoder that `core` runs: what transformers calls its base model, or what holds the layers."""
    found = [getattr(core, "base_model", core)]
    with suppress(ModelError):
        layers, _, _ = decoder_layers(core)[0].rpartition(".")
        found.append(core.get_submodule(layers.rpartition(".")[0]))
    for decoder in dict.fromkeys(found):
        if decoder is not core and "input_ids" in signature(decoder.forward).parameters:
            yield decoder


def _proven(network: Any, core: Any, decoder: Any) -> Head | None:
    """The head, if the network's logits of a few tokens come out of it when they are given one part after another."""
    device, vocabulary = next(network.parameters()).device, core.get_input_embeddings().weight.shape[0]
    ids = torch.arange(1, 5, device=device)[None] % vocabulary  # without 0: a padding token's states may be zero
    with torch.no_grad():
        output = decoder(input_ids=ids, use_cache=False)
        if not isinstance(getattr(output, "last_hidden_state", None), torch.Tensor):
            return None
        head = Head(core, decoder, type(output))
        whole = network(input_ids=ids, use_cache=False).logits[0]
        parts = torch.cat([head.logits(output.last_hidden_state[0, part]) for part in (slice(0, 1), slice(1, 4))])
    tolerance = min(1e3 * torch.finfo(whole.dtype).eps, 2e-2) * float(whole.nan_to_num().abs().max())
    close = whole.shape == parts.shape and torch.allclose(whole, parts, rtol=0, atol=tolerance, equal_nan=True)
    return head if close else None
