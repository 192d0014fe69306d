"""Refuse models that see later tokens: their losses are not those of a causal language model."""

from typing import Any

import torch

from prism.errors import ModelError, first_line


def require_causal(network: Any, device: torch.device, name: str) -> None:
    """Check that the first token's logits do not depend on later tokens, by their gradient: it is zero if causal.

    Raises:
        ModelError: they do, as in an encoder such as BERT, or the model can't be run on token ids alone.
    """
    ids = torch.arange(4, device=device).remainder(network.get_input_embeddings().weight.shape[0])[None]
    seen: list[torch.Tensor] = []

    def watch(_: Any, __: Any, output: torch.Tensor) -> torch.Tensor:
        seen.append(output.detach().requires_grad_())
        return seen[-1].clone()

    handle = network.get_input_embeddings().register_forward_hook(watch)
    try:
        with torch.enable_grad():
            logits = network(input_ids=ids, use_cache=False).logits
            (gradient,) = torch.autograd.grad(logits[0, 0].float().square().sum(), seen[:1])
    except Exception as error:
        raise ModelError(f"the model {name} can't be run on a line of token ids: {first_line(error)}") from error
    finally:
        handle.remove()
    own, *later = gradient[0].float().norm(dim=-1).tolist()
    if max(later) > 1e-6 * own:  # false where weights are NaN: scoring tells of those
        raise ModelError(
            f"the model {name} ({type(network).__name__}) is no causal language model: its tokens see later ones"
        )
