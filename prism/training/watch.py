"""Watch a training: report how far it is, and stop it where it diverges."""

import math
from collections import deque
from statistics import median
from typing import Any

from transformers.trainer_callback import TrainerCallback

from prism.errors import TrainingError
from prism.progress import Progress

WINDOW = 5  # logged losses that are looked at together
WORSE = 3.0  # times the first losses


class Watch(TrainerCallback):  # type: ignore[misc]
    """Tells `progress` of rows and tokens, and ends a training whose loss is no number or explodes.

    A loss explodes when the median of the last five logged ones is above that of guessing every token at random
    (ln `vocabulary`) and above three times the first one and the median of the first five. At the end, all there are
    must do where they are fewer.
    """

    def __init__(self, progress: Progress, rows: int, epochs: float, vocabulary: int) -> None:
        self._progress = progress
        self._rows, self._epochs = rows, epochs
        self._guessing = math.log(vocabulary)
        self._first: list[float] = []
        self._last: deque[float] = deque(maxlen=WINDOW)
        self._done, self._tokens = 0, 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        for entry in state.log_history:  # of the part that a resumed training had behind it
            if "loss" in entry:
                self._take(entry["loss"])
        self._tokens = int(state.num_input_tokens_seen)
        self._progress.start("train", round(self._rows * self._epochs))
        self._advance(state)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._advance(state)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if logs is None or "loss" not in logs:
            return
        loss, gradient = float(logs["loss"]), float(logs.get("grad_norm") or 0.0)
        if not (math.isfinite(loss) and math.isfinite(gradient)):
            what = f"the loss is {loss}" if not math.isfinite(loss) else f"the gradient's norm is {gradient}"
            raise diverged(state, what)
        self._take(loss)
        if len(self._last) == WINDOW:
            self._refuse_explosion(state)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._last:
            self._refuse_explosion(state)

    def _refuse_explosion(self, state: Any) -> None:
        now, then = median(self._last), min(self._first[0], median(self._first))
        if now > max(self._guessing, WORSE * then):
            raise diverged(state, f"the loss went from {then:.3g} to {now:.3g} nats per token")

    def _take(self, loss: float) -> None:
        if len(self._first) < WINDOW:
            self._first.append(loss)
        self._last.append(loss)

    def _advance(self, state: Any) -> None:
        whole = round(self._rows * self._epochs)  # the last batch may go beyond a share of an epoch
        done, tokens = min(round(self._rows * (state.epoch or 0)), whole), int(state.num_input_tokens_seen)
        self._progress.advance(done - self._done, tokens - self._tokens)
        self._done, self._tokens = done, tokens


def diverged(state: Any, what: str) -> TrainingError:
    advice = "Lower --learning-rate, raise --batch, or check the data"
    if state.global_step <= 1:  # of a loss from before any update
        what += ", from the first step on"
        advice = "Check that the base's own weights are finite (an overflow in float16?), and the data"
    place = f"at step {state.global_step} of {state.max_steps}"
    return TrainingError(f"the training diverged {place}: {what}. Nothing of it was kept. {advice}")
