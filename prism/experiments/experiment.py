"""What `prism compare` is told: the experiment's file."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from prism.budget import Budget
from prism.config import Config, SelectConfig, option
from prism.errors import ConfigError
from prism.experiments.config import checked
from prism.experiments.options import OF_RUNS, handed_on
from prism.methods.baselines import Baseline
from prism.methods.recipe import Recipe
from prism.methods.table import find_method
from prism.training.warmup_config import WarmupConfig

UNSELECTED = ("none", "full")  # the base itself, and the whole pool
BY_CHANCE = ("random", "dsir")  # methods whose scores are drawn by their seed
TOKEN_SHARE = re.compile(r"(\d+(?:\.\d+)?)\s*%\s*tok(?:ens?)?")
NAME = re.compile(r"[\w.+^-]+")


class Method(BaseModel):
    """One method of the grid: a row of the table of methods or a recipe, with any options of `prism select`."""

    model_config = ConfigDict(extra="allow")

    name: str
    method: str = ""
    budgets: list[str] | None = None
    seeds: list[int] | None = None
    warmup: dict[str, Any] | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, given: Any) -> Any:
        given = {"name": given} if isinstance(given, str) else given
        if isinstance(given, Mapping) and "name" not in given and "method" in given:
            given = {**given, "name": Path(str(given["method"])).stem}
        return {**given, "method": given.get("method", given.get("name"))} if isinstance(given, Mapping) else given

    @field_validator("name")
    @classmethod
    def _plain(cls, value: str) -> str:
        if not NAME.fullmatch(value):
            raise ValueError(f"{value!r} names files: use letters, digits and . + ^ - _")
        return value

    @field_validator("budgets", mode="before")
    @classmethod
    def _budgets(cls, value: Any) -> Any:
        return None if value is None else budgets_of(value)

    @field_validator("seeds", mode="before")
    @classmethod
    def _seeds(cls, value: Any) -> Any:
        return None if value is None else seeds_of(value)

    @property
    def options(self) -> dict[str, Any]:
        """Options of `prism select` given here."""
        return {name.replace("-", "_"): value for name, value in (self.model_extra or {}).items()}

    @property
    def selects(self) -> bool:
        """Whether it chooses rows at all."""
        return self.name not in UNSELECTED

    @property
    def any_target(self) -> bool:
        """Whether the rows that it takes are the same for all targets."""
        found = find_method(self.method) if self.selects else None
        return self.name == "full" or (isinstance(found, Baseline) and not found.needs_target)

    @property
    def warms_up(self) -> bool:
        """Whether it scores at checkpoints of a warm-up that the comparison trains."""
        if not self.selects or self.options.get("checkpoints"):
            return False
        found = find_method(self.method)
        needs = isinstance(found, Recipe) and (found.checkpoints == "all" or found.candidate_map == "adam")
        return needs or self.warmup is not None

    @property
    def by_seed(self) -> bool:
        """Whether its scores differ by seed."""
        return self.selects and (self.method in BY_CHANCE or self.warms_up)


class Experiment(Config):
    """A grid of methods, budgets and seeds with one base model, pool and target."""

    SHARED: ClassVar[tuple[str, ...]] = (
        "model", "adapter", "tokenizer", "revision", "pool", "target", "columns", "target_columns", "trust_remote_code",
        "allow_pickle",
    )  # fmt: skip

    model: str = option("data", "The base model.")
    adapter: str | None = option("data", "LoRA adapter on it.", None)
    tokenizer: str | None = option("data", "Tokenizer, where it is not the model's own.", None)
    revision: str | None = option("data", "Revision of a hub model.", None)
    pool: list[str] = option("data", "Candidate rows.", min_length=1)
    target: list[str] = option("data", "Target pairs.", min_length=1)
    held_out: list[str] = option("data", "Pairs that methods are judged by.", min_length=1)
    retain: list[str] = option("data", "Rows whose perplexity should not suffer.", [])
    methods: list[Method] = Field(min_length=1, json_schema_extra={"stage": "data"})
    budgets: list[str] = option("data", "5%, 1000, '200k tok', or '5% tok' of the pool's response tokens.", ["5%"])
    seeds: list[int] = option("data", "How many (3 is 0, 1, 2), or which.", [0, 1, 2])
    against: list[str] = option("display", "Methods that the others are compared with.", ["random", "less"])
    columns: dict[str, str] = option("data", "The pool's columns.", {})
    target_columns: dict[str, str] = option("data", "The target's columns.", {})
    select: dict[str, Any] = option("data", "Options of prism select for all methods.", {})
    train: dict[str, Any] = option("data", "Options of prism train.", {})
    evaluate: dict[str, Any] = option("data", "Options of prism evaluate.", {})
    warmup: dict[str, Any] = option("data", "Options of prism warmup, for methods that need one.", {})
    trust_remote_code: bool = option("data", "Run code that comes with a model.", False)
    allow_pickle: bool = option("data", "Load pickle weights, which can run code.", False)
    keep_models: bool = option("display", "Keep the trained models.", False)
    shared: str | None = option(
        "display",
        "Folder of warm-ups, and models trained whatever the target, which experiments share.",
        None,
    )
    out: str = option("display", "Folder.")

    @field_validator("pool", "target", "held_out", "retain", "against", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("budgets", mode="before")
    @classmethod
    def _budgets(cls, value: Any) -> Any:
        return budgets_of(value)

    @field_validator("seeds", mode="before")
    @classmethod
    def _seeds(cls, value: Any) -> Any:
        return seeds_of(value)

    @field_validator("select", "train", "evaluate", "warmup")
    @classmethod
    def _of_commands(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        return handed_on(str(info.field_name), value)

    @model_validator(mode="after")
    def _consistent(self) -> "Experiment":
        names = [method.name for method in self.methods]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"methods: {twice[0]} is there twice: give each a name of its own")
        for place, method in enumerate(self.methods):
            try:
                if odd := sorted(OF_RUNS & method.options.keys()):
                    raise ConfigError(f"{odd[0]} is not a method's own here: it is set for each run")
                if method.warmup is not None:
                    method.warmup = handed_on("warmup", method.warmup)
                if method.selects:
                    find_method(method.method)
                    self.scoring(method, "out")
                else:
                    _require_no_options(method)
            except (ConfigError, ValueError) as error:
                raise ValueError(f"methods.{place} ({method.name}): {error}") from error
        for name in self.against:
            if name not in names:
                _require_method(name)
        return self

    def scoring(self, method: Method, out: str, **changes: Any) -> SelectConfig:
        """The scoring run of a method."""
        shared = {name: getattr(self, name) for name in self.SHARED}
        return checked(
            SelectConfig, {**shared, **self.select, **method.options, "method": method.method, "out": out, **changes}
        )

    def settings(self, out: str) -> SelectConfig:
        """What all cells share, whatever the method."""
        shared = {name: getattr(self, name) for name in self.SHARED}
        return checked(SelectConfig, {**shared, **self.select, "out": out}, "select")

    def warming(self, method: Method, out: str, seed: int) -> WarmupConfig:
        """The warm-up of a method."""
        shared = {name: getattr(self, name) for name in self.SHARED if name not in ("target", "target_columns")}
        chosen: dict[str, Any] = {
            name: self.select[name] for name in ("max_length", "plain", "responses", "device") if name in self.select
        }
        dtype = self.train.get("dtype", self.select.get("dtype"))
        dtypes = {"dtype": dtype} if dtype in ("float32", "bfloat16") else {}
        own = {"out": out, "seed": seed, **self.warmup, **(method.warmup or {})}
        return checked(WarmupConfig, {**shared, **chosen, **dtypes, **own}, f"warmup of {method.name}")


def _require_no_options(method: Method) -> None:
    """Raises ConfigError for what means nothing to the base or to the whole pool."""
    own = ("budgets", "warmup", "seeds") if method.name == "none" else ("budgets", "warmup")
    given = [*(name for name in own if getattr(method, name)), *method.options]
    if given:
        what = "the base as it is" if method.name == "none" else "the whole pool"
        raise ConfigError(f"{given[0]} means nothing here: {method.name} is {what}")


def _require_method(name: str) -> None:
    """Raises ValueError where what methods are compared with is no method at all."""
    try:
        find_method(name)
    except ConfigError as error:
        raise ValueError(f"against: {error}") from error


def load_experiment(path: Path, given: Mapping[str, Any], name: str = "compare") -> Experiment:
    """The experiment of a YAML file, with the options `given` on top; relative places are as seen from here. Without a
    folder it goes to `runs/NAME`.

    Raises:
        ConfigError: the file can't be read, or a key is unknown, missing or malformed; the message names it.
    """
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"the experiment {path} can't be read: {' '.join(str(error).split())}") from error
    if not isinstance(loaded, dict):
        raise ConfigError(
            f"the experiment {path} must be a mapping with the keys model, pool, target, held_out, methods"
        )
    fields = {str(name).replace("-", "_"): value for name, value in loaded.items()}
    try:
        return Experiment.model_validate({"out": f"runs/{name}", **fields, **given})
    except ValidationError as error:
        raise ConfigError(f"the experiment {path}: {'; '.join(_problem(p) for p in error.errors())}") from error


def budgets_of(value: Any) -> list[str]:
    """Budgets as text, each well-formed; raises ValueError."""
    many = value if isinstance(value, list) else [value]
    if not many:
        raise ValueError("the list is empty: leave it out, or name one budget at least")
    found = []
    for one in many:
        if isinstance(one, bool) or not isinstance(one, str | int):
            raise ValueError(f"{one!r} is no budget: write 5%, 1000, '200k tok' or '5% tok'")
        text = str(one).strip()
        try:
            _amount(text)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        found.append(text)
    amounts = [(by_tokens(text), _amount(text)) for text in found]
    if twice := next((text for text, one in zip(found, amounts, strict=True) if amounts.count(one) > 1), None):
        raise ValueError(f"{twice!r} is there twice: name each budget once")
    return found


def seeds_of(value: Any) -> list[int]:
    """Seeds, or as many as a number says; raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | list):
        raise ValueError(f"{value!r} is neither a number of seeds nor a list of them")
    found = list(range(value)) if isinstance(value, int) else value
    if not found or any(isinstance(s, bool) or not isinstance(s, int) or s < 0 for s in found):
        raise ValueError(f"{value!r}: seeds are whole numbers from 0, one at least")
    if (twice := next((seed for seed in found if found.count(seed) > 1), None)) is not None:
        raise ValueError(f"{value!r}: {twice} is there twice, and the same training twice says nothing new")
    return found


def in_tokens(budget: str, tokens: int) -> str:
    """A budget as `prism select` takes it: `5% tok` becomes so many of the pool's response tokens."""
    share = TOKEN_SHARE.fullmatch(budget)
    return f"{max(1, int(float(share[1]) / 100 * tokens))} tok" if share else budget


def _amount(budget: str) -> Budget:
    """Of a budget, or the share of a share of tokens."""
    share = TOKEN_SHARE.fullmatch(budget)
    return Budget.parse(f"{share[1]}%" if share else budget)


def by_tokens(budget: str) -> bool:
    """Whether a budget counts tokens."""
    return bool(TOKEN_SHARE.fullmatch(budget)) or Budget.parse(budget).unit == "tokens"


def _problem(problem: Any) -> str:
    place = ".".join(str(part) for part in problem["loc"])
    reason = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "missing":
        reason = "is required"
    elif problem["type"] == "extra_forbidden":
        reason = "is no key of an experiment"
    return f"{place}: {reason}" if place else reason
