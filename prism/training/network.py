"""A model made ready to be trained: a LoRA on all linear layers, or all of its weights."""

from dataclasses import dataclass
from typing import Any

import torch

from prism.errors import ConfigError, ModelError, first_line
from prism.model import Model, find_model, load_model
from prism.model.load import choose_device, count_weights
from prism.model.quantized import is_quantized, size_of
from prism.model.quiet import quiet_transformers
from prism.training.config import TrainConfig
from prism.training.sizes import Defaults, defaults_for


@dataclass(frozen=True)
class Ready:
    """A model whose chosen parameters are those to train, in float32, and what it computes in."""

    model: Model
    full: bool
    parameters: int
    defaults: Defaults
    bf16: bool


def make_ready(config: TrainConfig) -> Ready:
    """Load the model of a config and choose what trains.

    Weights that train are kept in float32 whatever the model computes in; those that are frozen in what it computes in.

    Raises:
        ModelError: the model or adapter can't be loaded, or no LoRA can be attached.
        ConfigError: options contradict each other or the machine.
    """
    assert config.model is not None
    bf16 = _bf16(config)
    if config.full and config.quantize is not None:
        raise ConfigError("--full trains all weights, and --quantize leaves none that can be trained: choose one")
    whole = config.full or (config.full is None and _bare(config))
    model = _load(config, "float32" if whole or not bf16 else "bfloat16")
    parameters = sum(size_of(p) for name, p in model.network.named_parameters() if ".lora_" not in name)
    defaults = defaults_for(parameters)
    full = config.full if config.full is not None else whole and defaults.full
    if full:
        if config.lora_rank is not None or config.lora_alpha is not None or config.lora_dropout:
            raise ConfigError("--full trains all weights: --lora-rank, --lora-alpha and --lora-dropout are for a LoRA")
        if is_quantized(model.network):
            raise ConfigError("the model is quantised, so its weights can't be trained: train a LoRA (--no-full)")
        if config.adapter is not None:
            model = Model(model.network.merge_and_unload(), model.tokenizer, "all", model.notices, model.places)
    elif config.adapter is not None:
        if config.lora_rank is not None or config.lora_alpha is not None:
            raise ConfigError(
                "--lora-rank and --lora-alpha are for a new LoRA, and the model has an adapter to go on with: "
                "leave them out, or merge the adapter with --full"
            )
        model = Model(model.network, model.tokenizer, "lora", model.notices, model.places)
    else:
        if bf16 and not is_quantized(model.network):
            model.network.to(torch.bfloat16)
        model = Model(_with_lora(model.network, config, defaults), model.tokenizer, "lora", model.notices, model.places)
    for parameter in model.parameters.values():
        parameter.data = parameter.data.float()
    return Ready(model, full, parameters, defaults, bf16)


def trains_whole(config: TrainConfig) -> bool:
    """Whether all weights would train, as `make_ready` chooses it; the model's weights are not read.

    Raises:
        ModelError: there is no such model.
    """
    assert config.model is not None
    if config.full is not None:
        return config.full
    if not _bare(config):
        return False
    places = find_model(
        config.model, tokenizer=config.tokenizer, revision=config.revision, allow_pickle=bool(config.allow_pickle)
    )
    return defaults_for(count_weights(places.model, bool(config.trust_remote_code))).full


def _bare(config: TrainConfig) -> bool:
    """Whether nothing is given that would make it a LoRA."""
    return config.adapter is None and config.lora_rank is None and config.quantize is None


def _load(config: TrainConfig, dtype: str) -> Model:
    assert config.model is not None
    return load_model(
        config.model,
        adapter=config.adapter,
        tokenizer=config.tokenizer,
        revision=config.revision,
        parameters="unpacked",
        device=config.device,
        dtype=dtype,
        quantize=config.quantize,
        trust_remote_code=bool(config.trust_remote_code),
        allow_pickle=bool(config.allow_pickle),
    )


def _bf16(config: TrainConfig) -> bool:
    """Whether to compute in bfloat16; raises ConfigError where the device can't train at all, or not in that."""
    device = choose_device(config.device)
    if device.index:
        raise ConfigError(
            f"--device {config.device}: trainers use the first GPU; choose by CUDA_VISIBLE_DEVICES instead"
        )
    able = device.type == "cpu" or (device.type == "cuda" and torch.cuda.is_bf16_supported())
    if config.dtype == "bfloat16" and not able:
        raise ConfigError(f"--dtype bfloat16: the device {device} doesn't know it; leave it at auto")
    return config.dtype == "bfloat16" or (config.dtype == "auto" and able and device.type == "cuda")


def _with_lora(network: Any, config: TrainConfig, defaults: Defaults) -> Any:
    from peft import LoraConfig, get_peft_model

    rank = config.lora_rank or defaults.rank
    lora = LoraConfig(
        r=rank,
        lora_alpha=config.lora_alpha or 2 * rank,
        lora_dropout=config.lora_dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]), quiet_transformers():
        torch.manual_seed(config.seed)
        try:
            return get_peft_model(network, lora)
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"no LoRA can be attached to a {type(network).__name__}: {first_line(error)}") from error
