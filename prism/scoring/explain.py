"""One sample's score, token by token."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prism.budget import BATCH_TOKENS
from prism.data import Encoded, collate
from prism.errors import first_line
from prism.model import Model
from prism.scoring.choose import Chosen, backward_engine, stacked
from prism.scoring.forward import ForwardMode
from prism.scoring.scorer import Scorer
from prism.target import Direction

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TokenView:
    """Per response token [N]: its place in the sample, its id, its loss in nats, and its contribution to the score,
    <grad of its loss, direction>; `how` they were computed."""

    places: npt.NDArray[np.int64]
    ids: npt.NDArray[np.int64]
    losses: Floats
    contributions: Floats
    how: str

    @property
    def score(self) -> float:
        return float(self.contributions.sum())


def explain(model: Model, sample: Encoded, direction: Direction, *, batch_tokens: int = BATCH_TOKENS) -> TokenView:
    """Split a sample's score into the contributions of its response tokens; exact: they sum to the score.

    One pass of dual numbers, or, for a model without forward-mode derivatives, the backward engine with every response
    token as a sample of its own.
    """
    places = np.flatnonzero(sample.response)
    v = stacked(model, [direction])
    try:
        found = ForwardMode(model, v).tokens(collate([sample]).to(model.device))
        losses, contributions = (t.double().cpu().numpy() for t in found)
        how = "dual numbers"
    except (NotImplementedError, RuntimeError) as error:
        alone = [Encoded(sample.ids[: p + 1], np.arange(p + 1) == p) for p in places]
        engine, why = backward_engine(model, v, norms=False, probes=[sample])
        scored = Scorer(model, Chosen(engine, why), 1, batch_tokens).score(alone, lambda *_: None)
        losses, contributions = scored.losses, scored.scores[:, 0]
        how = f"one backward pass per token, since there is no forward-mode derivative ({first_line(error)})"
    return TokenView(places, np.asarray(sample.ids)[places], losses, contributions, how)
