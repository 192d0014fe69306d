"""Scoring in one call, for programs that need no run folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from prism.budget import BATCH_TOKENS
from prism.curvature import Curvature, Damping, Fitted, Identity
from prism.curvature.described import described
from prism.curvature.factorless import FACTORLESS, solver
from prism.curvature.fit import FitOptions, fit_into
from prism.curvature.sample import Labels
from prism.curvature.store import BlockStore, Folder, Memory
from prism.data import Pool, Responses, Target
from prism.errors import ConfigError
from prism.methods.memory import score_in_memory
from prism.methods.recipe import Recipe
from prism.methods.table import find_method
from prism.model import Model
from prism.progress import Progress, Silent
from prism.scoring import EngineName, ScoreTable, score_pool
from prism.target import measure_target
from prism.target.other import other_losses


def score(
    model: Model,
    pool: Pool,
    target: Target,
    *,
    method: str | Recipe = "prism",
    checkpoints: Sequence[str | Path] = (),
    curvature: Curvature | None = None,
    preference_from: Model | None = None,
    gradient_norms: bool = False,
    engine: EngineName = "auto",
    responses: Responses = "last",
    plain: bool = False,
    max_length: int | None = None,
    batch_tokens: int = BATCH_TOKENS,
    progress: Progress | None = None,
) -> ScoreTable:
    """Score every row of `pool` by its influence on the target behaviour, s(z) = g_z' H_lambda^-1 g_KL.

    `g_z` is the gradient of the summed response loss of z, `g_KL` the preference-weighted direction of the target
    (PRISM, arXiv 2605.21422; METHOD eqs 4-8). Exact: nothing is projected or sampled.

    Args:
        method: another gradient method of `prism methods`, a recipe's path, or a `Recipe`.
        checkpoints: for methods that sum over them, such as LESS: folders as `--checkpoints` takes.
        curvature: H_lambda; the identity unless given.
        preference_from: a model of the same vocabulary whose preferences weigh the pairs, in place of `model`'s own.
        gradient_norms: also ||g_z||.
        engine: `"backward"` (exact up to rounding), `"forward"` (no backward pass), or `"auto"`: forward for pools of
            1,024 rows and more in float32 where it is measured to be within 1e-3 of the exact scores, else backward.
        responses: loss on the `"last"` assistant turn, or on `"all"`.
        plain: join prompt and completion as text even where the tokenizer has a chat template.
        max_length: longest sample, in tokens; 2,048 or the model's limit unless given.
        batch_tokens: padded tokens per batch.

    Returns:
        A table with one row per scored sample, in the pool's order; `.rejected` lists the rows set aside.

    Raises:
        DataError: no pair or no row can be used, or no score is finite.
        ConfigError: `max_length` is beyond the model's positions, the method lacks what it needs, or weighs all pairs
            alike though `preference_from` is given.
        ModelError: `preference_from` has another vocabulary.
    """
    encoder = model.encoder(max_length=max_length, responses=responses, plain=plain)
    recipe = find_method(method) if isinstance(method, str) else method
    if not isinstance(recipe, Recipe):
        raise ConfigError(f"the baseline {recipe.name} scores in a run folder: prism select --method {recipe.name}")
    weighing = None
    if preference_from is not None:
        recipe.require_preferences("preference_from")
        weighing = other_losses(preference_from, target, encoder, batch_tokens=batch_tokens)
    if not recipe.plain or checkpoints or recipe.curvature != "identity":
        return score_in_memory(
            recipe,
            model,
            pool,
            target,
            encoder,
            checkpoints=checkpoints,
            curvature=curvature,
            weighing=weighing,
            norms=gradient_norms,
            engine=engine,
            batch_tokens=batch_tokens,
            progress=progress,
        )
    measured = measure_target(
        model,
        target,
        encoder,
        objective=recipe.objective,
        weighing=weighing,
        batch_tokens=batch_tokens,
        progress=progress,
    )
    direction = (curvature or Identity()).solve(measured.direction)
    return score_pool(
        model,
        pool,
        direction,
        encoder,
        batch_tokens=batch_tokens,
        norms=gradient_norms,
        engine=engine,
        progress=progress,
    )


def fit_curvature(
    model: Model,
    pool: Pool,
    kind: Literal["diagonal", "kfac", "ekfac", "cg", "datainf"] = "ekfac",
    *,
    samples: int = 2000,
    labels: Labels = "model",
    damping: str = "0.1 mean",
    seed: int = 0,
    folder: str | Path | None = None,
    memory: int = 4_000_000_000,
    responses: Responses = "last",
    plain: bool = False,
    max_length: int | None = None,
    batch_tokens: int = BATCH_TOKENS,
    tolerance: float = 1e-3,
    iterations: int = 100,
    progress: Progress | None = None,
) -> Curvature:
    """Fit a curvature of the SFT loss on `samples` rows of `pool`, for `score(curvature=…)` (docs/curvature.md).

    Args:
        kind: `"diagonal"`, `"kfac"` (1503.05671), `"ekfac"` (1806.03884), or `"cg"`: no factors, but conjugate
            gradients on the Gauss-Newton product over the samples each time that it is applied; or `"datainf"`
            (2310.00902), the mean of single samples' inverses, with two passes over them each time.
        samples: rows, spread evenly over the pool, one drawn with `seed` out of each of so many equal parts.
        labels: drawn from the `"model"` (true Fisher), or the `"data"`'s own (empirical Fisher).
        damping: `"0.1 mean"`, a share of each parameter's mean eigenvalue, or a number such as `"1e-3"`.
        folder: where the fit is kept, and found again if it is of the same model, pool and options.
        memory: bytes that the factors of parameters fitted in one pass may take; more take several passes.
        tolerance, iterations: of `"cg"`: the relative residual to reach, in so many products at most.

    Raises:
        ConfigError: the damping is malformed.
        DataError: no row can be used, or the curvature is not finite.
        ModelError: the model uses a parameter in a way that can't be followed.
        RunError: the folder can't be written.
    """
    progress, damp = progress or Silent(), Damping.parse(damping)
    encoder = model.encoder(max_length=max_length, responses=responses, plain=plain)
    options = FitOptions(samples, FACTORLESS.get(kind, labels), seed, batch_tokens, memory)
    if kind in FACTORLESS:
        chosen = options.choose(model, pool, encoder, progress)
        return solver(kind, model, chosen, damp, progress, tolerance=tolerance, iterations=iterations)
    store: BlockStore = Memory()
    if folder is not None:
        about = {"curvature_samples": samples, "curvature_labels": labels, "seed": seed}
        rows = {"responses": responses, "plain": plain, "max_length": max_length}
        files = {str(number): digest for number, digest in enumerate(pool.fingerprints.values(), 1)}
        store = Folder(Path(folder), described(model, kind, model.fingerprints, files, {**about, **rows}))
    fit_into(store, model, pool, encoder, kind, options, progress)  # type: ignore[arg-type]
    return Fitted(kind, damp, store.blocks(), store.means)
