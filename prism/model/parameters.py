"""Choose the parameters that carry gradients."""

import re
from typing import Any, Literal

from torch import nn

from prism.errors import ConfigError, ModelError

Groups = Literal["auto", "lora", "linear", "all"]
NOT_MATMUL = (nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def choose_parameters(network: nn.Module, which: str = "auto") -> dict[str, nn.Parameter]:
    """Name → parameter, in the network's own order.

    Args:
        which: `"lora"`: the factors of the active adapter; `"linear"`: every matrix-multiplication weight inside the
            decoder layers, experts and routers included, biases excluded; `"all"`: every floating-point parameter;
            `"auto"`: `lora` where there is an adapter, else `linear`; anything else is a regular expression that is
            searched in the parameter names.

    Raises:
        ConfigError: a malformed regular expression, or nothing matches.
        ModelError: `lora` without an adapter, no decoder layers are found, or what was chosen is not floating-point.
    """
    if which == "auto":
        which = "lora" if lora_names(network) else "linear"
    if which == "lora":
        names = lora_names(network)
        if not names:
            raise ModelError("parameters 'lora': the model has no LoRA adapter")
    elif which == "linear":
        names = linear_names(network)
    elif which == "all":
        names = {name for name, _ in network.named_parameters()}
    else:
        names = _matching_names(network, which)
    chosen = {name: p for name, p in network.named_parameters() if name in names and p.is_floating_point()}
    if not chosen:
        raise ModelError(f"parameters {which!r}: none is in floating point, so none can carry a gradient")
    return chosen


def lora_names(network: nn.Module) -> set[str]:
    """Names of the factors (and DoRA magnitudes) of the active LoRA adapters."""
    from peft.tuners.lora import LoraLayer

    found: set[str] = set()
    for prefix, module in network.named_modules():
        if isinstance(module, LoraLayer):
            for kind in module.adapter_layer_names:
                for adapter in module.active_adapters:
                    held = getattr(module, kind)
                    if adapter in held:
                        part = held[adapter]
                        inner = (
                            [""] if isinstance(part, nn.Parameter) else [f".{n}" for n, _ in part.named_parameters()]
                        )
                        found |= {f"{prefix}.{kind}.{adapter}{name}" for name in inner}
    return found


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
    return parameter.dim() >= 3 and not name.endswith("bias")


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
