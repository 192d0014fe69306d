"""What the target's gradient is taken of: the loss of a pair, and how much each pair counts."""

from dataclasses import dataclass
from typing import Literal

import torch

from prism.target.preference import preference
from prism.target.weights import WEIGHTINGS, Weighting

Form = Literal["pair", "chosen", "dpo"]


@dataclass(frozen=True)
class Objective:
    """sum_q w_q f_q over the items of a group, by its mean; the weights w_q are constants in the gradient.

    With mean-token losses l and summed losses L of the two responses, f_q is

    - `pair`: l(y+) - l(y-) (PRISM, arXiv 2605.21422);
    - `chosen`: l(y+);
    - `dpo`: -log sigmoid(beta * ((Lref(y+) - L(y+)) - (Lref(y-) - L(y-)))) (arXiv 2305.18290, eq. 7), whose gradient is
      beta * sigmoid(-margin) * (grad L(y+) - grad L(y-)).

    `weights` is a function of the preferences; with `by_subtask` each subtask is a group and has a direction of its
    own.
    """

    form: Form = "pair"
    weights: Weighting = WEIGHTINGS["prism"]
    by_subtask: bool = False
    beta: float = 0.1

    @property
    def paired(self) -> bool:
        """Whether an item needs a y-: for its gradient, or for its weight."""
        return self.form != "chosen" or self.weights.of_preference

    def describe(self) -> dict[str, str]:
        """What a direction says of how it was made."""
        name = next((name for name, rule in WEIGHTINGS.items() if rule is self.weights), self.weights.about)
        return {"weights": {"prism": "preference"}.get(name, name)} | ({} if self.form == "pair" else {"of": self.form})

    def item_weights(
        self,
        losses: torch.Tensor,
        counts: torch.Tensor,
        reference: torch.Tensor | None = None,
        weighing: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """How much each item counts [n]: w_q, for `dpo` times sigmoid(-margin).

        Args:
            losses: [2, n] mean-token losses of chosen and rejected; counts: [2, n] their response tokens.
            reference: [2, n] mean-token losses under the reference model; the model itself unless given.
            weighing: [2, n] mean-token losses whose preferences count; the model's own unless given.
        """
        pi = preference(*(losses if weighing is None else weighing))
        weights = torch.from_numpy(self.weights.weigh(pi.double().cpu().numpy())).to(losses)
        if self.form == "dpo":
            drop = torch.zeros_like(losses) if reference is None else (reference - losses) * counts
            weights = weights * torch.sigmoid(-self.beta * (drop[0] - drop[1]))
        return weights

    def terms(self, losses: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        """What the weights multiply [n], so that the gradient is that of f_q; arguments as `item_weights`."""
        if self.form == "chosen":
            return losses[0]
        if self.form == "pair":
            return losses[0] - losses[1]
        return self.beta * (losses[0] * counts[0] - losses[1] * counts[1])
