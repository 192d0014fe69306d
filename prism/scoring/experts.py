"""The experts of a mixture, fused by transformers into one parameter per projection.

While they are tapped, their forward pass is this one: that of transformers' experts interface, with the tokens in order
of expert and sample, so that each expert's inputs and output gradients are known by sample.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import nn

from prism.scoring.ledger import Ledger
from prism.scoring.rows import Rows, Uneven, Untappable
from prism.scoring.targets import Targets, first_of
from prism.scoring.uses import replaced_forward

LAYOUT = ("has_gate", "has_bias", "is_transposed", "has_post_expert_norm", "_apply_gate")
PROJECTIONS = {"gate_up_proj", "up_proj", "down_proj", "gate_up_proj_bias", "up_proj_bias", "down_proj_bias"}


def is_experts(module: nn.Module, held: Targets) -> bool:
    """Whether transformers would let these experts be run by any implementation, ours included."""
    return all(hasattr(module, name) for name in LAYOUT) and set(held) <= PROJECTIONS


@contextmanager
def tapped_experts(module: Any, held: Targets, ledger: Ledger) -> Iterator[None]:
    if getattr(module, "_is_expert_parallel", False):
        raise Untappable(f"{first_of(held)}: experts that are spread over devices")

    def forward(hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor) -> torch.Tensor:
        routed = _Routed(module, held, ledger, top_k_index)
        width = top_k_index.shape[-1]
        x = routed.project("gate_up_proj" if module.has_gate else "up_proj", hidden_states[routed.order // width])
        x = module._apply_gate(x) if module.has_gate else module.act_fn(x)
        x = routed.project("down_proj", x)
        if module.has_post_expert_norm:
            x = module.post_expert_norm(x)
        x = x * top_k_weights.reshape(-1)[routed.order, None]
        x = x[routed.order.argsort()].view(*top_k_index.shape, -1).sum(1)
        return x.to(hidden_states.dtype)

    with replaced_forward(module, forward):
        yield


class _Routed:
    """Tokens on their way through the experts of one module, S = tokens * top_k of them, in order of expert."""

    def __init__(self, module: Any, held: Targets, ledger: Ledger, index: torch.Tensor) -> None:
        self._module, self._held, self._ledger = module, held, ledger
        experts = index.reshape(-1)
        self.order = experts.argsort(stable=True)
        self._owner = self.order // (index.shape[-1] * ledger.batch.ids.shape[1])
        self._counts = torch.bincount(experts, minlength=module.num_experts).tolist()
        if len(index) != ledger.batch.ids.numel():
            raise Untappable(f"{first_of(held)}: {len(index)} tokens can't be told apart by sample")

    @cached_property
    def _spans(self) -> list[tuple[int, slice, Rows]]:
        """(expert, its tokens, whose they are) where an expert was chosen at all."""
        spans: list[tuple[int, slice, Rows]] = []
        stop = 0
        for expert, count in enumerate(self._counts):
            start, stop = stop, stop + count
            if count:
                spans.append((expert, slice(start, stop), Uneven(self._owner[start:stop])))
        return spans

    def project(self, key: str, x: torch.Tensor) -> torch.Tensor:
        """x [S, in] by each token's own expert: [S, out]."""
        module, bias = self._module, f"{key}_bias"
        weights = getattr(module, key) if module.is_transposed else getattr(module, key).mT
        outputs = []
        for expert, part in enumerate(torch.split(x, self._counts)):
            if len(part):
                product = part @ weights[expert]
                outputs.append(product + getattr(module, bias)[expert] if module.has_bias else product)
        output, x = torch.cat(outputs), x.detach()
        chosen, added = self._held.get(key, ()), self._held.get(bias, ())
        if not chosen and not added:
            return output

        def arrived(d: torch.Tensor) -> None:
            for expert, span, rows in self._spans:
                for target in chosen:
                    self._ledger.linear(target, rows, x[span], d[span], transposed=module.is_transposed, expert=expert)
                for target in added:
                    self._ledger.elementwise(target, rows, d.new_ones(()), d[span], expert=expert)

        return self._ledger.follow(output, arrived)
