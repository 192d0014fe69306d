"""A gradient method that takes more than one direction, one checkpoint or one product, in a run folder."""

from prism.data import Encoder
from prism.errors import ConfigError
from prism.methods.recipe import Recipe
from prism.progress import Progress
from prism.run.clock import Clock
from prism.run.folder import RunFolder
from prism.run.prepare import Job, load
from prism.scoring import ScoreTable
from prism.target import MeasuredTarget
from prism.target.measure import all_losses
from prism.target.weights import Floats


def reference_losses(job: Job, encoder: Encoder, progress: Progress) -> Floats | None:
    """Mean-token losses [2, pairs] under the model before any warm-up, which `dpo` refers to; None where
    that is the model itself, and for other objectives."""
    if not (isinstance(job.method, Recipe) and job.method.target == "dpo" and job.checkpoints[0].path):
        return None
    progress.note("losses of the pairs under the model before the warm-up, which the dpo loss refers to")
    model, _ = load(job.config, progress)
    return all_losses(model, job.target, encoder, batch_tokens=job.config.batch_tokens)


def score_recipe(
    recipe: Recipe, job: Job, folder: RunFolder, clock: Clock, progress: Progress
) -> tuple[MeasuredTarget, ScoreTable]:
    raise ConfigError(f"the method {recipe.name} can't be scored yet")
