"""Models whose matrices are kept in 8 or 4 bits: what their loading takes, and which weights carry no gradient."""

from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from prism.config import Quantize
from prism.errors import ConfigError, ModelError

NEEDED = ("bitsandbytes", "accelerate")


def loading_options(config: Any, quantize: Quantize | None, dtype: str, device: torch.device) -> dict[str, Any]:
    """What `from_pretrained` has to be told beyond the usual to keep a model in few bits; nothing where none is asked.

    Matrices are quantised by bitsandbytes (8 bits: LLM.int8, 4 bits: NF4) and multiply in `dtype`, for "auto" the
    checkpoint's. A checkpoint that is quantised already stays as it is.

    Raises:
        ConfigError: the options contradict each other, or there are no kernels for the device.
        ModelError: bitsandbytes is not installed.
    """
    stored = _method(config)
    if quantize and stored:
        raise ConfigError(f"the model is quantised already ({stored}): leave --quantize {quantize} out")
    if not quantize and not stored:
        return {}
    if dtype == "float64":
        raise ConfigError("quantised matrices multiply in float32 at most: choose another --dtype than float64")
    options = {"device_map": {"": str(device)}}
    if stored not in (None, "bitsandbytes"):  # others check what they need by themselves
        return options
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise ModelError(f"8-bit and 4-bit models need {' and '.join(missing)}: pip install 'prism-select[quantize]'")
    _require_kernels(device)
    return {**options, "quantization_config": _bitsandbytes(quantize, dtype, config)} if quantize else options


def _method(config: Any) -> str | None:
    """How a checkpoint is quantised already, by its config."""
    stored = getattr(config, "quantization_config", None)
    if stored is None:
        return None
    method = stored.get("quant_method") if isinstance(stored, dict) else getattr(stored, "quant_method", None)
    return str(getattr(method, "value", method) or "bitsandbytes")


def _require_kernels(device: torch.device) -> None:
    import bitsandbytes

    known = getattr(bitsandbytes, "supported_torch_devices", {"cuda"})
    if device.type not in known:
        raise ConfigError(
            f"bitsandbytes has no kernels for {device.type}: choose a --device of {', '.join(sorted(known))}"
        )


def _bitsandbytes(quantize: Quantize, dtype: str, config: Any) -> Any:
    from transformers import BitsAndBytesConfig

    if quantize == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    own = getattr(config, "dtype", None) or torch.float32
    inside = own if dtype == "auto" else getattr(torch, dtype)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=inside)


def keep_differentiable(network: Any) -> None:
    """On a CPU, bitsandbytes repacks 4-bit weights in evaluation mode, for a kernel without a backward pass."""
    for module in network.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def is_quantized(network: Any) -> bool:
    return getattr(network.config, "quantization_config", None) is not None


def is_packed(parameter: nn.Parameter) -> bool:
    """Whether a parameter holds packed integers or bytes, which carry no gradient."""
    return hasattr(parameter, "quant_state") or (parameter.dim() > 1 and parameter.element_size() == 1)


def size_of(parameter: nn.Parameter) -> int:
    """How many weights a parameter stands for: bytes of 4-bit ones hold two each."""
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else torch.Size(state.shape).numel()
