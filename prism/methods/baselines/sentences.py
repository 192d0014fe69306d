"""Similarity to targets by a sentence-transformers model."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from prism.data import Encoded, Row
from prism.errors import ConfigError, ModelError, first_line
from prism.methods.baselines.rowwise import Batchwise, Floats
from prism.methods.baselines.states import by_mean_states, cosines, embedded_targets
from prism.methods.baselines.texts import row_text, target_text
from prism.methods.context import Context, Options
from prism.model.quiet import quiet_transformers
from prism.scoring.feed import RowScorer


def by_embedding(context: Context, options: Options) -> RowScorer:
    """Cosine of embeddings [rows, targets]: those of `options.embedder`, else the model's own mean hidden states."""
    if options.embedder is None:
        return by_mean_states(context, options)
    embedder = _load(options.embedder, context.device, context.allow_pickle)
    texts = [target_text(pair) for pair in context.pairs[0]]
    limit = f"the first {embedder.max_seq_length} tokens" if embedder.max_seq_length else "all"
    context.progress.note(f"embedding with {options.embedder}, which reads {limit} of a text")
    against = embedded_targets(context, lambda places: _vectors(embedder, [texts[i] for i in places]))

    def measure(rows: Sequence[Row], _: Sequence[Encoded]) -> tuple[Floats, None]:
        return cosines(_vectors(embedder, [row_text(row) for row in rows]), against), None

    return Batchwise(f"embed ({options.embedder})", measure, len(texts), context.batch_tokens)


def _vectors(embedder: Any, texts: Sequence[str]) -> torch.Tensor:
    """Unit vectors [texts, width] on the CPU."""
    found = embedder.encode(list(texts), batch_size=32, normalize_embeddings=True, show_progress_bar=False)
    return torch.from_numpy(np.asarray(found, dtype=np.float32))


def require_embedder(place: str) -> None:
    """Raises ConfigError where sentence-transformers is not installed, ModelError where a path leads nowhere."""
    if find_spec("sentence_transformers") is None:
        raise ConfigError(
            f"--embedder {place} needs sentence-transformers: pip install 'prism-select[embed]', "
            "or leave --embedder out for the model's own hidden states"
        )
    if place.startswith((".", "/", "~")) and not Path(place).expanduser().is_dir():
        raise ModelError(f"the embedder {place} does not exist: give a folder or a hub id (org/name)")


def _load(place: str, device: str, allow_pickle: bool) -> Any:
    """A sentence-transformers model, from safetensors, without code of its own.

    Raises:
        ConfigError: sentence-transformers is not installed.
        ModelError: the model can't be loaded.
    """
    require_embedder(place)
    from sentence_transformers import SentenceTransformer

    with quiet_transformers():
        try:
            return SentenceTransformer(
                place,
                device=None if device == "auto" else device,
                trust_remote_code=False,
                model_kwargs={} if allow_pickle else {"use_safetensors": True},
            )
        except Exception as error:
            raise ModelError(f"the embedder {place} can't be loaded: {first_line(error)}") from error
