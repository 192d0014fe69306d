"""TRL's SFTTrainer on scoring's own tokens: each of its defaults that would change them, or the numbers, is set."""

import dataclasses
import difflib
import math
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import TypeAdapter, ValidationError

from prism.data import Encoded
from prism.errors import ConfigError, first_line
from prism.model import Model
from prism.model.memory import out_of_memory
from prism.model.quiet import quiet_transformers
from prism.training.cpu import on_cpu

IGNORED = -100  # the label of a token that carries no loss
SCHEMA = pa.schema([("input_ids", pa.list_(pa.int32())), ("labels", pa.list_(pa.int32()))])
TOGETHER = 1000  # rows written at once

OURS = {
    "output_dir": "--out",
    "num_train_epochs": "--epochs",
    "learning_rate": "--learning-rate",
    "per_device_train_batch_size": "--device-batch",
    "gradient_accumulation_steps": "--batch",
    "seed": "--seed",
    "data_seed": "--seed",
    "bf16": "--dtype",
    "fp16": "--dtype",
    "use_cpu": "--device",
    "max_length": "--max-length",
    "resume_from_checkpoint": "the same command again",
    "auto_find_batch_size": "--device-batch (it halves by itself where memory runs out)",
}
WATCHED = (
    "logging_strategy", "logging_first_step", "logging_nan_inf_filter", "include_num_input_tokens_seen", "disable_tqdm",
)  # fmt: skip
SCORINGS = (
    "packing", "packing_strategy", "padding_free", "eval_packing", "completion_only_loss", "assistant_only_loss",
    "dataset_kwargs", "dataset_text_field", "chat_template_path", "eos_token", "pad_token", "truncation_mode",
    "model_init_kwargs", "shuffle_dataset", "remove_unused_columns",
)  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """How to train. Batches are in samples; `warmup` is a share of the steps, rounded down (a first
    step at rate 0 would be all that a training of one step has); `more` is TRL's own, by its own names."""

    epochs: float
    learning_rate: float
    batch: int
    device_batch: int
    seed: int = 0
    warmup: float = 0.1
    scheduler: str = "cosine"
    bf16: bool = False
    recompute: bool = False
    saves: int | typing.Literal["epoch"] = 0  # checkpoints over the training, one per epoch, or none
    more: Mapping[str, Any] = field(default_factory=dict)


def write_tokens(samples: Iterable[Encoded], path: Path) -> None:
    """The training set as an Arrow file of `input_ids` and `labels`: a sample's ids, and -100 wherever scoring has no
    loss. One batch of rows is in memory at a time."""
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, SCHEMA) as writer:
        waiting: list[dict[str, Any]] = []
        for sample in samples:
            waiting.append({"input_ids": sample.ids, "labels": np.where(sample.response, sample.ids, IGNORED)})
            if len(waiting) == TOGETHER:
                writer.write_batch(pa.RecordBatch.from_pylist(waiting, SCHEMA))
                waiting = []
        if waiting:
            writer.write_batch(pa.RecordBatch.from_pylist(waiting, SCHEMA))


