"""Scoring in one call, for programs that need no run folder."""

from prism.budget import BATCH_TOKENS
from prism.curvature import Curvature, Identity
from prism.data import Pool, Responses, Target
from prism.model import Model
from prism.progress import Progress
from prism.scoring import EngineName, ScoreTable, score_pool
from prism.target import measure_target


def score(
    model: Model,
    pool: Pool,
    target: Target,
    *,
    curvature: Curvature | None = None,
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
        curvature: H_lambda; the identity unless given.
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
        ConfigError: `max_length` is beyond the model's positions.
    """
    encoder = model.encoder(max_length=max_length, responses=responses, plain=plain)
    measured = measure_target(model, target, encoder, batch_tokens=batch_tokens, progress=progress)
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
