"""What a method without gradients works with: the run's data, and its model where it asks for it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from prism.budget import BATCH_TOKENS
from prism.data import Encoded, Encoder, Pair, Pool, Target
from prism.errors import BadRow
from prism.model import Model
from prism.progress import Progress, Silent
from prism.target import encode_pairs
from prism.target.losses import EncodedPair


@dataclass(frozen=True)
class Options:
    """What a baseline can be told; each reads those that concern it.

    aggregate: how scores against single targets make one: mean, max or round-robin; None is the method's own way.
    ngrams: the longest n-grams that `dsir` counts.
    embedder: a sentence-transformers model (folder or hub id) that `embed` takes in place of the run's own model.
    reference: a model or LoRA adapter (folder or hub id) whose loss `delta-loss` takes off the model's.
    """

    aggregate: str | None = None
    ngrams: int = 2
    embedder: str | None = None
    reference: str | None = None


@dataclass(frozen=True)
class Context:
    """The data and model of a run. Nothing is read or loaded before it is asked for.

    words: the run's encoder, made from the tokenizer alone.
    loaded: the run's model and the same encoder; loads the weights at the first call.
    other: another model by its place, or the run's model with another adapter, loaded as the run's own is.
    """

    pool: Pool
    target: Target
    words: Callable[[], Encoder]
    loaded: Callable[[], tuple[Model, Encoder]]
    other: Callable[[str], Model]
    device: str = "auto"
    allow_pickle: bool = False
    seed: int = 0
    batch_tokens: int = BATCH_TOKENS
    progress: Progress = field(default_factory=Silent)

    @cached_property
    def encoded(self) -> tuple[list[Pair], list[EncodedPair], list[BadRow]]:
        """(target pairs, their encodings, rows set aside); the same pairs as gradient methods take. Raises DataError
        where none is left."""
        return encode_pairs(self.target, self.words())

    @cached_property
    def pairs(self) -> tuple[list[Pair], list[Encoded], list[BadRow]]:
        """The same with the encodings of prompt and chosen answer alone."""
        pairs, encoded, rejected = self.encoded
        return pairs, [chosen for chosen, _ in encoded], rejected
