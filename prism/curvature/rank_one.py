"""A curvature without factors: the mean of the inverses of single samples' outer products, parameter by parameter.

(1/n) sum_i (g_i g_i' + lambda I)^-1 v = (v - (1/n) sum_i g_i (g_i' v) / (lambda + ||g_i||^2)) / lambda, in place of
the inverse of their mean (DataInf, Kwon et al., 2310.00902, eq. 5). Two passes over the samples, no matrix in memory.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch

from prism.curvature.fitted import dampings, solution
from prism.curvature.passes import Passes
from prism.curvature.sample import FitSamples
from prism.damping import Damping
from prism.data import Batch
from prism.errors import DataError
from prism.model import Model
from prism.progress import Progress
from prism.scoring.backward import StreamingEngine, sample_gradients, single
from prism.scoring.products import wide
from prism.target import Direction

Tensors = dict[str, torch.Tensor]


@dataclass
class RankOneMean:
    """H_lambda^-1 as a mean over `samples`. A relative damping refers to the mean squared gradient of each parameter,
    as for a diagonal; a tenth of it is the paper's own lambda."""

    model: Model
    samples: FitSamples
    damping: Damping
    progress: Progress
    name: str = "datainf"

    @cached_property
    def _passes(self) -> Passes:
        passes = Passes(self.model, self.samples, self.progress)
        if passes.refusal:
            self.progress.note(f"curvature: taken sample by sample, exact but slow, since {passes.refusal}")
        return passes

    def solve(self, direction: Direction, damping: Damping | None = None) -> Direction:
        """Raises DataError where a sample's gradient is not finite, and as `dampings`; ModelError as `Passes`."""
        damping = damping or self.damping
        count = len(self.samples.encoded)
        products = self._products(direction.tensors, count)
        sizes = {name: t.numel() for name, t in direction.tensors.items()}
        zeros = torch.zeros(2, count, dtype=torch.float64)
        found = {name: products.get(name, zeros) for name in sizes}
        if odd := next((name for name, both in found.items() if not bool(both.isfinite().all())), None):
            raise DataError(f"the gradients of {odd} are not finite: try --dtype float32")
        means = {name: float(squares.mean()) / sizes[name] for name, (_, squares) in found.items()}
        damp = dampings(damping, means, sizes)
        weights = {name: dots / (damp[name] + squares) / count for name, (dots, squares) in found.items()}
        sums = self._passes.run(sizes, "curvature: datainf", weights=weights)
        solved = {
            name: ((wide(v) - sums[name, "sum"].to(wide(v)) if (name, "sum") in sums else wide(v)) / damp[name]).to(v)
            for name, v in direction.tensors.items()
        }
        return solution(direction, solved, self.name, damping)

    def _products(self, v: Mapping[str, torch.Tensor], count: int) -> Tensors:
        """By name [2, n], in float64: <g_i, v> and ||g_i||^2; without parameters that no loss depends on."""
        directions = {name: t.to(self.model.parameters[name])[None] for name, t in v.items()}
        engine = None if self._passes.refusal else StreamingEngine(self.model, directions, norms=True)
        found: Tensors = {}

        def run(batch: Batch, places: list[int]) -> Tensors:
            if engine is None:
                return _one_by_one(self.model, batch, v)
            engine.settle(batch)
            squares = engine.squares()
            return {name: torch.stack([dots[:, 0], squares[name]]) for name, dots in engine.scores().items()}

        def take(places: list[int], new: Tensors) -> None:
            for name, both in new.items():
                found.setdefault(name, torch.zeros(2, count, dtype=torch.float64))[:, places] = both.double().cpu()

        self._passes.through("curvature: products", run, take)
        return found


def _one_by_one(model: Model, batch: Batch, v: Mapping[str, torch.Tensor]) -> Tensors:
    found = {name: torch.zeros(2, len(batch), dtype=torch.float64) for name in v}
    for place in range(len(batch)):
        _, gradients = sample_gradients(model, single(batch, place))
        for name, gradient in gradients.items():
            flat = wide(gradient).flatten()
            found[name][:, place] = torch.stack([flat @ v[name].to(flat).flatten(), flat @ flat])
    return found
