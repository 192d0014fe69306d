"""A curvature without factors: conjugate gradients on the damped Gauss-Newton product, exact on its samples.

H = (1/n) sum_i sum_t J_it' (diag(p_it) - p_it p_it') J_it over the response tokens t of n samples, with J the Jacobian
of the logits and p the model's probabilities: the Gauss-Newton matrix of the summed token loss, which for this loss is
the true Fisher (Martens, 1412.1193, section 8). `J v` comes from dual numbers, `J' u` from a backward pass.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from prism.curvature.fit import Plan, fit_blocks
from prism.curvature.fitted import dampings, solution
from prism.curvature.sample import FitSamples
from prism.curvature.store import Memory
from prism.damping import Damping
from prism.data import Batch
from prism.errors import ModelError, first_line
from prism.model import Model
from prism.model.head import head_of
from prism.model.memory import in_fitting_batches, out_of_memory
from prism.model.quantized import is_quantized
from prism.progress import Progress
from prism.scoring.forward import eager_experts, replaced_parameters
from prism.scoring.products import wide
from prism.target import Direction

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Solution:
    """x with |b - A x| = `residual` |b| after `iterations` products."""

    x: Tensors
    residual: float
    iterations: int


def conjugate_gradients(
    product: Callable[[Tensors], Tensors],
    b: Mapping[str, torch.Tensor],
    *,
    tolerance: float,
    iterations: int,
    diagonal: Mapping[str, torch.Tensor | float] | None = None,
    told: Callable[[float], None] = lambda residual: None,
) -> Solution:
    """Solve A x = b for a symmetric positive definite A, until |b - A x| <= `tolerance` |b| or `iterations` products.

    `diagonal` is about that of A, as a preconditioner. `told` is called with the relative residual after each product.
    Inner products are in float64.
    """

    def eased(r: Tensors) -> Tensors:
        return r if diagonal is None else {n: t / diagonal[n] for n, t in r.items()}

    x, r = {n: torch.zeros_like(t) for n, t in b.items()}, dict(b)
    p = z = eased(r)
    square, whole = _dot(r, z), _dot(b, b)
    residual, done = float(whole > 0), 0
    while done < iterations and residual > tolerance:
        a = product(p)
        step = square / _dot(p, a)
        x = {n: t + step * p[n] for n, t in x.items()}
        r = {n: t - step * a[n] for n, t in r.items()}
        z = eased(r)
        before, square = square, _dot(r, z)
        p = {n: t + square / before * p[n] for n, t in z.items()}
        residual, done = (_dot(r, r) / whole) ** 0.5, done + 1
        told(residual)
    return Solution(x, residual, done)


class GaussNewton:
    """v → H v over samples, in batches that fit into the memory.

    Raises:
        ModelError: the model computes in float16 or in quantised products, of which small derivatives are lost.
    """

    def __init__(self, model: Model, samples: FitSamples) -> None:
        if torch.float16 in model.types or is_quantized(model.network):
            raise ModelError("--curvature cg needs a model in float32, float64 or bfloat16: take another curvature")
        self._model, self._samples, self._budget = model, samples, samples.budget
        head_of(model.network)

    def __call__(self, v: Mapping[str, torch.Tensor]) -> Tensors:
        """Raises ModelError where an operation of the model has no forward-mode derivative, or memory runs out."""
        sums = {n: torch.zeros_like(wide(p.detach())) for n, p in self._model.parameters.items()}
        length = max(1e-30, _dot(v, v) ** 0.5)  # keeps narrow dtypes from over- and underflow
        unit = {n: (t / length).to(self._model.parameters[n]) for n, t in v.items()}

        def run(places: list[int]) -> list[torch.Tensor | None]:
            return self._product(self._samples.batch(places, self._model.device), unit)

        def take(places: list[int], found: list[torch.Tensor | None] | None) -> None:
            if found is None:
                raise ModelError("the memory does not suffice for a Gauss-Newton product: lower --max-length")
            for total, new in zip(sums.values(), found, strict=True):
                if new is not None:
                    total += new

        self._budget = in_fitting_batches(self._samples.lengths, self._budget, run, take)
        return {n: total * (length / len(self._samples.encoded)) for n, total in sums.items()}

    def _product(self, batch: Batch, v: Tensors) -> list[torch.Tensor | None]:
        model, network = self._model, self._model.network
        with sdpa_kernel(SDPBackend.MATH), eager_experts(network):
            try:
                with torch.no_grad(), forward_ad.dual_level():
                    pairs = ((n, forward_ad.make_dual(p.detach(), v[n])) for n, p in model.parameters.items())  # type: ignore[no-untyped-call]
                    with replaced_parameters(model, dict(pairs)):
                        z, tangent = forward_ad.unpack_dual(_logits(network, batch))  # type: ignore[no-untyped-call]
            except (NotImplementedError, RuntimeError) as error:
                if out_of_memory(error):
                    raise
                raise ModelError(f"--curvature cg can't be used with this model: {first_line(error)}") from error
            if tangent is None:
                return [None] * len(model.parameters)
            p, tangent = torch.softmax(wide(z), -1), wide(tangent)
            u = p * (tangent - (p * tangent).sum(-1, keepdim=True))
            with torch.enable_grad(), model.requiring_grad():
                z = _logits(network, batch)
                return list(torch.autograd.grad(z, list(model.parameters.values()), u.to(z.dtype), allow_unused=True))


def _logits(network: Any, batch: Batch) -> torch.Tensor:
    """[N, vocabulary] of the positions that predict a response token."""
    head = head_of(network)
    if head is None:
        whole: torch.Tensor = network(input_ids=batch.ids, use_cache=False).logits
        return whole.flatten(0, 1)[batch.predictors]
    return head.logits(head.hidden_states(batch.ids).flatten(0, 1)[batch.predictors])


@dataclass
class ConjugateGradients:
    """H as a product. A relative damping refers to the mean eigenvalue of each parameter's own block, estimated as the
    mean squared gradient at labels drawn from the model, as for the other curvatures."""

    model: Model
    samples: FitSamples
    damping: Damping
    tolerance: float
    iterations: int
    progress: Progress
    name: str = "cg"

    @cached_property
    def diagonal(self) -> Memory:
        """For the means, and as a preconditioner."""
        store = Memory()
        fit_blocks(self.model, self.samples, Plan.make(self.model, "diagonal", 1 << 62), store, self.progress)
        return store

    def solve(self, direction: Direction, damping: Damping | None = None) -> Direction:
        """Raises DataError and ModelError as `GaussNewton` and `dampings`; says how near it came."""
        damping = damping or self.damping
        sizes = {name: t.numel() for name, t in direction.tensors.items()}
        damp = dampings(damping, self.diagonal.means, sizes)
        about = {n: block.tensors()["squares"] + damp[n] for n, block in self.diagonal.blocks().items()}
        product = GaussNewton(self.model, self.samples)

        def damped(v: Tensors) -> Tensors:
            return {n: h + damp[n] * v[n] for n, h in product(v).items()}

        def told(residual: float) -> None:
            self.progress.advance(1, sum(self.samples.lengths))

        self.progress.start("curvature: cg", self.iterations)
        found = conjugate_gradients(
            damped,
            direction.tensors,
            tolerance=self.tolerance,
            iterations=self.iterations,
            diagonal=about,
            told=told,
        )
        short = "" if found.residual <= self.tolerance else f", short of {self.tolerance:g}"
        self.progress.note(f"cg: residual {found.residual:.1e} after {found.iterations} products{short}")
        solved = solution(direction, found.x, self.name, damping)
        return Direction(
            solved.tensors, {**solved.provenance, "residual": found.residual, "iterations": found.iterations}
        )


def _dot(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> float:
    return float(sum((a[n].double() * b[n].double()).sum() for n in a))
