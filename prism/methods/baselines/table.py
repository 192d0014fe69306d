"""Methods without gradients, as rows of one table."""

from collections.abc import Callable
from dataclasses import dataclass

from prism.errors import ConfigError
from prism.methods.baselines.simple import by_chance, by_length
from prism.methods.context import Context, Options
from prism.scoring.feed import RowScorer

AGGREGATES = ("mean", "max", "round-robin")


@dataclass(frozen=True)
class Baseline:
    """A method that scores rows without gradients.

    prepare: makes ready to score the rows of a context's pool; called only where there are rows to be scored.
    aggregate: how it makes one score of those against single targets; None where it has but one score.
    needs_model: whether it runs the model's weights, and not its tokenizer alone.
    spared_by: the option (a field of `Options`) that makes the weights unnecessary.
    """

    name: str
    about: str
    formula: str
    source: str
    cost: str
    needs_model: bool
    prepare: Callable[[Context, Options], RowScorer]
    aggregate: str | None = None
    spared_by: str | None = None

    def loads(self, options: Options) -> bool:
        """Whether the model's weights are loaded, given these options."""
        return self.needs_model and not (self.spared_by and getattr(options, self.spared_by))

    def aggregated(self, options: Options) -> str | None:
        """How scores against single targets make one.

        Raises:
            ConfigError: there is no such way, or no such scores.
        """
        if options.aggregate is None:
            return self.aggregate
        if self.aggregate is None:
            raise ConfigError(f"{self.name} has one score a row, and nothing to aggregate: drop --aggregate")
        if options.aggregate not in AGGREGATES:
            raise ConfigError(f"aggregate {options.aggregate!r} is none of {', '.join(AGGREGATES)}")
        return options.aggregate


BASELINES: dict[str, Baseline] = {
    baseline.name: baseline
    for baseline in (
        Baseline(
            "random",
            "chance, the same for the same seed and id",
            "u(seed, id), uniform in (0, 1)",
            "control",
            "reading the pool",
            needs_model=False,
            prepare=by_chance,
        ),
        Baseline(
            "longest",
            "the longest responses first",
            "|y|, response tokens",
            "control: a summed loss favours long samples",
            "reading the pool",
            needs_model=False,
            prepare=by_length,
        ),
    )
}
