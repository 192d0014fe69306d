"""Everything that `prism warmup` can be told."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from prism.budget import Budget
from prism.config import Config, Quantize, absolute_place, option
from prism.errors import ConfigError
from prism.training.config import TrainConfig

OWN = {"pool", "share", "checkpoints"}  # fields that a training has not, or has otherwise
KEPT = ("save_strategy", "save_steps", "save_total_limit", "save_only_model", "logging_steps", "logging_strategy")
ADAMS = ("adamw_torch", "adamw_torch_fused")


class WarmupConfig(Config):
    """Options of a warm-up; what is None comes from the model's size and the number of rows."""

    pool: list[str] = option("data", "Candidate rows: files, globs, saved datasets folders, hub ids.", min_length=1)
    out: str = option("display", "Folder for the checkpoints.")
    model: str = option("data", "Causal LM to warm up: a folder or a hub id.")
    adapter: str | None = option("data", "PEFT LoRA adapter to go on with.", None)
    tokenizer: str | None = option("data", "Tokenizer, where it is not the model's own.", None)
    revision: str | None = option("data", "Revision of a hub model.", None)
    share: str = option("training", "Of the pool, at random: a share (5%) or a number of rows.", "5%")
    checkpoints: int | None = option("training", "How many, evenly spaced; one per epoch unless given.", None, ge=1)
    full: bool = option("training", "Train all weights instead of a LoRA.", False)
    lora_rank: int | None = option(
        "training", "Rank of the LoRA; an eighth of the model's width, at most 128.", None, ge=1
    )
    lora_alpha: int | None = option("training", "Its alpha; four times the rank.", None, ge=1)
    lora_dropout: float = option("training", "Its dropout.", 0.1, ge=0, lt=1)
    quantize: Quantize | None = option(
        "training", "Keep the base's matrices in so few bits (bitsandbytes), and train a LoRA on it.", None
    )
    epochs: float = option("training", "Passes over the share.", 4.0, gt=0, allow_inf_nan=False)
    learning_rate: float | None = option("training", "Highest learning rate.", None, gt=0, allow_inf_nan=False)
    batch: int | None = option(
        "training", "Samples per optimizer step; some 25 steps per epoch, from 8 to 128.", None, ge=1
    )
    device_batch: int | None = option("display", "Of these, samples at a time.", None, ge=1)
    trainer: dict[str, Any] = option("training", "TRL's own settings: --trainer weight_decay=0.1.", {})
    columns: dict[str, str] = option("training", "Your pool's columns: prompt=question,completion=answer.", {})
    responses: Literal["last", "all"] = option("training", "Loss on the last assistant turn, or on all.", "last")
    plain: bool = option("training", "Join prompt and completion as text, without the chat template.", False)
    max_length: int | None = option("training", "Longest sample in tokens; 2,048 or the model's limit.", None, ge=2)
    dtype: Literal["auto", "float32", "bfloat16"] = option(
        "training", "Compute in float32, or bfloat16 (auto: on GPUs that know it).", "auto"
    )
    device: str = option("display", "auto, cpu, cuda, mps.", "auto")
    seed: int = option("training", "Seed of the share, the shuffling, the LoRA and dropout.", 0, ge=0)
    on_bad_row: Literal["skip", "stop"] = option("display", "Set bad rows aside, or stop at the first.", "skip")
    trust_remote_code: bool = option("training", "Run code that comes with a model.", False)
    allow_pickle: bool = option("training", "Load pickle weights, which can run code.", False)
    quiet: bool = option("display", "Print errors only.", False)
    as_json: bool = Field(
        False, description="Print the summary as one JSON object.", alias="json", json_schema_extra={"stage": "display"}
    )

    @field_validator("pool", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str | Path) else value

    @field_validator("share", mode="before")
    @classmethod
    def _amount(cls, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise ValueError("write a share as '5%', a number of rows as 1000")
        return str(value)

    @field_validator("share")
    @classmethod
    def _parses(cls, value: str) -> str:
        try:
            unit = Budget.parse(value).unit
        except ConfigError as error:
            raise ValueError(str(error).replace("budget", "share")) from error
        if unit == "tokens":
            raise ValueError(f"{value!r} is neither a share such as 5% nor a number of rows")
        return value

    @field_validator("trainer")
    @classmethod
    def _keeps_states(cls, value: dict[str, Any]) -> dict[str, Any]:
        if found := next((name for name in KEPT if name in value), None):
            raise ValueError(f"{found} is set by the warm-up, which keeps every checkpoint whole: use --checkpoints")
        if value.get("optim", ADAMS[0]) not in ADAMS:
            raise ValueError(f"optim={value['optim']}: a warm-up is for Adam's moments, so it is {' or '.join(ADAMS)}")
        return value

    def absolute(self) -> "WarmupConfig":
        """The same with local paths made absolute; raises ConfigError where a name is not UTF-8."""
        update: dict[str, Any] = {"out": str(Path(self.out).expanduser().absolute())}
        update["pool"] = [absolute_place(place) for place in self.pool]
        places = {n: getattr(self, n) for n in ("model", "adapter", "tokenizer")}
        return self.model_copy(update=update | {n: absolute_place(p) for n, p in places.items() if p is not None})

    def training(self, **update: Any) -> TrainConfig:
        """The training that this warm-up is."""
        fields = {name: getattr(self, name) for name in type(self).model_fields if name not in OWN}
        return TrainConfig(**{**fields, "data": self.pool, "keep_checkpoints": True, **update})
