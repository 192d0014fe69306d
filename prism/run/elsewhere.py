"""What other models than the one that is scored say of the target pairs."""

from dataclasses import dataclass

from prism.config import SelectConfig
from prism.data import Encoder
from prism.methods.recipe import Recipe
from prism.progress import Progress
from prism.run.checkpoints import Checkpoint
from prism.run.others import weighing_place
from prism.run.prepare import Job, load
from prism.target.measure import all_losses
from prism.target.weights import Floats


@dataclass(frozen=True)
class Elsewhere:
    """Mean-token losses [2, pairs], in the order of `encode_pairs`, None where nobody asks for them: of the `reference`
    that a dpo loss refers to, and those whose preferences weigh the pairs (`weighing`)."""

    reference: Floats | None
    weighing: Floats | None


def elsewhere(job: Job, encoder: Encoder, progress: Progress) -> Elsewhere:
    """Measured by forward passes; raises ModelError where a model can't be loaded."""
    reference = weighing = None
    if isinstance(job.method, Recipe) and job.method.target == "dpo" and job.checkpoints[0].path:
        progress.note("losses of the pairs under the model before the warm-up, which the dpo loss refers to")
        reference = _losses(job, job.config, encoder, progress)
    if job.config.preference_from is not None:
        place = weighing_place(job.config.preference_from, job.config.allow_pickle)
        progress.note(f"the pairs are weighed by the preferences of {place}")
        config = Checkpoint(place).applied(job.config, job.places.tokenizer)
        weighing = _losses(job, config, encoder, progress)
    return Elsewhere(reference, weighing)


def _losses(job: Job, config: SelectConfig, encoder: Encoder, progress: Progress) -> Floats:
    model, _ = load(config, progress)
    return all_losses(model, job.target, encoder, batch_tokens=config.batch_tokens)
