"""How much to select: a share of the pool, a number of samples, or a number of response tokens."""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from prism.errors import ConfigError

BATCH_TOKENS = 4096  # padded tokens: no more than a trainer holds at once; on two cores 8,192 were no faster

SYNTAX = "a share ('5%'), a number of samples ('1000') or of response tokens ('200k tok')"
SHARE = re.compile(r"(\d+(?:\.\d+)?)\s*%")
SAMPLES = re.compile(r"(\d[\d_,]*)(?:\s*(?:samples?|rows?))?")
TOKENS = re.compile(r"(\d[\d_,]*(?:\.\d+)?)\s*([kKmM]?)\s*tok(?:ens?)?")
SCALE = {"": 1, "k": 1_000, "m": 1_000_000}


@dataclass(frozen=True)
class Budget:
    """An amount in one unit; `amount` of a share is in percent."""

    amount: Decimal
    unit: Literal["share", "samples", "tokens"]

    @classmethod
    def parse(cls, text: str | int) -> "Budget":
        """Raises ConfigError for what is no budget, zero, negative, or above 100 %."""
        clean = str(text).strip()
        if match := SHARE.fullmatch(clean):
            budget = cls(Decimal(match[1]), "share")
        elif match := SAMPLES.fullmatch(clean):
            budget = cls(_number(match[1]), "samples")
        elif match := TOKENS.fullmatch(clean):
            budget = cls(_number(match[1]) * SCALE[match[2].lower()], "tokens")
        else:
            hint = "; a budget must be positive" if clean.startswith("-") else ""
            raise ConfigError(f"budget {text!r} is not {SYNTAX}{hint}")
        if budget.amount <= 0:
            raise ConfigError(f"budget {text!r} is zero: nothing would be selected")
        if budget.unit == "share" and budget.amount > 100:
            raise ConfigError(f"budget {text!r} is above 100 % of the pool")
        return budget

    def resolve(self, samples: int, tokens: int) -> tuple[int, int]:
        """(most samples, most response tokens) out of a pool of `samples` rows with `tokens` response tokens in all.

        A share is rounded down, but is at least one sample.

        Raises:
            ConfigError: the budget is above the pool.
        """
        if self.unit == "share":
            return max(1, int(self.amount * samples / 100)), tokens
        if self.unit == "samples":
            if self.amount > samples:
                raise ConfigError(f"budget {self.amount} is above the pool's {samples} samples")
            return int(self.amount), tokens
        if self.amount > tokens:
            raise ConfigError(f"budget {self.amount:f} tok is above the pool's {tokens} response tokens")
        return samples, int(self.amount)


def _number(text: str) -> Decimal:
    return Decimal(re.sub("[_,]", "", text))


@dataclass(frozen=True)
class Quota:
    """How much of a budget one source has to make at least, and may make at most."""

    source: str
    least: Budget | None
    most: Budget | None

    @classmethod
    def parse(cls, text: str) -> "Quota":
        """`web=20%` (just that), `web=10%..30%`, `web=10%..` or `web=..30%`; rows or response tokens go as well.

        Raises:
            ConfigError: it is none of these, or the least is above the most in the same unit.
        """
        source, _, amount = str(text).rpartition("=")
        low, dots, high = (part.strip() for part in amount.partition(".."))
        if not source.strip() or not (low or high):
            raise ConfigError(f"quota {text!r} is not SOURCE=20%, SOURCE=10%..30%, SOURCE=10%.. or SOURCE=..30%")
        try:
            least = Budget.parse(low) if low else None
            most = (Budget.parse(high) if high else None) if dots else least
        except ConfigError as error:
            raise ConfigError(f"quota {text!r}: {error}") from error
        if least and most and least.unit == most.unit and least.amount > most.amount:
            raise ConfigError(f"quota {text!r} asks for more at least than at most")
        return cls(source.strip(), least, most)
