"""Everything that `prism evaluate` can be told."""

from pathlib import Path
from typing import Any, Literal

from pydantic import field_validator

from prism.budget import BATCH_TOKENS
from prism.config import Config, Quantize, absolute_place, option
from prism.errors import ConfigError

MEASURES = ("target", "retain", "generate", "tasks")


class EvaluateConfig(Config):
    """Options of an evaluation; what is None is the training's own, or the model's default."""

    model: str = option("data", "A folder of prism train, or a causal LM: a folder or a hub id.")
    adapter: str | None = option("data", "PEFT LoRA adapter on the model.", None)
    base: str | None = option("data", "Compare with this model too; auto: the one that prism train began with.", None)
    base_adapter: str | None = option("data", "PEFT LoRA adapter on that.", None)
    tokenizer: str | None = option("data", "Tokenizer, where it is not the model's own.", None)
    revision: str | None = option("data", "Revision of a hub model.", None)
    target: list[str] = option("data", "Held-out pairs (prompt, chosen, rejected): each place for itself.", [])
    retain: list[str] = option("data", "Rows or texts whose perplexity should not grow.", [])
    generate: list[str] = option("data", "Prompts with an answer or a regex, to be generated and checked.", [])
    tasks: list[str] = option(
        "data", "Tasks of lm-evaluation-harness: names, YAML files, or multiple-choice JSONL files.", []
    )
    out: str | None = option("display", "Folder for evaluate.json; that of the training unless given.", None)
    values: bool = option("display", "Write each pair's figures too.", False)
    columns: dict[str, str] = option("evaluation", "The retain rows' columns: prompt=question,completion=answer.", {})
    target_columns: dict[str, str] = option("evaluation", "The target's columns, likewise.", {})
    responses: Literal["last", "all"] | None = option("evaluation", "Loss on the last assistant turn, or on all.", None)
    plain: bool | None = option("evaluation", "Join prompt and answer as text, without the chat template.", None)
    max_length: int | None = option("evaluation", "Longest sample in tokens; 2,048 or the model's limit.", None, ge=2)
    max_new_tokens: int = option("evaluation", "Longest generated answer, in tokens.", 256, ge=1)
    shots: int | None = option("evaluation", "Examples before each question of a task; the task's own.", None, ge=0)
    task_limit: int | None = option("evaluation", "Only so many questions of each task.", None, ge=1)
    chat: bool = option("evaluation", "Put the tasks' questions through the chat template.", False)
    resamples: int = option("evaluation", "Bootstrap resamples behind each interval.", 2000, ge=1)
    batch_tokens: int = option("display", "Padded tokens per batch.", BATCH_TOKENS, ge=1)
    dtype: str = option("evaluation", "auto (the checkpoint's), float32, bfloat16, float16, float64.", "auto")
    quantize: Quantize | None = option(
        "evaluation", "Keep the matrices in so few bits (bitsandbytes); as the training did unless given.", None
    )
    device: str = option("display", "auto, cpu, cuda, cuda:1, mps.", "auto")
    seed: int = option("evaluation", "Seed of the bootstrap.", 0, ge=0)
    on_bad_row: Literal["skip", "stop"] = option("display", "Set bad rows aside, or stop at the first.", "skip")
    trust_remote_code: bool = option("evaluation", "Run code that comes with a model.", False)
    allow_pickle: bool = option("evaluation", "Load pickle weights, which can run code.", False)
    quiet: bool = option("display", "Print errors only.", False)
    as_json: bool = option("display", "Print the results as one JSON object.", False, alias="json")

    @field_validator(*MEASURES, mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str | Path) else value

    def absolute(self) -> "EvaluateConfig":
        """The same with local paths made absolute.

        Raises:
            ConfigError: there is nothing to measure, or a name is not UTF-8.
        """
        if not any(getattr(self, name) for name in MEASURES):
            raise ConfigError(f"nothing to measure: give {', '.join(f'--{name}' for name in MEASURES)}")
        if self.base is None and self.base_adapter is not None:
            raise ConfigError("--base-adapter: is on a --base, and none is given")
        update: dict[str, Any] = {n: [absolute_place(place) for place in getattr(self, n)] for n in MEASURES}
        places = {n: getattr(self, n) for n in ("model", "adapter", "base", "base_adapter", "tokenizer")}
        update |= {n: absolute_place(p) for n, p in places.items() if p is not None and p != "auto"}
        update["out"] = None if self.out is None else str(Path(self.out).expanduser().absolute())
        return self.model_copy(update=update)
