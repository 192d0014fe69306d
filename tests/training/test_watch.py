from types import SimpleNamespace
from typing import Any

import pytest

from prism.errors import TrainingError
from prism.progress import Silent
from prism.training.watch import Watch

VOCABULARY = 1000  # guessing costs 6.9 nats


def told(*losses: float, step: int = 3, **more: Any) -> None:
    watch = Watch(Silent(), 10, 1.0, VOCABULARY)
    state = SimpleNamespace(global_step=step, max_steps=9)
    for loss in losses:
        watch.on_log(None, state, None, {"loss": loss, **more})
    watch.on_train_end(None, state, None)


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_ends_the_training(loss: float) -> None:
    with pytest.raises(TrainingError, match=f"diverged at step 3 of 9: the loss is {loss}"):
        told(2.0, loss)


def test_so_does_a_gradient_that_is_none() -> None:
    with pytest.raises(TrainingError, match=r"the gradient's norm is nan\. .* Lower --learning-rate"):
        told(2.0, grad_norm=float("nan"))


def test_before_any_update_the_learning_rate_is_not_to_blame() -> None:
    with pytest.raises(TrainingError, match="the base's own weights are finite") as caught:
        told(float("nan"), step=1)
    assert "--learning-rate" not in str(caught.value)


@pytest.mark.parametrize("losses", [[2.0] * 5 + [30.0] * 5, [2.0] + [30.0] * 4, [2.0, 30.0, 30.0]])
def test_and_a_loss_that_explodes(losses: list[float]) -> None:
    with pytest.raises(TrainingError, match="the loss went from 2 to 30 nats"):
        told(*losses)


@pytest.mark.parametrize(
    "losses",
    [
        [0.1, 4.0, 0.2, 5.0, 0.1, 4.0, 0.3, 6.0, 0.1, 5.0],  # rows that differ, one at a time
        [6.8] * 5 + [8.0] * 5,  # a model that has learnt nothing yet
        [2.0] * 5 + [30.0] + [2.0] * 9,  # one bad batch
        [2.0, 30.0, 2.0],
        [0.5, 5.0, 6.0, 5.0],  # a first row that was easy
    ],
)
def test_noise_does_not(losses: list[float]) -> None:
    told(*losses)
