"""Passes over the samples of a curvature, one batch after another."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeVar

import torch

from prism.curvature.sample import FitSamples
from prism.curvature.statistics import Bases, Statistics, Sums, WeightedSum
from prism.data import Batch
from prism.errors import ModelError
from prism.model import Model, token_losses
from prism.model.head import head_of
from prism.model.memory import in_fitting_batches
from prism.model.scaled import SUMMED, LossScale
from prism.progress import Progress
from prism.scoring.backward import sample_gradients, single
from prism.scoring.check import first_check, tolerance_of
from prism.scoring.products import wide
from prism.scoring.taps import Taps, Untappable

T = TypeVar("T")


class Passes:
    """Passes over the samples, in batches that fit into the memory.

    `refusal`: why one pass can't bring in all samples of a batch at once; then gradients are taken one by one.
    """

    def __init__(self, model: Model, samples: FitSamples, progress: Progress) -> None:
        self.model, self.refusal = model, refusal(model, samples)
        self._samples, self._progress = samples, progress
        self._budget = samples.budget
        self._scale = LossScale(model, SUMMED)
        head_of(model.network)  # tries the network out, which the taps should not see

    @property
    def count(self) -> int:
        return len(self._samples.encoded)

    @cached_property
    def tokens(self) -> int:
        return sum(self._samples.lengths)

    def run(
        self,
        names: Iterable[str],
        phase: str,
        factored: Sequence[str] = (),
        bases: Bases | None = None,
        weights: Mapping[str, torch.Tensor] | None = None,
    ) -> Sums:
        """`Statistics` of all samples; the `WeightedSum` of their gradients where they have `weights` [n] by name."""
        shapes = {name: self.model.parameters[name].detach()[None] for name in names}
        own: dict[str, torch.Tensor] = {}  # the weights of a batch's samples

        def make(*pass_: Any) -> Statistics:
            if weights is None:
                return Statistics(*pass_, scale=self._scale, factored=factored, bases=bases)
            return WeightedSum(*pass_, scale=self._scale, weights=own)

        taps = Taps(self.model.network, shapes, False, make)
        sums = Sums()

        def run(batch: Batch, places: list[int]) -> Sums:
            own.update({name: w[places].to(self.model.device) for name, w in (weights or {}).items()})
            if self.refusal:
                return self._one_by_one(batch, shapes, own if weights else None)
            while True:
                with torch.enable_grad(), taps.watch(batch) as ledger:
                    losses = token_losses(self.model.network, batch, self._scale.value)
                    if losses.requires_grad:
                        torch.autograd.backward(losses.sum() * self._scale.value)
                assert isinstance(ledger, Statistics)
                if self._scale.served(list(ledger.sums.values())):
                    return ledger.sums

        def take(places: list[int], found: Sums) -> None:
            for key, new in found.items():
                sums[key] = sums[key].add_(new) if key in sums else new

        self.through(phase, run, take)
        return sums

    def through(self, phase: str, run: Callable[[Batch, list[int]], T], take: Callable[[list[int], T], None]) -> None:
        """`run` on all samples, some places at a time, and `take` what it found.

        Raises:
            ModelError: the model uses a parameter in a way that can't be followed, or the memory does not suffice.
        """
        lengths, before, lost = self._samples.lengths, self._budget, 0

        def taken(places: list[int], found: T | None) -> None:
            nonlocal lost
            if found is None:
                lost += len(places)
            else:
                take(places, found)
            self._progress.advance(len(places), sum(lengths[i] for i in places))

        self._progress.start(phase, len(lengths))
        try:
            self._budget = in_fitting_batches(
                lengths, before, lambda places: run(self._samples.batch(places, self.model.device), places), taken
            )
        except Untappable as error:
            raise ModelError(f"the curvature can't be fitted: {error}; choose other --parameters") from error
        if lost:
            raise ModelError(
                f"the memory does not suffice to fit the curvature on samples of up to {max(lengths)} tokens alone: "
                "lower --max-length or --direction-memory, or take --curvature diagonal"
            )
        if self._budget < before:
            self._progress.note(f"out of memory: the curvature is fitted in batches of at most {self._budget} tokens")

    def _one_by_one(self, batch: Batch, names: Iterable[str], weights: Mapping[str, torch.Tensor] | None) -> Sums:
        sums: Sums = {}
        wanted = set(names)
        for place in range(len(batch)):
            _, gradients = sample_gradients(self.model, single(batch, place))
            for name in wanted & set(gradients):
                gradient = wide(gradients[name])
                key = (name, "squares" if weights is None else "sum")
                new = gradient.square() if weights is None else gradient * weights[name][place].to(gradient)
                sums[key] = sums[key] + new if key in sums else new
        return sums


def refusal(model: Model, samples: FitSamples) -> str:
    """Why the streamed passes can't be trusted with this model, empty where they prove themselves on a sample."""
    try:
        error, name = first_check(model, samples.encoded[:32])
    except Untappable as reason:
        return str(reason)
    if math.isnan(error):
        return "no check sample has a finite gradient"
    return "" if error <= tolerance_of(model) else f"{name} is off by {error:.1e} of its squared gradient norm"
