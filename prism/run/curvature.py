"""The curvature of a run: fitted into its folder, found there again, or taken from elsewhere."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from prism.config import SelectConfig, bytes_of
from prism.curvature import Curvature, Damping, Diagonal, Fitted, Identity
from prism.curvature.described import described, require_same
from prism.curvature.factorless import FACTORLESS, solver
from prism.curvature.fit import FitOptions, fit_into
from prism.curvature.store import Folder, read_finished
from prism.data import Encoder
from prism.errors import ConfigError, RunError
from prism.methods.moments import load_moments
from prism.methods.recipe import Recipe
from prism.model import Model
from prism.progress import Progress
from prism.run.folder import CURVATURE
from prism.run.prepare import Job
from prism.target import Direction

FILES = ("model", "adapter", "tokenizer", "template")
ENCODING = ("columns", "responses", "plain", "max_length", "seed")
FIT = ("curvature_samples", "curvature_labels")


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
    """The curvature of a run, with its damping; fits or finds it, and says what it does.

    Raises:
        RunError: what `curvature_from` holds is of another model or of other parameters, unfinished or damaged.
        ConfigError: `adam` without a checkpoint.
        ModelError, DataError: as `fit_into`; as `load_moments`.
    """
    config = job.config
    kind: Any = kind_of(job)
    if kind == "identity":
        return Identity()
    damping = Damping.parse(config.damping)
    progress.note(f"curvature {kind}: damping {damping}")
    if kind == "adam":
        return _adam(config, model, damping, progress)
    identity = fit_identity(job, folder, model, kind)
    if config.curvature_from is not None:
        return _from_elsewhere(Path(config.curvature_from), identity, kind, damping, progress)
    if kind in FACTORLESS:
        what = "the Gauss-Newton matrix" if kind == "cg" else "the mean of inverses"
        progress.note(f"curvature {kind}: {what} of {config.curvature_samples:,} samples at most, no factors")
        return _Once(kind, job, folder.path / CURVATURE, identity, model, encoder, damping, progress)
    store = Folder(folder.path / CURVATURE, identity)
    fit_into(store, model, job.pool, encoder, kind, fit_options(config), progress)
    return Fitted(kind, damping, store.blocks(), store.means)


def is_fitted(job: Job, folder: Place, model: Model, kind: str) -> bool:
    """Whether the folder of a run holds all of its curvature already."""
    if kind in FACTORLESS:
        return any((folder.path / CURVATURE).glob("solved-*.safetensors"))
    store = Folder(folder.path / CURVATURE, fit_identity(job, folder, model, kind))
    return set(store.means) == set(model.parameters)


def fit_options(config: SelectConfig) -> FitOptions:
    return FitOptions(
        samples=config.curvature_samples,
        labels=config.curvature_labels,
        seed=config.seed,
        batch_tokens=config.batch_tokens,
        memory=bytes_of(config.direction_memory),
    )


def fit_identity(job: Job, folder: Place, model: Model, kind: str) -> dict[str, Any]:
    """All that the fit of a run depends on."""
    whole = folder.identity
    files = {name: whole[name] for name in FILES if name in whole}
    options = {name: getattr(job.config, name) for name in (*ENCODING, *FIT)}
    return described(model, kind, files, whole["pool"], options)


def _adam(config: SelectConfig, model: Model, damping: Damping, progress: Progress) -> Fitted:
    """H = diag(v / (1 - beta_2^t)), the bias-corrected second moment of the gradients of a training's batches."""
    if config.curvature_from is None:
        raise ConfigError("--curvature adam needs an optimizer's state: name its checkpoint with --curvature-from")
    moments = load_moments(Path(config.curvature_from), model)
    for notice in moments.notices:
        progress.note(notice)
    squares = {
        name: second / (1 - moments.betas[1] ** moments.steps[name]) if moments.steps[name] else second
        for name, second in moments.second.items()
    }
    blocks = {name: Diagonal(square) for name, square in squares.items()}
    return Fitted("adam", damping, blocks, {name: block.mean() for name, block in blocks.items()})


def _from_elsewhere(
    place: Path, identity: Mapping[str, Any], kind: str, damping: Damping, progress: Progress
) -> Fitted:
    path = place / CURVATURE if (place / CURVATURE).is_dir() else place
    there, means, blocks = read_finished(path)
    require_same(identity, there, str(path))
    options = there["option"]
    progress.note(
        f"curvature {kind} from {path}: fitted there on up to {options['curvature_samples']:,} samples, with labels of "
        f"the {options['curvature_labels']}"
    )
    return Fitted(kind, damping, blocks, means)


@dataclass
class _Once:
    """A curvature without factors, which keeps in `path` what it finds for a run's own direction."""

    name: str
    job: Job
    path: Path
    identity: Mapping[str, Any]
    model: Model
    encoder: Encoder
    own: Damping
    progress: Progress
    _made: Curvature | None = None

    def solve(self, direction: Direction, damping: Damping | None = None) -> Direction:
        damping = damping or self.own
        if "weights" not in direction.provenance:  # of a single pair
            return self._solver().solve(direction, damping)
        config = self.job.config
        made_of = repr((self.identity, str(damping), config.cg_tolerance, config.cg_iterations))
        digest = hashlib.sha256(made_of.encode())
        for name, tensor in sorted(direction.tensors.items()):  # a file has them in another order than the model
            digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
        file = self.path / f"solved-{digest.hexdigest()[:16]}.safetensors"
        try:
            found = Direction.load(file)
        except RunError:
            found = self._solver().solve(direction, damping)
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                found.save(file)
            except OSError as error:
                raise RunError(f"{file} can't be written: {error.strerror or error}") from error
            return found
        near = f", of residual {found.provenance['residual']:.1e}" if "residual" in found.provenance else ""
        self.progress.note(f"reused the solution of {self.name}{near}")
        return Direction({n: t.to(direction.tensors[n]) for n, t in found.tensors.items()}, found.provenance)

    def _solver(self) -> Curvature:
        if self._made is None:
            config = self.job.config
            options = replace(fit_options(config), labels=FACTORLESS[self.name])
            samples = options.choose(self.model, self.job.pool, self.encoder, self.progress)
            self._made = solver(
                self.name,
                self.model,
                samples,
                self.own,
                self.progress,
                tolerance=config.cg_tolerance,
                iterations=config.cg_iterations,
            )
        return self._made
