"""Everything that `prism pairs` can be told."""

import re
from typing import Literal

from pydantic import field_validator, model_validator

from prism.budget import BATCH_TOKENS
from prism.config import Config, option

Kind = Literal["choices", "preference", "sampled", "swap", "prompts"]
MORE_FIELDS = ("question", "options", "answer", "rank", "score")


class PairsConfig(Config):
    """Options of `prism pairs`; those of other kinds than the one asked for have no effect."""

    kind: Kind = option("data", "What pairs are made of: choices, preference, sampled, swap or prompts.")
    data: list[str] = option("data", "Rows: files, globs, saved datasets folders, hub ids.", min_length=1)
    out: str = option("display", "File for the pairs (.jsonl); what was dropped goes to NAME.rejected.jsonl beside it.")
    columns: dict[str, str] = option("data", "Your columns: question=stem,answer=key,subtask=topic.", {})
    wrong: Literal["random", "all", "likely"] = option(
        "data", "choices: a random wrong option, all, or the one that the model likes most.", "random"
    )
    answer_form: Literal["auto", "label", "text", "both"] = option(
        "data",
        "choices: answer with B, the option's text, both, or (auto) as the row's own answer does.",
        "auto",
    )
    show_options: bool = option("data", "choices: list the options in the prompt where the row does not.", True)
    ranked: Literal["best-worst", "adjacent", "all"] = option(
        "data", "preference: which of several ranked answers make pairs.", "best-worst"
    )
    verify: Literal["exact", "number", "regex"] = option(
        "data", "sampled: what tells a wrong answer: its words, its last number, or what --pattern finds.", "exact"
    )
    pattern: str | None = option("data", "sampled: regular expression; its last match (group 1) is the answer.", None)
    samples: int = option("data", "sampled: answers for each prompt.", 4, ge=1)
    per_item: int = option("data", "sampled: at most so many pairs of one prompt.", 1, ge=1)
    good_system: str | None = option("data", "prompts: system prompt whose answer is wanted.", None)
    bad_system: str | None = option("data", "prompts: system prompt whose answer is unwanted.", None)
    temperature: float = option("data", "Of sampled answers; 0 is greedy.", 0.8, ge=0, allow_inf_nan=False)
    max_new_tokens: int = option("data", "Longest generated answer.", 256, ge=1)
    model: str | None = option("data", "Causal LM that answers or judges: a folder or a hub id.", None)
    adapter: str | None = option("data", "PEFT LoRA adapter on it.", None)
    tokenizer: str | None = option("data", "Tokenizer, where it is not the model's own.", None)
    revision: str | None = option("data", "Revision of a hub model.", None)
    plain: bool = option("data", "Join turns as text, without the chat template.", False)
    max_length: int | None = option("data", "Longest sample in tokens; 2,048 or the model's limit.", None, ge=2)
    batch_tokens: int = option("display", "Padded tokens per batch.", BATCH_TOKENS, ge=1)
    dtype: str = option("data", "auto (the checkpoint's), float32, bfloat16, float16, float64.", "auto")
    device: str = option("display", "auto, cpu, cuda, cuda:1, mps.", "auto")
    seed: int = option("data", "Seed of whatever is random.", 0, ge=0)
    on_bad_row: Literal["skip", "stop"] = option("display", "Set bad rows aside, or stop at the first.", "skip")
    trust_remote_code: bool = option("data", "Run code that comes with a model.", False)
    allow_pickle: bool = option("data", "Load pickle weights, which can run code.", False)
    overwrite: bool = option("display", "Replace the file if it is there.", False)
    quiet: bool = option("display", "Print errors only.", False)
    as_json: bool = option("display", "Print the report as one JSON object.", False, alias="json")

    @field_validator("data", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @field_validator("columns")
    @classmethod
    def _known(cls, value: dict[str, str]) -> dict[str, str]:
        from prism.data.forms import FIELDS  # beside what needs torch, which no --help should wait for

        if unknown := [name for name in value if name not in (*FIELDS, *MORE_FIELDS)]:
            raise ValueError(f"unknown field {unknown[0]!r}; known fields are {', '.join((*FIELDS, *MORE_FIELDS))}")
        return value

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                re.compile(value)
            except re.error as error:
                raise ValueError(f"{value!r} is no regular expression: {error}") from error
        return value

    @model_validator(mode="after")
    def _complete(self) -> "PairsConfig":
        asks = self.kind in ("sampled", "prompts") or (self.kind, self.wrong) == ("choices", "likely")
        if self.model is None and asks:
            what = "judges the wrong options" if self.kind == "choices" else "answers"
            raise ValueError(f"{self.kind} needs a --model that {what}")
        if self.kind == "sampled" and (self.verify == "regex") != (self.pattern is not None):
            raise ValueError("--verify regex and --pattern go together")
        if self.kind == "sampled" and self.samples > 1 and self.temperature == 0:
            raise ValueError("greedy samples are all the same: raise --temperature, or ask for --samples 1")
        if self.kind == "prompts":
            if not self.good_system or not self.bad_system:
                raise ValueError("prompts needs --good-system and --bad-system")
            if self.good_system.strip() == self.bad_system.strip():
                raise ValueError("--good-system and --bad-system are the same")
        return self
