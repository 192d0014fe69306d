"""A causal language model as the passes see it: network, tokenizer, the parameters that carry gradients."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import nn

from prism.data import Encoder, Responses
from prism.errors import ConfigError
from prism.model.parameters import choose_parameters
from prism.model.places import Places
from prism.model.precision import narrowest, types_of

DEFAULT_MAX_LENGTH = 2048
BATCH_WIDE_ROTARY = {"longrope", "dynamic"}


@dataclass(repr=False)
class Model:
    """A causal LM in evaluation mode, its tokenizer, and the parameters that carry gradients.

    Nothing requires gradients outside the passes that ask for them. `notices` are things that the user should know,
    `options` those of `load_model` that another model like this one is loaded with.
    """

    network: Any
    tokenizer: Any
    which: str = "auto"
    notices: list[str] = field(default_factory=list)
    places: Places | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.network.eval().requires_grad_(False)
        self.parameters: dict[str, nn.Parameter] = choose_parameters(self.network, self.which)

    def __repr__(self) -> str:
        size = sum(p.numel() for p in self.parameters.values())
        return f"Model({type(self.network).__name__}, gradients in {size:,} weights, {self.kept} on {self.device})"

    @property
    def device(self) -> torch.device:
        return next(iter(self.parameters.values())).device

    @property
    def dtype(self) -> torch.dtype:
        """Of the first of the chosen parameters; the network may compute in another (`precision`)."""
        return next(iter(self.parameters.values())).dtype

    @cached_property
    def types(self) -> set[torch.dtype]:
        """All types that the network computes in."""
        return types_of(self.network)

    @property
    def precision(self) -> torch.dtype:
        """The narrowest of them, to which losses and gradients are right: it rounds what goes through the network,
        whatever a chosen parameter is kept in. PEFT keeps the LoRA of a bfloat16 model in float32."""
        return narrowest(self.types)

    @property
    def kept(self) -> str:
        """The types of parameters and computation, in words."""
        inside = "" if self.dtype == self.precision else f", in a network that computes in {self.precision},"
        return f"{self.dtype}{inside}"

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """Of what lies on disk, read on first use; empty for a network that was not loaded from there."""
        return self.places.fingerprints() if self.places else {}

    @cached_property
    def longest(self) -> int | None:
        """Positions that the model has, or None where it has no limit; see `positions`."""
        return positions(self.network.config)

    @cached_property
    def owners(self) -> list[tuple[nn.Module, str, str]]:
        """(module, its name for the parameter, the parameter's name in the network) of every use of a chosen one."""
        names = {id(p): name for name, p in self.parameters.items()}
        held = ((m, key, p) for m in self.network.modules() for key, p in m.named_parameters(recurse=False))
        return [(module, key, names[id(p)]) for module, key, p in held if id(p) in names]

    @contextlib.contextmanager
    def requiring_grad(self) -> Iterator[None]:
        """The chosen parameters require gradients inside, and nothing does outside."""
        for parameter in self.parameters.values():
            parameter.requires_grad_(True)
        try:
            yield
        finally:
            for parameter in self.parameters.values():
                parameter.requires_grad_(False)

    def encoder(self, *, max_length: int | None = None, responses: Responses = "last", plain: bool = False) -> Encoder:
        """The encoder for this model; `max_length` None is 2,048 tokens or the model's own limit, whichever is less.

        Raises:
            ConfigError: `max_length` is beyond what the model has positions for.
        """
        vocabulary = self.network.get_input_embeddings().weight.shape[0]
        return make_encoder(self.tokenizer, self.longest, vocabulary, max_length, responses, plain)


def positions(config: Any) -> int | None:
    """Positions that a model of this transformers config has, or None where it has no limit.

    With a rotary embedding that changes once a batch is longer than some length, that length: beyond it a sample's loss
    would depend on its neighbours.
    """
    config = config.get_text_config()
    rotary = getattr(config, "rope_parameters", None) or {}
    kinds = [rotary] if "rope_type" in rotary else [kind for kind in rotary.values() if isinstance(kind, dict)]
    limits = [k.get("original_max_position_embeddings") for k in kinds if k.get("rope_type") in BATCH_WIDE_ROTARY]
    limits.append(getattr(config, "max_position_embeddings", None))
    return min((limit for limit in limits if limit is not None), default=None)


def make_encoder(
    tokenizer: Any,
    longest: int | None,
    vocabulary: int | None,
    max_length: int | None,
    responses: Responses,
    plain: bool,
) -> Encoder:
    """Raises ConfigError where `max_length` is beyond the `longest` that the model has positions for."""
    if max_length is not None and longest is not None and max_length > longest:
        raise ConfigError(f"max_length {max_length} is beyond the model's {longest} positions")
    length = max_length or min(DEFAULT_MAX_LENGTH, longest or DEFAULT_MAX_LENGTH)
    return Encoder(tokenizer, max_length=length, responses=responses, plain=plain, vocabulary=vocabulary)
