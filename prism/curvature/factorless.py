"""Curvatures that keep no factors, but go over the samples each time that they are applied."""

from prism.curvature import Curvature, Damping
from prism.curvature.gauss_newton import ConjugateGradients
from prism.curvature.rank_one import RankOneMean
from prism.curvature.sample import FitSamples, Labels
from prism.model import Model
from prism.progress import Progress

FACTORLESS: dict[str, Labels] = {  # with the labels that they are of
    "cg": "model",  # the trace of the Gauss-Newton matrix
    "datainf": "data",  # as published
}


def solver(
    kind: str,
    model: Model,
    samples: FitSamples,
    damping: Damping,
    progress: Progress,
    *,
    tolerance: float,
    iterations: int,
) -> Curvature:
    """The curvature of a row of `FACTORLESS`; `cg` stops at a relative residual of `tolerance`, or after so many
    products."""
    if kind == "datainf":
        return RankOneMean(model, samples, damping, progress)
    return ConjugateGradients(model, samples, damping, tolerance, iterations, progress)
