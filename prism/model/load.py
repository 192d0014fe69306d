"""Load a causal language model and its adapter from a folder or the hub."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from prism.config import Quantize
from prism.data import Encoder, Responses
from prism.errors import ConfigError, ModelError, first_line
from prism.model.causal import require_causal
from prism.model.parameters import choose_parameters, lora_names
from prism.model.places import Places, find_model, has_tokenizer
from prism.model.precision import DTYPES, narrowest, types_of
from prism.model.quantized import keep_differentiable, loading_options
from prism.model.quiet import quiet_transformers

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
