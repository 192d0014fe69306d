"""What other models than the one that is scored say of the target pairs."""

import time
from dataclasses import dataclass
from pathlib import Path

from prism.config import SelectConfig
from prism.data import Encoder
from prism.methods.recipe import Recipe
from prism.model.places import has_tokenizer
from prism.progress import Progress
from prism.run.others import weighing_model
from prism.run.prepare import Job, load
from prism.target.other import other_losses
from prism.target.weights import Floats


@dataclass(frozen=True)
class Elsewhere:
    """Mean-token losses [2, pairs], in the order of `encode_pairs`, None where nobody asks for them: of the `reference`
    that a dpo loss refers to, and those whose preferences weigh the pairs (`weighing`); `seconds` are those of the
    forward passes."""

    reference: Floats | None
    weighing: Floats | None
    seconds: float


def elsewhere(job: Job, encoder: Encoder, progress: Progress) -> Elsewhere:
    """Measured by forward passes; raises ModelError where a model can't be loaded."""
    reference = weighing = None
    seconds = 0.0
    if isinstance(job.method, Recipe) and job.method.target == "dpo" and job.checkpoints[0].path:
        progress.note("losses of the pairs under the model before the warm-up, which the dpo loss refers to")
        reference, seconds = _losses(job, job.config, encoder, progress)
    if job.config.preference_from is not None:
        model, adapter = weighing_model(job.config)
        place = adapter or model
        progress.note(f"the pairs are weighed by the preferences of {place}")
        changes = {"model": model, "adapter": adapter, "revision": job.config.revision if adapter else None}
        words = place if has_tokenizer(Path(place)) else job.places.tokenizer
        config = job.config.model_copy(update={**changes, "tokenizer": str(words)})
        weighing, more = _losses(job, config, encoder, progress)
        seconds += more
    return Elsewhere(reference, weighing, seconds)


def _losses(job: Job, config: SelectConfig, encoder: Encoder, progress: Progress) -> tuple[Floats, float]:
    """The losses, and what they took beside loading the model."""
    model, _ = load(config.model_copy(update={"parameters": "unpacked"}), progress)  # none needs to be trainable
    began = time.monotonic()
    return other_losses(model, job.target, encoder, batch_tokens=config.batch_tokens), time.monotonic() - began