def make_trainer(model: Model, tokens: Path, folder: Path, settings: Settings, callbacks: Sequence[Any] = ()) -> Any:
    """An SFTTrainer of the parameters that `model` has chosen, on the file `tokens` of `write_tokens`.

    Its loss is the mean over a step's response tokens; rows are shuffled with the seed in every epoch. Checkpoints go
    to `folder`. TRL patches the network's forward pass, and leaves it in training mode.

    Raises:
        ConfigError: TRL is missing, or refuses the settings.
    """
    sft, config_class = require_trl()
    if model.device.type == "cpu":
        sft = on_cpu(sft)
    from datasets import Dataset
    from transformers.trainer_callback import PrinterCallback
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    dataset, more = Dataset.from_file(str(tokens)), checked(settings.more, config_class)
    device_batch = max(n for n in range(1, settings.device_batch + 1) if settings.batch % n == 0)
    chosen = {
        "output_dir": str(folder),
        "num_train_epochs": settings.epochs,
        "learning_rate": settings.learning_rate,
        "per_device_train_batch_size": device_batch,
        "gradient_accumulation_steps": settings.batch // device_batch,
        "seed": settings.seed,
        "data_seed": settings.seed,
        "lr_scheduler_type": settings.scheduler,
        "warmup_steps": math.floor(settings.warmup * _steps(len(dataset), settings, more)),
        "max_length": None,
        "packing": False,
        "dataset_kwargs": {"skip_prepare_dataset": True},
        "bf16": settings.bf16,
        "fp16": False,
        "activation_checkpointing": settings.recompute,
        "use_cpu": model.device.type == "cpu",
        "save_strategy": "epoch" if settings.saves == "epoch" else "steps" if settings.saves else "no",
        "save_steps": 1 / max(2, settings.saves) if isinstance(settings.saves, int) else 500,
        "save_total_limit": None if settings.saves == "epoch" else 1,
        "logging_strategy": "steps",
        "logging_steps": 0.01,
        "logging_first_step": True,
        "logging_nan_inf_filter": False,  # or a loss that is NaN is logged as the mean of those before
        "include_num_input_tokens_seen": "non_padding",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": model.device.type == "cuda",
    }
    with quiet_transformers():
        try:
            args = config_class(**{**chosen, **more})
        except (ValueError, TypeError, ImportError, RuntimeError) as error:
            raise ConfigError(f"TRL refuses these trainer settings: {first_line(error)}") from error
        args._n_gpu = min(args.n_gpu, 1)  # TRL knows no DataParallel
        for parameter in model.network.parameters():
            parameter.requires_grad_(False)
        for parameter in model.parameters.values():
            parameter.requires_grad_(True)
        kept = {name: parameter.data for name, parameter in model.parameters.items()}
        try:
            trainer = sft(
                model=model.network,
                args=args,
                train_dataset=dataset,
                processing_class=model.tokenizer,
                data_collator=DataCollatorForLanguageModeling(pad_token_id=0),  # masked: any id serves
                callbacks=list(callbacks),
            )
        except (ValueError, TypeError, ImportError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and out_of_memory(error):
                raise
            raise ConfigError(f"TRL refuses to train this model: {first_line(error)}") from error
        for name, parameter in model.parameters.items():
            parameter.data = kept[name]  # TRL rounds the LoRA of a quantised base to bfloat16
        trainer.remove_callback(PrinterCallback)
    return trainer


def _steps(rows: int, settings: Settings, more: Mapping[str, Any]) -> int:
    """Optimizer steps of a training on so many rows."""
    given = int(more.get("max_steps", -1))
    return given if given > 0 else math.ceil(settings.epochs * math.ceil(rows / settings.batch))


def checked(more: Mapping[str, Any], config_class: Any) -> dict[str, Any]:
    """TRL's own settings, with values of the types that it asks for.

    Raises:
        ConfigError: TRL has no such setting, its value is of another type, or it is ours to set.
    """
    hints = typing.get_type_hints(config_class)
    known = [f.name for f in dataclasses.fields(config_class) if f.init]
    found: dict[str, Any] = {}
    for name, value in more.items():
        if name in OURS:
            raise ConfigError(f"--trainer {name}: use {OURS[name]} instead")
        if name in SCORINGS:
            raise ConfigError(f"--trainer {name}: rows are tokenised as scoring does it, so this can't be changed")
        if name in WATCHED:
            raise ConfigError(f"--trainer {name}: the training is watched and shown by it, so this can't be changed")
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            raise ConfigError(f"--trainer {name}: TRL has no such setting" + (f" (is it {near[0]}?)" if near else ""))
        try:
            found[name] = TypeAdapter(hints[name]).validate_python(value)
        except ValidationError as error:
            raise ConfigError(f"--trainer {name}={value}: {error.errors()[0]['msg']}") from error
        if name == "max_steps" and found[name] == 0:
            raise ConfigError("--trainer max_steps=0: no step would be taken; leave it out to train --epochs")
    return found


def require_trl() -> tuple[Any, Any]:
    """(SFTTrainer, SFTConfig); raises ConfigError where TRL is not installed."""
    try:
        from trl import SFTConfig, SFTTrainer
    except ImportError as error:
        raise ConfigError("training needs TRL: pip install 'prism-select[train]'") from error
    return SFTTrainer, SFTConfig
