"""The curvature of a run: fitted into its folder, found there again, or taken from elsewhere."""

from pathlib import Path
from typing import Any, Protocol

from prism.config import bytes_of
from prism.curvature import Curvature, Damping, Fitted, Identity
from prism.curvature.described import described, require_same
from prism.curvature.fit import Plan, fit_blocks
from prism.curvature.sample import fit_samples
from prism.curvature.store import Folder, read_finished
from prism.data import Encoder
from prism.errors import RunError
from prism.methods.recipe import Recipe
from prism.model import Model
from prism.progress import Progress
from prism.run.folder import CURVATURE
from prism.run.prepare import Job

FILES = ("model", "adapter", "tokenizer", "template")
OPTIONS = ("columns", "responses", "plain", "max_length", "seed", "curvature_samples", "curvature_labels")


class Place(Protocol):
    """A folder for the curvature, and what the run (or its part at one checkpoint) was made from."""

    @property
    def path(self) -> Path: ...

    @property
    def identity(self) -> dict[str, Any]: ...


def kind_of(job: Job) -> str:
    """The curvature that a run takes: the user's, else its method's own."""
    own = job.method.curvature if isinstance(job.method, Recipe) else "identity"
    return job.config.curvature or own


def curvature_of(job: Job, folder: Place, model: Model, encoder: Encoder, progress: Progress) -> Curvature:
    """The curvature of a run, and its damping; fits or finds it, and says what it does.

    Raises:
        RunError: what `curvature_from` holds is of another model or of other parameters, unfinished or damaged.
        ModelError, DataError: as `fit_blocks`.
    """
    config, kind = job.config, kind_of(job)
    if kind == "identity":
        return Identity()
    damping = Damping.parse(config.damping)
    identity = _identity(job, folder, model, kind)
    if config.curvature_from is not None:
        curvature = _from_elsewhere(Path(config.curvature_from), identity, kind, damping, progress)
    else:
        curvature = _own(job, folder, model, encoder, kind, identity, damping, progress)
    progress.note(f"curvature {kind}: damping {damping}")
    return curvature


def _own(
    job: Job,
    folder: Place,
    model: Model,
    encoder: Encoder,
    kind: Any,
    identity: dict[str, Any],
    damping: Damping,
    progress: Progress,
) -> Fitted:
    config = job.config
    store = Folder(folder.path / CURVATURE, identity)
    plan = Plan.make(model, kind, bytes_of(config.direction_memory))
    if set(store.means) == set(model.parameters):
        progress.note(f"reused the fitted curvature {kind}")
    else:
        progress.note(f"curvature {kind}: {plan}")
        samples = fit_samples(
            model,
            job.pool,
            encoder,
            count=config.curvature_samples,
            labels=config.curvature_labels,
            seed=config.seed,
            batch_tokens=config.batch_tokens,
            progress=progress,
        )
        progress.note(f"curvature {kind}: fitted on {samples} of the pool's {len(job.pool):,} rows")
        fit_blocks(model, samples, plan, store, progress)
    return Fitted(kind, damping, store.blocks(), store.means)


def _from_elsewhere(place: Path, identity: dict[str, Any], kind: str, damping: Damping, progress: Progress) -> Fitted:
    path = place / CURVATURE if (place / CURVATURE).is_dir() else place
    if not path.is_dir():
        raise RunError(f"--curvature-from {place} is no folder: name a run with a fitted curvature, or its folder")
    there, means, blocks = read_finished(path)
    require_same(identity, there, str(path))
    options = there["option"]
    progress.note(
        f"curvature {kind} from {path}, where it was fitted on up to {options['curvature_samples']:,} samples with "
        f"labels of the {options['curvature_labels']}"
    )
    return Fitted(kind, damping, blocks, means)


def _identity(job: Job, folder: Place, model: Model, kind: str) -> dict[str, Any]:
    whole = folder.identity
    files = {name: whole[name] for name in FILES if name in whole}
    options = {name: getattr(job.config, name) for name in OPTIONS}
    return described(model, kind, files, whole["pool"], options)
