"""Methods without gradients, as rows of one table."""

from collections.abc import Callable
from dataclasses import dataclass, fields

from prism.errors import ConfigError
from prism.methods.baselines.bm25 import by_words
from prism.methods.baselines.dsir import by_importance
from prism.methods.baselines.losses import by_difficulty, by_perplexity, by_reducible_loss
from prism.methods.baselines.sentences import by_embedding
from prism.methods.baselines.simple import by_chance, by_length
from prism.methods.baselines.states import by_late_states
from prism.methods.context import Context, Options
from prism.scoring.feed import RowScorer

AGGREGATES = ("mean", "max", "round-robin")


@dataclass(frozen=True)
class Baseline:
    """A method that scores rows without gradients.

    prepare: makes ready to score the rows of a context's pool; called only where there are rows to be scored.
    needs_model: whether it runs the model's weights, and not its tokenizer alone.
    needs_target: whether scores depend on the target, which may be left out else.
    aggregate: how it makes one score of those against single targets; None where it has but one score.
    takes: the options (fields of `Options`) that it reads, besides `aggregate`.
    requires: the one among them that it can't do without; spared_by: the one that makes the weights unnecessary.
    """

    name: str
    about: str
    formula: str
    source: str
    cost: str
    prepare: Callable[[Context, Options], RowScorer]
    needs_model: bool = False
    needs_target: bool = True
    aggregate: str | None = None
    takes: tuple[str, ...] = ()
    requires: str | None = None
    spared_by: str | None = None

    def loads(self, options: Options) -> bool:
        """Whether the model's weights are loaded, given these options."""
        return self.needs_model and not (self.spared_by and getattr(options, self.spared_by))

    def aggregated(self, options: Options) -> str | None:
        """How scores against single targets make one."""
        return options.aggregate or self.aggregate

    def check(self, options: Options) -> None:
        """Raises ConfigError where an option is missing, unknown or of no concern here."""
        takes = {*self.takes, *(("aggregate",) if self.aggregate else ())}
        for field in fields(Options):
            if getattr(options, field.name) != field.default and field.name not in takes:
                raise ConfigError(f"{self.name} takes no --{field.name}: leave it out")
        if options.aggregate not in (None, *AGGREGATES):
            raise ConfigError(f"aggregate {options.aggregate!r} is none of {', '.join(AGGREGATES)}")
        if options.ngrams < 1:
            raise ConfigError(f"ngrams must be at least 1, not {options.ngrams}")
        if self.requires and not getattr(options, self.requires):
            raise ConfigError(f"{self.name} needs --{self.requires}, a model or LoRA adapter")


BASELINES: dict[str, Baseline] = {
    baseline.name: baseline
    for baseline in (
        Baseline(
            "random",
            "chance, the same for the same seed and id",
            "u(seed, id), uniform in (0, 1)",
            "control",
            "the pool read once",
            by_chance,
            needs_target=False,
        ),
        Baseline(
            "longest",
            "the longest responses first",
            "|y|, response tokens",
            "control: a summed loss favours long samples",
            "the pool read once",
            by_length,
            needs_target=False,
        ),
        Baseline(
            "bm25",
            "rows that share rare words with the targets' texts",
            "mean_q sum_{w in q} idf(w) f / (f + k1 (1 - b + b |z| / mean |z|))",
            "Robertson and Zaragoza 2009, Lucene's variant as in bm25s (arXiv 2407.03618)",
            "the pool read twice",
            by_words,
            aggregate="mean",
        ),
        Baseline(
            "dsir",
            "importance resampling on hashed n-grams",
            "log p_target(z) - log p_pool(z) + Gumbel(seed, id)",
            "Xie et al., arXiv 2302.03169",
            "the pool read twice",
            by_importance,
            takes=("ngrams",),
        ),
        Baseline(
            "embed",
            "similarity of mean embeddings to the targets'",
            "mean_q cos(h(z), h(q)), h the mean of the last hidden states or --embedder's",
            "representation similarity, mean-pooled; sentence-transformers, arXiv 1908.10084",
            "1/3 pass: forward, without logits",
            by_embedding,
            needs_model=True,
            aggregate="mean",
            takes=("embedder",),
            spared_by="embedder",
        ),
        Baseline(
            "rds+",
            "each target in turn takes the row that is nearest in hidden states",
            "-place in the round-robin of cos(h(z), h(q)), h = sum_i i h_i / sum_i i",
            "Ivison et al., arXiv 2503.01807",
            "1/3 pass: forward, without logits",
            by_late_states,
            needs_model=True,
            aggregate="round-robin",
        ),
        Baseline(
            "perplexity",
            "the responses that the model finds likeliest first",
            "-l(y | x)",
            "Marion et al., arXiv 2309.04564, who compare lowest, middle and highest",
            "1/3 pass: forward",
            by_perplexity,
            needs_model=True,
            needs_target=False,
        ),
        Baseline(
            "ifd",
            "responses that the prompt helps least, yet helps",
            "IFD = l(y | x) / l(y); 1 - IFD where that is above 1",
            "Li et al., arXiv 2308.12032",
            "up to 2/3 pass: forward with and without prompts",
            by_difficulty,
            needs_model=True,
            needs_target=False,
        ),
        Baseline(
            "delta-loss",
            "what a reference that knows the target has learned, and the model has not",
            "l(y | x) - l_reference(y | x)",
            "reducible holdout loss of Mindermann et al., arXiv 2206.07137",
            "2/3 pass: forward of two models",
            by_reducible_loss,
            needs_model=True,
            needs_target=False,
            takes=("reference",),
            requires="reference",
        ),
    )
}
