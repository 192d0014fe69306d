"""Everything that `prism cascade` can be told."""

from typing import Any

from pydantic import field_validator, model_validator

from prism.budget import Budget
from prism.config import SelectConfig, option
from prism.errors import ConfigError


class CascadeConfig(SelectConfig):
    """The options of `prism select`, which are the second method's, and what comes before it."""

    first: str = option("display", "Cheap method, which reads the whole pool: see prism methods.", "perplexity")
    keep: str = option("display", "What it keeps of the pool: a share (20%), samples or response tokens.", "20%")
    compare_full: bool = option("display", "Also rank the whole pool, to tell what the cascade loses.", False)

    @field_validator("keep", mode="before")
    @classmethod
    def _kept(cls, value: Any) -> str:
        try:
            Budget.parse(value)
        except ConfigError as error:
            raise ValueError(str(error).replace("budget", "keep", 1)) from error
        return str(value)

    @model_validator(mode="after")
    def _sense(self) -> "CascadeConfig":
        if self.first == self.method:
            raise ValueError(f"--first and --method are both {self.method}: prism select does that in one pass")
        if self.dry_run:
            raise ValueError("a cascade has no dry run: prism select --dry-run foretells each of its methods")
        asked, kept = Budget.parse(self.budget), Budget.parse(self.keep)
        if asked.unit == kept.unit and asked.amount >= kept.amount:
            raise ValueError(f"--budget {self.budget} is not below --keep {self.keep}: nothing is left to choose from")
        return self
