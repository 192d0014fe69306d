"""Choose the parameters that carry gradients."""

import re
import sys
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any, Literal

from torch import nn

from prism.errors import ConfigError, ModelError
from prism.model.quantized import is_packed

Groups = Literal["auto", "lora", "linear", "all", "unpacked"]
NOT_MATMUL = (nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def choose_parameters(network: nn.Module, which: str = "auto") -> dict[str, nn.Parameter]:
    """Name → parameter, in the network's own order.

    Args:
        which: `"lora"`: all that the active adapters train, `modules_to_save` and biases included; `"linear"`: every
            matrix-multiplication weight inside the decoder layers, experts and routers included, biases excluded;
            `"all"`: every floating-point parameter; `"unpacked"`: the same, of a quantised model too, whose packed ones
            are left out; `"auto"`: `lora` where there is an adapter, else `linear`; anything
            else is a regular expression that is searched in the parameter names.

    Raises:
        ConfigError: a malformed regular expression, or nothing matches.
        ModelError: `lora` without an adapter or with one that is switched off or merged, no decoder layers are found,
            or what was chosen is quantised or not floating-point.
    """
    if which == "auto":
        which = "lora" if lora_names(network) else "linear"
    if which == "lora":
        names = adapter_names(network)
    elif which == "linear":
        names = linear_names(network)
    elif which in ("all", "unpacked"):
        names = {name for name, p in network.named_parameters() if which == "all" or not is_packed(p)}
    else:
        names = _matching_names(network, which)
    if packed := [f"{n} ({p.dtype})" for n, p in network.named_parameters() if n in names and is_packed(p)]:
        raise ModelError(
            f"parameters {which!r}: {packed[0]} is quantised, and what is packed into few bits carries no gradient: "
            "score a LoRA on it (--adapter, or --parameters lora)"
        )
    chosen = {name: p for name, p in network.named_parameters() if name in names and p.is_floating_point()}
    if not chosen:
        raise ModelError(f"parameters {which!r}: none is in floating point, so none can carry a gradient")
    return chosen


def adapter_names(network: Any) -> set[str]:
    """Names of all that the active adapters train: LoRA factors, saved modules, new tokens, biases.

    Raises:
        ModelError: there is no LoRA adapter, none is active, or one is merged into the weights.
    """
    kind = peft_class("tuners.lora.layer", "LoraLayer")
    layers = {n: m for n, m in network.named_modules() if isinstance(m, kind)}
    if not layers:
        raise ModelError("parameters 'lora': the model has no LoRA adapter")
    if idle := next((f"{n} is {s}" for n, m in layers.items() if (s := _idle(m))), None):
        raise ModelError(f"parameters 'lora': the adapter has no gradients, since its layer {idle}")
    names = lora_names(network)
    if not names:
        raise ModelError("parameters 'lora': no adapter is active (model.set_adapter)")
    return names | _saved_names(network) | _bias_names(network, layers)


def _idle(layer: Any) -> str:
    return "merged" if layer.merged else "disabled" if layer.disable_adapters else ""


def lora_names(network: nn.Module) -> set[str]:
    """Names of the factors (and DoRA magnitudes) of the active LoRA adapters."""
    found: set[str] = set()
    lora = peft_class("tuners.lora.layer", "LoraLayer")
    for prefix, module in network.named_modules():
        if isinstance(module, lora):
            for kind in module.adapter_layer_names:
                found |= _held_names(prefix, kind, getattr(module, kind), module.active_adapters)
    return found


def peft_class(place: str, name: str) -> Any:
    """A class of PEFT's for `isinstance`, or (), of which nothing is one, where PEFT was not imported: its import takes
    seconds, and without it no network holds any of its modules."""
    return getattr(import_module(f"peft.{place}"), name) if "peft" in sys.modules else ()


def _saved_names(network: nn.Module) -> set[str]:
    """Names of what the active adapters train beside factors: modules of their own, rows of an embedding."""
    from peft.tuners.trainable_tokens import TrainableTokensLayer
    from peft.utils.other import ModulesToSaveWrapper

    found: set[str] = set()
    for prefix, module in network.named_modules():
        if isinstance(module, ModulesToSaveWrapper):
            found |= _held_names(prefix, "modules_to_save", module.modules_to_save, module.active_adapters)
        elif isinstance(module, TrainableTokensLayer):
            deltas = module.trainable_tokens_delta
            found |= _held_names(prefix, "trainable_tokens_delta", deltas, module.active_adapters)
    return found


def _held_names(prefix: str, kind: str, held: Any, adapters: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for adapter in adapters:
        if adapter in held:
            part = held[adapter]
            inner = [""] if isinstance(part, nn.Parameter) else [f".{n}" for n, _ in part.named_parameters()]
            found |= {f"{prefix}.{kind}.{adapter}{name}" for name in inner}
    return found


def _bias_names(network: Any, layers: Mapping[str, Any]) -> set[str]:
    """Names of the model's own biases that the active adapters train: all of them, or those of layers with a LoRA."""
    configs = getattr(network, "peft_config", {})
    active = {adapter for layer in layers.values() for adapter in layer.active_adapters}
    wanted = {configs[adapter].bias for adapter in active if adapter in configs}
    if not wanted & {"all", "lora_only"}:
        return set()
    own = {n for n, _ in network.named_parameters() if n.rpartition(".")[2] == "bias" and "lora_" not in n}
    return own if "all" in wanted else {n for n in own if n.removesuffix(".base_layer.bias") in layers}


def linear_names(network: nn.Module) -> set[str]:
    """Names of the matrix-multiplication weights inside the decoder layers, LoRA factors excluded."""
    layers = decoder_layers(network)
    lora = lora_names(network)
    names = set()
    for prefix, module in network.named_modules():
        inside = any(prefix == layer or prefix.startswith(f"{layer}.") for layer in layers)
        if inside and not isinstance(module, NOT_MATMUL) and "norm" not in type(module).__name__.lower():
            held = module.named_parameters(recurse=False)
            names |= {f"{prefix}.{n}" for n, p in held if (p.dim() == 2 and n == "weight") or _packed(n, p)}
    return names - lora


def _packed(name: str, parameter: nn.Parameter) -> bool:
    """Experts' weights, fused into one parameter: [experts, in, out]."""
    return parameter.dim() >= 3 and min(parameter.shape[1:]) > 1 and not name.endswith("bias")


def decoder_layers(network: Any) -> list[str]:
    """Names of the decoder's layers: the outermost module list as long as the config says that the decoder is deep.

    Raises:
        ModelError: there is no such list.
    """
    config = network.config
    depth = getattr(
        config.get_text_config() if hasattr(config, "get_text_config") else config, "num_hidden_layers", None
    )
    for name, module in network.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            return [f"{name}.{i}" for i in range(len(module))]
    raise ModelError(
        f"no list of {depth} decoder layers was found in a {type(network).__name__}: "
        "give --parameters as a regular expression on parameter names"
    )


def _matching_names(network: nn.Module, pattern: str) -> set[str]:
    try:
        regex = re.compile(pattern)
    except re.error as error:
        raise ConfigError(
            f"parameters {pattern!r} is not lora, linear, all or a regular expression: {error}"
        ) from error
    names = [name for name, _ in network.named_parameters()]
    found = {name for name in names if regex.search(name)}
    if not found:
        raise ConfigError(
            f"parameters {pattern!r} matches no parameter name; "
            f"names look like {names[0]}, {names[len(names) // 2]}, {names[-1]}"
        )
    return found
