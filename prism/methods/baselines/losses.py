"""Losses of the responses, and what they are without the prompt or under another model."""

from collections.abc import Sequence

import numpy as np
import torch

from prism.data import Encoded, Row, collate
from prism.errors import ConfigError
from prism.methods.baselines.rowwise import Batchwise, Floats
from prism.methods.context import Context, Options
from prism.model import Model, sample_losses, token_losses
from prism.scoring.feed import RowScorer


def by_perplexity(context: Context, _: Options) -> RowScorer:
    """-l(y | x): the response that the model finds likeliest first."""
    model = context.loaded()[0]

    def measure(_: Sequence[Row], samples: Sequence[Encoded]) -> tuple[Floats, Floats]:
        sums, means = losses_of(model, samples)
        return -means[:, None], sums

    return Batchwise("perplexity", measure, 1, context.batch_tokens)


def by_difficulty(context: Context, _: Options) -> RowScorer:
    """IFD = l(y | x) / l(y), the loss of the response with its prompt over that without (Li et al., arXiv 2308.12032).
    Where it is above 1, so that the prompt is no help, the authors drop the row; here its score is 1 - IFD,
    below all others."""
    model, encoder = context.loaded()
    start = encoder.tokenizer.bos_token_id

    def measure(_: Sequence[Row], samples: Sequence[Encoded]) -> tuple[Floats, Floats]:
        sums, means = losses_of(model, samples)
        alone = losses_of(model, [without_prompt(sample, start) for sample in samples])[1]
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = means / alone
        return np.where(ratio > 1, 1 - ratio, ratio)[:, None], sums

    return Batchwise("ifd", measure, 1, context.batch_tokens)


def by_reducible_loss(context: Context, options: Options) -> RowScorer:
    """l(y | x) - l_reference(y | x): what a model that knows the target has learned already and this one has not (the
    reducible holdout loss of Mindermann et al., arXiv 2206.07137, eq. 3, per token)."""
    assert options.reference is not None
    model = context.loaded()[0]
    reference = context.other(options.reference)
    if reference.tokenizer.get_vocab() != model.tokenizer.get_vocab():
        raise ConfigError(
            f"the reference {options.reference} has another vocabulary than the model: losses per token differ"
        )

    def measure(_: Sequence[Row], samples: Sequence[Encoded]) -> tuple[Floats, Floats]:
        sums, means = losses_of(model, samples)
        return (means - losses_of(reference, samples)[1])[:, None], sums

    return Batchwise("delta-loss", measure, 1, context.batch_tokens)


def losses_of(model: Model, samples: Sequence[Encoded]) -> tuple[Floats, Floats]:
    """(sum, mean) of the losses of each sample's response tokens, in nats [B]."""
    batch = collate(samples).to(model.device)
    with torch.no_grad():
        sums: Floats = sample_losses(token_losses(model.network, batch), batch).double().cpu().numpy()
    return sums, sums / np.array([s.response_tokens for s in samples])


def without_prompt(sample: Encoded, start: int | None) -> Encoded:
    """The response tokens alone, behind the token that a text starts with; where there is none, behind the one that
    stands before the response."""
    if start is None:
        start = int(sample.ids[int(np.argmax(sample.response)) - 1])
    ids = np.concatenate([[start], sample.ids[sample.response]])
    return Encoded(ids, np.arange(len(ids)) > 0, sample.truncated)
