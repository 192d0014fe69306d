"""Load a causal language model and its adapter from a folder or the hub."""

from pathlib import Path
from typing import Any

import torch

from prism.config import Quantize
from prism.data import Encoder, Responses
from prism.errors import ConfigError, ModelError, first_line
from prism.model.causal import require_causal
from prism.model.model import Model, make_encoder, positions
from prism.model.parameters import lora_names
from prism.model.places import Places, find_model, has_tokenizer
from prism.model.precision import DTYPES
from prism.model.quantized import keep_differentiable, loading_options
from prism.model.quiet import quiet_transformers


def load_encoder(
    places: Places,
    *,
    max_length: int | None = None,
    responses: Responses = "last",
    plain: bool = False,
    trust_remote_code: bool = False,
) -> Encoder:
    """The encoder of a model's rows without the model: its config and tokenizer are read, its weights are not.

    Raises:
        ModelError: config or tokenizer can't be read.
        ConfigError: `max_length` is beyond what the model has positions for.
    """
    config = _check_config(places.model, trust_remote_code)
    words = _load_tokenizer(places.tokenizer, trust_remote_code)
    known = None if places.adapter else getattr(config.get_text_config(), "vocab_size", None)  # an adapter may add some
    return make_encoder(words, positions(config), known, max_length, responses, plain)


def load_model(
    model: str | Path,
    *,
    adapter: str | Path | None = None,
    tokenizer: str | Path | None = None,
    revision: str | None = None,
    parameters: str = "auto",
    device: str = "auto",
    dtype: str = "auto",
    quantize: Quantize | None = None,
    lora_rank: int = 16,
    lora_alpha: int | None = None,
    seed: int = 0,
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
) -> Model:
    """Load a causal LM, and a LoRA adapter on it if one is named, ready to be scored.

    Args:
        model: folder or hub id of any `AutoModelForCausalLM`.
        parameters: what carries gradients; see `choose_parameters`. `"lora"` without an adapter attaches a new one of
            rank `lora_rank` to all linear layers, seeded with `seed`; so does `"auto"` where the model is quantised.
        device: `"auto"` (CUDA, else MPS, else CPU) or a torch device.
        dtype: `"auto"` (the checkpoint's own), `"float32"`, `"bfloat16"`, `"float16"` or `"float64"`.
        quantize: keep the matrices in 8 or 4 bits, by bitsandbytes; gradients are then those of a LoRA.

    Raises:
        ModelError: something is missing, doesn't fit, or could only be loaded by running foreign code.
        ConfigError: an option is malformed.
    """
    places = find_model(model, adapter, tokenizer=tokenizer, revision=revision, allow_pickle=allow_pickle)
    target_device = choose_device(device)
    wanted = choose_dtype(dtype)
    few_bits = loading_options(_check_config(places.model, trust_remote_code), quantize, dtype, target_device)
    words = _load_tokenizer(places.tokenizer, trust_remote_code)  # before the weights, which take their time
    network, notices = _load_network(places.model, wanted, trust_remote_code, allow_pickle, few_bits)
    if places.adapter is not None:
        network = _load_adapter(network, places.adapter)
        if places.tokenizer == places.adapter:
            notices.append("the tokenizer and its chat template are the adapter's own")
    elif parameters == "lora" or (few_bits and parameters == "auto"):
        network = _attach_lora(network, lora_rank, lora_alpha, seed)
        notices.append(
            f"a new LoRA of rank {lora_rank} was attached (seed {seed}): its B is zero, so the gradient of every A "
            "vanishes and only the B factors are scored"
        )
    try:
        network = network if few_bits else network.to(target_device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device {device!r} can't hold the model: {first_line(error)}") from error
    options = {"quantize": quantize, "trust_remote_code": trust_remote_code, "allow_pickle": allow_pickle}
    loaded = Model(network, words, parameters, notices, places, options)
    require_causal(network, target_device, str(places.model))
    return loaded


def count_weights(folder: Path, trust_remote_code: bool = False) -> int:
    """Of a model as its config describes it; none of them is read. Raises ModelError where the config can't be used."""
    from transformers import AutoModelForCausalLM

    config = _check_config(folder, trust_remote_code)
    with torch.device("meta"), quiet_transformers():
        try:
            network = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
        except Exception as error:
            raise _not_loaded(folder, error) from error
    return sum(p.numel() for p in network.parameters())


def choose_device(device: str) -> torch.device:
    """Raises ConfigError where torch knows no such device, or it is not here."""
    if device == "auto":
        mps = torch.backends.mps.is_available()
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if mps else "cpu")
    try:
        chosen = torch.device(device)
        torch.ones(1, device=chosen).item()
    except Exception as error:  # each backend has a way of its own to be missing
        reason = first_line(error).partition(". ")[0]
        raise ConfigError(f"device {device!r} can't be used here: {reason}") from error
    return chosen


