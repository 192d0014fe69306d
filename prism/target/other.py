"""Losses of the target pairs under another model than the one that is scored."""

from prism.budget import BATCH_TOKENS
from prism.data import Encoder, Target
from prism.errors import ModelError
from prism.model import Model
from prism.target.losses import all_losses
from prism.target.weights import Floats


def other_losses(other: Model, target: Target, encoder: Encoder, *, batch_tokens: int = BATCH_TOKENS) -> Floats:
    """`all_losses` of `other`, on the pairs as `encoder`, the scored model's, encodes them.

    Raises:
        ModelError: it has another vocabulary, so that the same tokens say something else to it.
    """
    words = encoder.tokenizer.get_vocab()
    known = min(len(words), encoder.vocabulary or len(words))
    if other.tokenizer.get_vocab() != words or other.network.get_input_embeddings().weight.shape[0] < known:
        where = "the other model" if other.places is None else other.places.adapter or other.places.model
        raise ModelError(f"{where} has another vocabulary than the scored model: it can't read the same pairs")
    return all_losses(other, target, encoder, batch_tokens=batch_tokens)
