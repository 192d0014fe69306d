"""The one typed config behind the command line, `--config` files and run folders."""

import glob
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, overload

import yaml
from pydantic import (
    BaseModel,
    ByteSize,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from prism.budget import BATCH_TOKENS, Budget, Quota
from prism.damping import Damping
from prism.errors import ConfigError
from prism.files import write_whole

Quantize = Literal["8bit", "4bit"]


def _option(
    stage: Literal["data", "scoring", "selection", "training", "evaluation", "display"],
    help: str,
    default: Any = ...,
    **more: Any,
) -> Any:
    """A field; a run folder refuses a changed "scoring" field, knows "data" by their contents, and ignores the rest."""
    return Field(default, description=help, json_schema_extra={"stage": stage}, **more)


option = _option  # for the configs of other commands


class Config(BaseModel):
    """What every command's config has: fields made with `option`, refused when unknown, saved as YAML."""

    model_config = ConfigDict(extra="forbid", validate_by_name=True, validate_by_alias=True, serialize_by_alias=True)

    def stage(self, stage: str) -> dict[str, Any]:
        """The fields of one stage, by name."""
        fields = type(self).model_fields.items()
        return {n: getattr(self, n) for n, f in fields if f.json_schema_extra["stage"] == stage}  # type: ignore[index]

    def save(self, path: Path, command: str = "select") -> None:
        text = yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        write_whole(path, f"# prism {command} --config THIS_FILE repeats the run\n{text}")


C = TypeVar("C", bound=BaseModel)


PLACES = ("model", "adapter", "tokenizer", "embedder", "reference", "curvature_from", "preference_from")


class SelectConfig(Config):
    """Everything that `prism select` can be told."""

    model: str = _option("data", "Causal LM: a folder or a hub id.")
    adapter: str | None = _option("data", "PEFT LoRA adapter on it: a folder or a hub id.", None)
    tokenizer: str | None = _option("data", "Tokenizer, where it is not the model's own.", None)
    revision: str | None = _option("data", "Revision of a hub model.", None)
    pool: list[str] = _option("data", "Candidate rows: files, globs, saved datasets folders, hub ids.", min_length=1)
    target: list[str] = _option(
        "data", "Target pairs (prompt, chosen, rejected), from the same places; some baselines need none.", []
    )
    out: str = _option("display", "Run folder.")
    budget: str = _option("selection", "A share (5%), samples (1000) or response tokens ('200k tok').", "5%")
    order: Literal["top", "bottom"] = _option(
        "selection", "Keep the highest (top) or the lowest (bottom) scores.", "top"
    )
    strategy: Literal["top", "per-token", "round-robin", "coverage"] = _option(
        "selection", "What takes rows: the score, the score per token, pairs in turn, or coverage of all pairs.", "top"
    )
    turns: Literal["pair", "subtask"] = _option("selection", "What takes turns in a round-robin.", "pair")
    coverage_step: float | None = _option(
        "selection", "Step size of coverage; one nat of margin by the top rows unless given.", None, gt=0
    )
    cap_per_source: str | None = _option(
        "selection", "At most so many rows of a source, or a share of the budget.", None
    )
    quotas: list[str] = _option(
        "selection", "What a source makes of the budget: SOURCE=20%, =10%..30%, =10%.. or =..30%.", [], alias="quota"
    )
    keep_duplicates: bool = _option("selection", "Keep rows that say exactly the same.", False)
    near_duplicates: float | None = _option(
        "selection", "Of rows that are so similar (0.8, say) keep the best placed.", None, gt=0, le=1
    )
    columns: dict[str, str] = _option("scoring", "Your pool's columns: prompt=question,completion=answer.", {})
    target_columns: dict[str, str] = _option("scoring", "Your target's columns, likewise.", {})
    method: str = _option(
        "data", "What scores: a name that prism methods lists, or a recipe of yours (.yaml).", "prism"
    )
    checkpoints: list[str] = _option("data", "Checkpoints to score at: folders of prism warmup or of Trainer.", [])
    parameters: str = _option(
        "scoring", "What carries gradients: auto, lora, linear, all, or a regular expression on names.", "auto"
    )
    lora_rank: int = _option("scoring", "Rank of a LoRA attached for scoring.", 16, ge=1)
    lora_alpha: int | None = _option("scoring", "Its alpha; twice the rank unless given.", None, ge=1)
    curvature: Literal["identity", "diagonal", "adam", "kfac", "ekfac", "cg", "datainf"] | None = _option(
        "scoring",
        "Curvature of the SFT loss: identity, diagonal, adam, kfac, ekfac, cg, datainf; else the method's own.",
        None,
    )
    curvature_samples: int = _option("scoring", "Pool rows that it is fitted on, spread evenly.", 2000, ge=1)
    curvature_labels: Literal["model", "data"] = _option(
        "scoring", "Labels that it is fitted with: drawn from the model (true Fisher), or the data's own.", "model"
    )
    curvature_from: str | None = _option(
        "data",
        "A run with a fitted curvature to use; for adam, a checkpoint with its optimizer's state.",
        None,
        validate_default=True,
    )
    preference_from: str | None = _option(
        "data",
        "A model, adapter or training whose preferences weigh the pairs, in place of the scored model's own.",
        None,
    )
    damping: str = _option(
        "scoring", "Added to its eigenvalues: a share of their mean, or a number (1e-3).", "0.1 mean"
    )
    aggregate: Literal["mean", "max", "round-robin"] | None = _option(
        "scoring", "bm25, embed, rds+: one score of those against single targets; the method's own way.", None
    )
    ngrams: int = _option("scoring", "dsir: the longest n-grams that are counted.", 2, ge=1)
    embedder: str | None = _option(
        "scoring", "embed: a sentence-transformers model, instead of the model's hidden states.", None
    )
    reference: str | None = _option("scoring", "delta-loss: a model or LoRA adapter that knows the target.", None)
    cg_tolerance: float = _option(
        "scoring", "cg: the relative residual to reach; 0.001 unless given.", 1e-3, gt=0, lt=1
    )
    cg_iterations: int = _option("scoring", "cg: Gauss-Newton products at most.", 100, ge=1)
    engine: Literal["auto", "backward", "forward"] = _option(
        "scoring", "Pass that scores: exact backward, faster forward, or what measures well enough.", "auto"
    )
    pair_scores: bool = _option("display", "Also scores against each target pair, for prism reweigh.", False)
    direction_memory: str = _option(
        "display",
        "Memory for directions of pairs or a curvature's factors (more take several passes) or of subtasks.",
        "4GB",
    )
    gradient_norms: bool = _option("scoring", "Also gradient norms, at some cost.", False)
    responses: Literal["last", "all"] = _option("scoring", "Loss on the last assistant turn, or on all.", "last")
    plain: bool = _option("scoring", "Join prompt and completion as text, without the chat template.", False)
    max_length: int | None = _option("scoring", "Longest sample in tokens; 2,048 or the model's limit.", None, ge=2)
    batch_tokens: int = _option("scoring", "Padded tokens per batch.", BATCH_TOKENS, ge=1)
    dtype: str = _option("scoring", "auto (the checkpoint's), float32, bfloat16, float16, float64.", "auto")
    quantize: Quantize | None = _option(
        "scoring", "Keep the model's matrices in so few bits (bitsandbytes); gradients in a LoRA.", None
    )
    device: str = _option("display", "auto, cpu, cuda, cuda:1, mps.", "auto")
    seed: int = _option("scoring", "Seed of whatever is random.", 0, ge=0)
    on_bad_row: Literal["skip", "stop"] = _option("display", "Set bad rows aside, or stop at the first.", "skip")
    trust_remote_code: bool = _option("scoring", "Run code that comes with a model.", False)
    allow_pickle: bool = _option("scoring", "Load pickle weights, which can run code.", False)
    dry_run: bool = _option("display", "Run nothing: print the time, memory and disk that the run will take.", False)
    quiet: bool = _option("display", "Print errors only.", False)
    as_json: bool = _option("display", "Print the summary as one JSON object.", False, alias="json")

    @field_validator("pool", "target", "checkpoints", "quotas", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("budget", "cap_per_source", mode="before")
    @classmethod
    def _amount(cls, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, str | int | None):
            raise ValueError("write a share as '5%', a number of samples as 1000, tokens as '200k tok'")
        return None if value is None else str(value)

    @field_validator("budget", "cap_per_source")
    @classmethod
    def _parses(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None:
            try:
                unit = Budget.parse(value).unit
            except ConfigError as error:
                raise ValueError(str(error)) from error
            if unit == "tokens" and info.field_name == "cap_per_source":
                raise ValueError(f"{value!r} is neither a number of rows nor a share of the budget")
        return value

    @field_validator("quotas")
    @classmethod
    def _quota(cls, value: list[str]) -> list[str]:
        try:
            for quota in value:
                Quota.parse(quota)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return value

    @field_validator("direction_memory")
    @classmethod
    def _size(cls, value: str) -> str:
        try:
            bytes_of(value)
        except ValidationError as error:
            raise ValueError(f"{value!r} is no amount of memory such as 4GB or 512MB") from error
        return value

    @field_validator("curvature_from")
    @classmethod
    def _has_use(cls, value: str | None, info: ValidationInfo) -> str | None:
        kind = info.data.get("curvature")
        if value is None and kind == "adam":
            raise ValueError("--curvature adam needs a checkpoint with an optimizer's state")
        if value is not None and kind in ("identity", "cg", "datainf"):
            raise ValueError(f"--curvature {kind} is not fitted, so none can be taken from elsewhere")
        return value

    @field_validator("damping", mode="before")
    @classmethod
    def _damping(cls, value: Any) -> Any:
        try:
            Damping.parse(str(value))
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return str(value)

    @field_validator("gradient_norms")
    @classmethod
    def _by_backward(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("engine") == "forward":
            raise ValueError("the forward engine gives none: use --engine backward")
        return value

    def absolute(self) -> "SelectConfig":
        """The same with local paths made absolute, so that a run can be repeated from anywhere.

        Raises:
            ConfigError: a name is not UTF-8, which the libraries below can't open.
        """
        update: dict[str, Any] = {"out": str(Path(_encodable(self.out)).expanduser().absolute())}
        update |= {n: [absolute_place(place) for place in getattr(self, n)] for n in ("pool", "target", "checkpoints")}
        if self.method.endswith((".yaml", ".yml")):
            update["method"] = absolute_place(self.method)
        places = {name: getattr(self, name) for name in PLACES}
        update |= {n: absolute_place(place) for n, place in places.items() if place is not None}
        return self.model_copy(update=update)


def bytes_of(size: str) -> int:
    """Bytes of a size such as 4GB, 512MB or 2GiB."""
    return int(TypeAdapter(ByteSize).validate_python(size))


@overload
def load_config(path: Path | None, given: Mapping[str, Any]) -> SelectConfig: ...


@overload
def load_config(path: Path | None, given: Mapping[str, Any], cls: type[C]) -> C: ...


def load_config(path: Path | None, given: Mapping[str, Any], cls: type[BaseModel] = SelectConfig) -> BaseModel:
    """The config of a YAML file (or none), overridden by the options that were `given`, as a command's config class.

    Raises:
        ConfigError: the file can't be read, or a field is unknown, missing or malformed.
    """
    fields: dict[str, Any] = {}
    if path is not None:
        try:
            loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ConfigError(f"the config {path} can't be read: {' '.join(str(error).split())}") from error
        if not isinstance(loaded, dict):
            raise ConfigError(f"the config {path} must be a mapping of option names to values")
        names = {field.alias: name for name, field in cls.model_fields.items() if field.alias}
        written = ((str(name).replace("-", "_"), value) for name, value in loaded.items())
        fields = {names.get(name, name): value for name, value in written}
    fields |= given
    try:
        return cls.model_validate(fields)
    except ValidationError as error:
        raise ConfigError(_explain(error, path)) from error


def _explain(error: ValidationError, path: Path | None) -> str:
    lines = []
    for problem in error.errors():
        name = "--" + str(problem["loc"][0]).replace("_", "-") + ": " if problem["loc"] else ""
        reason = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "missing":
            reason = "is required"
        elif problem["type"] == "extra_forbidden":
            reason = "is no option"
        lines.append(f"{name}{reason}")
    return "; ".join(lines) + (f" (config {path})" if path else "")


def _encodable(place: str) -> str:
    try:
        place.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"the name {place!r} is not UTF-8: rename it") from error
    return place


def absolute_place(place: str) -> str:
    """What lies here becomes absolute; hub ids, and what exists nowhere, stay as they are."""
    path = Path(_encodable(place)).expanduser()
    here = path.exists() or glob.has_magic(place) or Path(place.rpartition(":")[0] or "?").is_dir()
    return str(path.absolute()) if here else place
