"""What is added to a curvature's eigenvalues before it is inverted."""

import math
from dataclasses import dataclass

from prism.errors import ConfigError

VANISHING = 1e-12  # of the model-wide mean: below it a block's own mean is rounding, or nothing


@dataclass(frozen=True)
class Damping:
    """lambda: an absolute `value`, or a share of the mean eigenvalue where `relative`.

    Relative to each block's own mean, as Grosse et al. (2308.03296, section 3.1) have it; where that vanishes, as for
    the A of a new LoRA, to the mean over all weights of the model that carry gradients.
    """

    value: float = 0.1
    relative: bool = True

    @classmethod
    def parse(cls, text: str) -> "Damping":
        """`0.1 mean` is relative, `1e-3` absolute.

        Raises:
            ConfigError: it is neither, or not above zero.
        """
        number, _, unit = text.strip().partition(" ")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if unit.strip() not in ("", "mean") or not (math.isfinite(value) and value > 0):
            raise ConfigError(
                f"damping {text!r} is neither a share of the mean eigenvalue ('0.1 mean') nor a number above zero"
            )
        return cls(value, bool(unit.strip()))

    def of(self, mean: float, overall: float) -> float:
        """lambda of a block with mean eigenvalue `mean`, in a model with `overall`."""
        if not self.relative:
            return self.value
        return self.value * (mean if mean > VANISHING * overall else overall)

    def __str__(self) -> str:
        return f"{self.value:g} of the mean eigenvalue" if self.relative else f"{self.value:g}"
