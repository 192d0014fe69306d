"""How much each target pair counts: rows of one table, functions of the preferences."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prism.errors import ConfigError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Weighting:
    """Weights of the pairs [Q] as a function of their preferences pi [Q], whether y- takes part in the gradient, and
    whether the weights depend on the preference at all."""

    weigh: Callable[[Floats], Floats]
    about: str
    rejected: bool = True
    of_preference: bool = True


WEIGHTINGS = {
    "prism": Weighting(lambda pi: pi, "pi"),
    "uniform": Weighting(np.ones_like, "1: the contrastive mean difference", of_preference=False),
    "hard": Weighting(lambda pi: 1 - pi, "1 - pi: the pairs that the model gets wrong"),
    "boundary": Weighting(lambda pi: pi * (1 - pi), "pi (1 - pi): the pairs that it is in doubt about"),
    "chosen": Weighting(lambda pi: pi, "pi, with y+ only", rejected=False),
}


def weighting(name: str) -> Weighting:
    """A row of `WEIGHTINGS`, or `prism^GAMMA` for pi^GAMMA.

    Raises:
        ConfigError: there is no such weighting.
    """
    if name in WEIGHTINGS:
        return WEIGHTINGS[name]
    base, _, exponent = name.partition("^")
    try:
        gamma = float(exponent)
    except ValueError:
        gamma = np.nan
    if base != "prism" or not np.isfinite(gamma):
        raise ConfigError(f"weights {name!r} is none of {', '.join(WEIGHTINGS)} or prism^GAMMA, such as prism^3")
    return Weighting(lambda pi: pi**gamma, f"pi^{gamma:g}")