def choose_dtype(dtype: str) -> torch.dtype | str:
    if dtype != "auto" and dtype not in DTYPES:
        raise ConfigError(f"dtype {dtype!r} is unknown; known are auto, {', '.join(DTYPES)}")
    return DTYPES.get(dtype, "auto")


def _check_config(folder: Path, trust_remote_code: bool) -> Any:
    from transformers import AutoConfig

    with quiet_transformers():
        try:
            config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
        except Exception as error:
            raise _not_loaded(folder, error) from error
    if config.is_encoder_decoder:
        raise ModelError(
            f"the model {folder} is an encoder-decoder ({config.model_type}); only causal language models can be scored"
        )
    return config


def _not_loaded(folder: Path, error: Exception) -> ModelError:
    hint = "; pass --trust-remote-code if you trust it" if "trust_remote_code" in str(error) else ""
    return ModelError(f"the model {folder} can't be loaded: {first_line(error)}{hint}")


def _load_network(
    folder: Path,
    dtype: torch.dtype | str,
    trust_remote_code: bool,
    allow_pickle: bool,
    options: dict[str, Any],
) -> tuple[Any, list[str]]:
    """The network, and what the user should know about how it was loaded."""
    from transformers import AutoModelForCausalLM

    with quiet_transformers():
        try:
            network, info = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=dtype,
                trust_remote_code=trust_remote_code,
                use_safetensors=None if allow_pickle else True,
                ignore_mismatched_sizes=True,  # they are refused below, by name
                output_loading_info=True,
                **options,
            )
        except Exception as error:
            raise _not_loaded(folder, error) from error
    if wrong := sorted(info["mismatched_keys"]):
        name, stored, asked = wrong[0]
        raise ModelError(
            f"the model {folder} holds {len(wrong)} weights of another shape than its config asks for, such as "
            f"{name}: {tuple(stored)}, not {tuple(asked)}"
        )
    if missing := sorted(info["missing_keys"]):
        raise ModelError(
            f"the model {folder} lacks {len(missing)} weights that its config asks for, such as {missing[0]}"
        )
    notices = []
    if unused := sorted(info["unexpected_keys"]):
        notices.append(f"the model has no use for {len(unused)} of the stored weights, such as {unused[0]}")
    network.config.use_cache = False
    keep_differentiable(network)
    if dtype == torch.float64 and hasattr(network, "set_experts_implementation"):
        network.set_experts_implementation("eager")  # transformers' grouped matrix products know no float64
    return network, notices


def _load_tokenizer(folder: Path, trust_remote_code: bool) -> Any:
    from transformers import AutoTokenizer

    if not has_tokenizer(folder):
        raise ModelError(f"{folder} holds no tokenizer: name one with --tokenizer")
    with quiet_transformers():
        try:
            return AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
        except Exception as error:
            raise ModelError(f"the tokenizer in {folder} can't be loaded: {_detail(error)}") from error


def _load_adapter(network: Any, folder: Path) -> Any:
    from peft import PeftConfig, PeftModel, get_peft_model_state_dict
    from peft.utils import load_peft_weights

    with quiet_transformers():
        try:
            config = PeftConfig.from_pretrained(str(folder))
            kind = str(getattr(config.peft_type, "value", config.peft_type))
        except Exception as error:
            raise ModelError(f"the adapter {folder} can't be read: {first_line(error)}") from error
        if kind != "LORA":
            raise ModelError(f"the adapter {folder} is of type {kind}; only LoRA adapters can be scored")
        try:
            stored = load_peft_weights(str(folder), device="cpu")
        except Exception as error:
            raise ModelError(f"the adapter {folder} can't be read: {first_line(error)}") from error
        try:
            wrapped = PeftModel.from_pretrained(network, str(folder))
        except Exception as error:
            raise ModelError(f"the adapter {folder} does not fit the model: {_detail(error)}") from error
        held = get_peft_model_state_dict(wrapped)
    if odd := sorted(set(stored) ^ set(held)):
        where = "in the adapter but not in the model" if odd[0] in stored else "in the model but not in the adapter"
        raise ModelError(f"the adapter {folder} does not fit the model: {odd[0]} is {where} ({len(odd)} such weights)")
    if not lora_names(wrapped):
        raise ModelError(f"the adapter {folder} has no LoRA factors")
    return wrapped


def _attach_lora(network: Any, rank: int, alpha: int | None, seed: int) -> Any:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=rank, lora_alpha=alpha or 2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    with torch.random.fork_rng(devices=[]), quiet_transformers():
        torch.manual_seed(seed)
        try:
            return get_peft_model(network, config)
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"no LoRA can be attached to a {type(network).__name__}: {first_line(error)}") from error


def _detail(error: Exception) -> str:
    """What a library says first, together with the line below where that is but a heading."""
    lines = [line.strip() for line in str(error).strip().splitlines()]
    return " ".join(lines[:2]) if lines and lines[0].endswith(":") else first_line(error)
