"""What `prism audit` and `prism repair` can be told: the options of a scoring run, and their own."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import ValidationInfo, field_validator, model_validator

from prism.budget import Budget
from prism.config import C, SelectConfig, load_config, option
from prism.errors import ConfigError
from prism.experiments.options import handed_on

SELECTION = frozenset(n for n, f in SelectConfig.model_fields.items() if f.json_schema_extra["stage"] == "selection")  # type: ignore[index]


class RankConfig(SelectConfig):
    """A run of `prism select` that ranks an SFT set, whose selection is another's business."""

    HIDDEN: ClassVar[frozenset[str]] = SELECTION | {"pool", "pair_scores", "dry_run"}

    pool: list[str] = option("data", "Unused.", [])
    data: list[str] = option("data", "The SFT rows: files, globs, saved datasets folders, hub ids.", min_length=1)
    target: list[str] = option(
        "data", "Target pairs: chosen is the unwanted behaviour, rejected the safe one.", min_length=1
    )
    label_column: str | None = option("display", "Column that says which rows are harmful, where one does.", None)

    @field_validator("data", mode="before")
    @classmethod
    def _many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="before")
    @classmethod
    def _only_shown(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and (odd := sorted(cls.HIDDEN & given.keys())):
            raise ValueError(f"{odd[0].replace('_', '-')} is no option of this command")
        return given

    def ranking(self, **changes: Any) -> SelectConfig:
        """The scoring run of the data, but for what `changes`."""
        own = {name: getattr(self, name) for name in SelectConfig.model_fields if name not in RankConfig.HIDDEN}
        return checked(SelectConfig, {**own, "pool": self.data, "keep_duplicates": True, **changes})


class AuditConfig(RankConfig):
    """Everything that `prism audit` can be told."""

    out: str = option("display", "Folder.", "runs/audit")
    rows: int = option("display", "How many of the worst rows to explain.", 20, ge=1)
    pairs: int = option("display", "How many target pairs to name for each row.", 3, ge=1)
    tokens: int = option("display", "How many tokens to name for each row.", 5, ge=1)


class RepairConfig(RankConfig):
    """Everything that `prism repair` can be told."""

    HIDDEN: ClassVar[frozenset[str]] = RankConfig.HIDDEN - {"pool", "budget"}

    model: str = option("data", "The base model, from before the breakage: a folder or a hub id.")
    data: list[str] = option("data", "The SFT rows that broke the model, or would.", [])
    direction: Literal["reverse", "forward"] = option(
        "display",
        "Drop rows and retrain the base (reverse), or pick repair rows and go on training (forward).",
        "reverse",
    )
    drop: str | None = option("display", "How much to drop: a share (10%), rows (500) or tokens ('20k tok').", None)
    calibrate: list[str] = option(
        "display", "Labelled rows that set a threshold to drop above, in place of --drop.", []
    )
    pool: list[str] = option("data", "Forward: where repair rows may come from.", [])
    budget: str = option("display", "Forward: how many of them.", "5%")
    broken: str | None = option(
        "data", "The broken model, or its LoRA adapter on --model; else it is made from base and data.", None
    )
    at: Literal["broken", "base", "both"] = option("display", "Where rows are scored.", "broken")
    held_out: list[str] = option("data", "Pairs that measure the behaviour; the target's own unless given.", [])
    retain: list[str] = option("data", "Rows whose perplexity should not suffer.", [])
    train: dict[str, Any] = option("display", "Options of prism train: --train epochs=2 learning_rate=1e-4.", {})
    evaluate: dict[str, Any] = option("display", "Options of prism evaluate, likewise.", {})

    @field_validator("held_out", "retain", "calibrate", mode="before")
    @classmethod
    def _any_number(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("train", "evaluate")
    @classmethod
    def _of_commands(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        return handed_on(str(info.field_name), value)

    @field_validator("drop", mode="before")
    @classmethod
    def _amount_to_drop(cls, value: Any) -> Any:
        if value is None:
            return None
        try:
            budget = Budget.parse(value if isinstance(value, int) and not isinstance(value, bool) else str(value))
        except ConfigError as error:
            raise ValueError(str(error).replace("budget", "drop").replace("selected", "dropped")) from error
        if budget.unit == "share" and budget.amount == 100:
            raise ValueError(f"{value!r} would drop every row: nothing would be left to retrain on")
        return str(value)

    @model_validator(mode="after")
    def _enough(self) -> "RepairConfig":
        if self.direction == "reverse":
            if not self.data:
                raise ValueError("reverse repair needs --data, the SFT rows to drop from")
            if (self.drop is None) == (not self.calibrate):
                raise ValueError("give either --drop (how much) or --calibrate (labelled rows that set a threshold)")
            if self.calibrate and self.label_column is None:
                raise ValueError("--calibrate needs --label-column: which column of it says what is harmful")
        else:
            if not self.pool:
                raise ValueError("forward repair needs --pool, where repair rows may come from")
            if self.broken is None and not self.data:
                raise ValueError("forward repair needs the broken model: --broken, or --data to make it from the base")
            if odd := next((n for n in ("drop", "calibrate") if getattr(self, n)), None):
                raise ValueError(f"--{odd} belongs to --direction reverse; forward takes --budget")
            if self.label_column is not None:
                raise ValueError("--label-column belongs to --direction reverse: forward picks rows, it drops none")
            if self.at != "broken":
                raise ValueError(f"--at {self.at} belongs to --direction reverse: forward scores at the broken model")
        return self


def checked(cls: type[C], fields: Mapping[str, Any], what: str = "") -> C:
    """A config of another command, made here: what it refuses is a ConfigError that names the option, and `what`."""
    try:
        return load_config(None, fields, cls)
    except ConfigError as error:
        raise ConfigError(f"{what}: {error}" if what else str(error)) from error
