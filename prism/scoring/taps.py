"""Taps turn one forward and backward pass into per-sample scores, layer by layer.

A tap sits on a module that owns chosen parameters. It sees the module's inputs in the forward pass and its output's
gradient in the backward pass, and adds the products of the two to the scores at once: no weight gradient is ever
formed by autograd, and the graph begins at the lowest tapped module.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from prism.data import Batch
from prism.scoring.experts import is_experts, tapped_experts
from prism.scoring.hooks import hooked, is_linear_in
from prism.scoring.ledger import Ledger
from prism.scoring.rows import Untappable
from prism.scoring.targets import Targets, find_targets
from prism.scoring.uses import watched

__all__ = ["Taps", "Untappable"]


class Taps:
    """Taps on every module that owns one of `directions`' parameters.

    Args:
        directions: parameter name → [K, *shape], in the model's dtype.
        norms: also squared gradient norms.
        ledger: makes what output gradients are brought to, from the arguments of `Ledger`.

    Raises:
        Untappable: at construction, or in a pass, where a parameter is used in an unknown way.
    """

    def __init__(
        self,
        network: Any,
        directions: Mapping[str, torch.Tensor],
        norms: bool,
        ledger: Callable[..., Ledger] = Ledger,
    ) -> None:
        self.norms = norms
        self._make = ledger
        self._directions = directions
        self._outside = modules_outside(network)
        self._targets = find_targets(network, directions)
        self._tied = self._known_ties() if norms and ledger is Ledger else set()
        self._ledger: Ledger | None = None

    @contextmanager
    def watch(self, batch: Batch) -> Iterator[Ledger]:
        """Taps in place, and what they tell; run one forward and backward pass of the summed loss inside."""
        ledger = self._ledger = self._make(batch, self._directions, self.norms, self._outside, self._tied)
        with ExitStack() as stack:
            for module, held in self._targets.items():
                stack.enter_context(_tap(module, held, ledger))
            yield ledger
        ledger.close()

    def scores(self) -> dict[str, torch.Tensor]:
        """Parameter name → [B, K], of the last pass; without parameters that no loss depended on."""
        assert self._ledger is not None
        return self._ledger.scores

    def squares(self) -> dict[str, torch.Tensor]:
        """Parameter name → squared gradient norms [B], of the last pass."""
        assert self._ledger is not None
        return self._ledger.squares

    def shared(self) -> dict[str, list[nn.Module]]:
        """Names of parameters that several modules use, with these modules."""
        owners: dict[str, list[nn.Module]] = {}
        for module, held in self._targets.items():
            for target in itertools.chain.from_iterable(held.values()):
                owners.setdefault(str(target), []).append(module)
        return {name: modules for name, modules in owners.items() if len(modules) > 1}

    def _known_ties(self) -> set[str]:
        """Names of parameters that are both the embedding and the output head; other sharing is refused."""
        shared = self.shared()
        for name, modules in shared.items():
            looked_up = [m for m in modules if isinstance(m, nn.Embedding)]
            if len(modules) != 2 or len(looked_up) != 1 or not set(modules) & self._outside:
                raise Untappable(f"{name} is shared by {len(modules)} modules, whose gradient norm is not known")
        return set(shared)


def _tap(module: nn.Module, held: Targets, ledger: Ledger) -> AbstractContextManager[Any]:
    if is_experts(module, held):
        return tapped_experts(module, held, ledger)
    if is_linear_in(module, held):
        return hooked(module, held, ledger)
    return watched(module, held, ledger)


def modules_outside(network: Any) -> set[nn.Module]:
    """Modules that run after the decoder: the output head, and what a family has beside it."""
    core = network.get_base_model() if hasattr(network, "get_base_model") else network
    decoder = getattr(core, "base_model", core)
    if decoder is core:
        head = core.get_output_embeddings()
        return set(head.modules()) if isinstance(head, nn.Module) else set()
    return set(core.modules()) - set(decoder.modules())
