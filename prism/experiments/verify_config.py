"""What `prism verify` can be told."""

from typing import Any

from pydantic import field_validator

from prism.budget import Budget
from prism.config import Config, option
from prism.errors import ConfigError
from prism.experiments.options import handed_on


class VerifyConfig(Config):
    """Everything that `prism verify` can be told."""

    run: str = option("data", "A finished run folder of prism select.")
    out: str | None = option("display", "Folder; RUN-verify beside the run unless given.", None)
    held_out: list[str] = option("data", "Held-out pairs to be measured too.", [])
    sizes: list[float] = option(
        "display", "Lengths of a step, as shares of the weights' norm.", [1e-5, 1e-4, 1e-3, 1e-2, 1e-1]
    )
    training: bool = option("display", "Also train on the whole selection, and on as many random rows.", True)
    lds: bool = option("display", "Linear datamodeling score: retrain on random subsets, and compare.", False)
    subsets: int = option("display", "How many of them.", 50, ge=3)
    subset_share: str = option("display", "How much of the pool each holds.", "50%")
    rows: int | None = option(
        "display", "Draw subsets from so many random rows, instead of the whole pool.", None, ge=2
    )
    methods: list[str] = option("display", "Methods to score by, next to the run's own: prism,prism-ekfac,less.", [])
    checkpoints: list[str] = option("data", "Checkpoints for methods that need some.", [])
    train: dict[str, Any] = option("display", "Options of prism train: --train epochs=1 learning_rate=1e-4.", {})
    seed: int = option("display", "Seed of subsets, random rows and trainings.", 0, ge=0)
    quiet: bool = option("display", "Print errors only.", False)
    as_json: bool = option("display", "Print the results as one JSON object.", False, alias="json")

    @field_validator("held_out", "checkpoints", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("methods", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        many = [value] if isinstance(value, str) else value
        return [name.strip() for one in many for name in str(one).split(",") if name.strip()]

    @field_validator("train")
    @classmethod
    def _of_training(cls, value: dict[str, Any]) -> dict[str, Any]:
        return handed_on("train", value)

    @field_validator("sizes", mode="before")
    @classmethod
    def _numbers(cls, value: Any) -> Any:
        many = value if isinstance(value, list) else [value]
        try:
            found = [float(part) for one in many for part in str(one).split(",")]
        except ValueError as error:
            raise ValueError(f"{value!r} are no numbers such as 1e-4,1e-3") from error
        if not found or not all(0 < size < float("inf") for size in found):
            raise ValueError("the length of a step is a positive number")
        return sorted(found)

    @field_validator("subset_share")
    @classmethod
    def _share(cls, value: str) -> str:
        try:
            budget = Budget.parse(value)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        if budget.unit != "share" or budget.amount == 100:
            raise ValueError(f"{value!r} is no share below 100%: subsets must differ")
        return value
