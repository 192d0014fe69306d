"""Losses scaled up while they are differentiated in float16, where small gradients would vanish otherwise."""

from collections.abc import Sequence

import torch

from prism.model.model import Model

SUMMED = 2.0**14  # to begin with, for losses summed over tokens: a token's own counts in full
AVERAGED = 2.0**24  # and for their means over tokens and pairs
ALONE = 2.0**8  # for a single token's, on its way through the head, where it will count for little
LEAST = 2.0**-8
FACTOR = 4.0


class LossScale:
    """A power of two that multiplies a loss in the graph and divides its gradients outside, in float32.

    Gradients of hidden states are about as small as a token's share in the loss; float16 has nothing below 6e-8. The
    scale is lowered as far as gradients overflow. It is 1 unless the network computes in float16 anywhere.
    """

    def __init__(self, model: Model, start: float) -> None:
        self._model = model
        self._half = torch.float16 in model.types
        self.value = start if self._half else 1.0

    @property
    def alone(self) -> float:
        """The scale of a token's own loss where what follows divides it by the numbers of tokens and pairs."""
        return min(self.value, ALONE)

    def copy(self) -> "LossScale":
        return LossScale(self._model, self.value)

    def lower(self) -> bool:
        """Take the next smaller scale; false where there is none."""
        if not self._half or self.value / FACTOR < LEAST:
            return False
        self.value /= FACTOR
        return True

    def gradients(self, loss: torch.Tensor) -> Sequence[torch.Tensor | None]:
        """Of a loss made with this scale (`token_losses`), by chosen parameter: in float32 where they are scaled, else
        in the parameter's own type; None where the loss does not depend on it."""
        found = torch.autograd.grad(loss * self.value, list(self._model.parameters.values()), allow_unused=True)
        return [None if g is None else g.float() / self.value for g in found] if self._half else found

    def served(self, gradients: Sequence[torch.Tensor | None]) -> bool:
        """Whether nothing overflowed, or no smaller scale is left; lowers the scale where something did."""
        if not self._half or all(bool(g.isfinite().all()) for g in gradients if g is not None):
            return True
        return not self.lower()
