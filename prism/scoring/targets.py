"""Whose gradients a module's weight carries: its own, or those of LoRA factors that PEFT adds to it."""

from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from prism.model.parameters import peft_class


@dataclass(frozen=True)
class Factors:
    """A LoRA on a bare parameter W, which the model sees as W + scaling * B A, expert by expert.

    `a`, `b`: names of the factors A [experts * rank, in] and B [out, rank * experts], empty where one is not chosen.
    """

    a: str
    b: str
    weight_a: torch.Tensor
    weight_b: torch.Tensor
    scaling: float
    experts: int

    def __str__(self) -> str:
        return self.a or self.b

    def of(self, expert: int) -> tuple[torch.Tensor, torch.Tensor]:
        """A [rank, in] and B [out, rank] of one expert."""
        return self.part_a(self.weight_a, expert), self.part_b(self.weight_b, expert)

    def part_a(self, t: torch.Tensor, expert: int) -> torch.Tensor:
        return t.reshape(*t.shape[:-2], self.experts, -1, t.shape[-1])[..., expert, :, :]

    def part_b(self, t: torch.Tensor, expert: int) -> torch.Tensor:
        return t.reshape(*t.shape[:-1], -1, self.experts)[..., expert]


Target = str | Factors
Targets = dict[str, list[Target]]  # a module's own name for a parameter → whose gradients it carries


def first_of(targets: Targets) -> str:
    """A name to call them by."""
    return str(next(iter(targets.values()))[0])


def find_targets(network: nn.Module, chosen: Container[str]) -> dict[nn.Module, Targets]:
    """Modules that use chosen parameters; those of a list or dictionary are used by the module around it."""
    names = {id(p): n for n, p in network.named_parameters(remove_duplicate=False) if n in chosen}
    found: dict[nn.Module, Targets] = {}
    called_by_name = set()
    wrapper = peft_class("tuners.lora.layer", "ParamWrapper")
    for module in network.modules():
        if isinstance(module, wrapper):
            called_by_name |= {m for factor in (module.lora_A, module.lora_B) for m in factor.values()}
            for factors in _factors(module, names):
                own = found.setdefault(module.get_base_layer(), {})
                own.setdefault(module.parameter_name, []).append(factors)
    for module in network.modules():
        if module not in called_by_name and not isinstance(module, nn.ParameterDict | nn.ParameterList):
            for key, parameter in _own_parameters(module):
                if name := names.get(id(parameter)):
                    found.setdefault(module, {}).setdefault(key, []).append(name)
    return found


def _own_parameters(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    yield from module.named_parameters(recurse=False)
    for key, child in module.named_children():
        if isinstance(child, nn.ParameterDict | nn.ParameterList):
            yield from ((f"{key}.{name}", p) for name, p in child.named_parameters())


def _factors(wrapper: Any, names: dict[int, str]) -> Iterator[Factors]:
    for adapter in wrapper.active_adapters:
        if adapter in wrapper.lora_A:
            a, b = wrapper.lora_A[adapter].weight, wrapper.lora_B[adapter].weight
            if id(a) in names or id(b) in names:
                yield Factors(
                    names.get(id(a), ""), names.get(id(b), ""), a, b, wrapper.scaling[adapter], wrapper.num_experts
                )
