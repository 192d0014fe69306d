"""Everything that `prism train` can be told."""

from pathlib import Path
from typing import Any, Literal

from pydantic import field_validator

from prism.config import Config, Quantize, absolute_place, option


class TrainConfig(Config):
    """Options of a training; what is None comes from the run folder in `data`, or from the model's size."""

    data: list[str] = option("data", "What to train on: a run folder (its selection), or pool files.", min_length=1)
    out: str = option("display", "Folder for the trained model.")
    model: str | None = option("data", "Causal LM to train: a folder or a hub id; the run's unless given.", None)
    adapter: str | None = option("data", "PEFT LoRA adapter to go on with; the run's unless given.", None)
    tokenizer: str | None = option("data", "Tokenizer, where it is not the model's own.", None)
    revision: str | None = option("data", "Revision of a hub model.", None)
    full: bool | None = option("training", "Train all weights, or a LoRA; by the model's size unless given.", None)
    lora_rank: int | None = option("training", "Rank of a new LoRA.", None, ge=1)
    lora_alpha: int | None = option("training", "Its alpha; twice the rank unless given.", None, ge=1)
    lora_dropout: float = option("training", "Its dropout.", 0.0, ge=0, lt=1)
    quantize: Quantize | None = option(
        "training", "Keep the base's matrices in so few bits (bitsandbytes), and train a LoRA on it.", None
    )
    epochs: float | None = option("training", "Passes over the data.", None, gt=0, allow_inf_nan=False)
    learning_rate: float | None = option("training", "Highest learning rate.", None, gt=0, allow_inf_nan=False)
    batch: int | None = option("training", "Samples per optimizer step.", None, ge=1)
    device_batch: int | None = option("display", "Of these, samples at a time.", None, ge=1)
    trainer: dict[str, Any] = option("training", "TRL's own settings: --trainer weight_decay=0.1 optim=adafactor.", {})
    held_out: list[str] = option("display", "Held-out target pairs: report their overlap with the data first.", [])
    columns: dict[str, str] | None = option("training", "Your data's columns: prompt=question,completion=answer.", None)
    target_columns: dict[str, str] = option("display", "Your held-out pairs' columns, likewise.", {})
    responses: Literal["last", "all"] | None = option("training", "Loss on the last assistant turn, or on all.", None)
    plain: bool | None = option("training", "Join prompt and completion as text, without the chat template.", None)
    max_length: int | None = option("training", "Longest sample in tokens; 2,048 or the model's limit.", None, ge=2)
    dtype: Literal["auto", "float32", "bfloat16"] = option(
        "training", "Compute in float32, or bfloat16 (auto: on GPUs that know it).", "auto"
    )
    device: str = option("display", "auto, cpu, cuda, mps.", "auto")
    seed: int = option("training", "Seed of the shuffling, a new LoRA, and dropout.", 0, ge=0)
    checkpoints: int = option("display", "About so many over the training, so that it goes on after a kill.", 10, ge=0)
    keep_checkpoints: bool = option("display", "Keep the last one, with its optimizer state, when done.", False)
    on_bad_row: Literal["skip", "stop"] = option("display", "Set bad rows aside, or stop at the first.", "skip")
    trust_remote_code: bool | None = option("training", "Run code that comes with a model.", None)
    allow_pickle: bool | None = option("training", "Load pickle weights, which can run code.", None)
    quiet: bool = option("display", "Print errors only.", False)
    as_json: bool = option("display", "Print the summary as one JSON object.", False, alias="json")

    @field_validator("data", "held_out", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str | Path) else value

    def absolute(self) -> "TrainConfig":
        """The same with local paths made absolute; raises ConfigError where a name is not UTF-8."""
        update: dict[str, Any] = {"out": str(Path(self.out).expanduser().absolute())}
        update |= {n: [absolute_place(place) for place in getattr(self, n)] for n in ("data", "held_out")}
        places = {n: getattr(self, n) for n in ("model", "adapter", "tokenizer")}
        return self.model_copy(update=update | {n: absolute_place(p) for n, p in places.items() if p is not None})
