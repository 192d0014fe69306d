"""The loop that LESS runs: one sample per forward and backward pass, its gradient as one flat vector.

    --mode loop  the flat gradient times the query's: the plainest way to the scores that all others compute
    --mode less  what LESS does with it: Adam's map, a random projection of 16 gradients at a time, cosine

LESS has no release on PyPI, so this is its loop written anew (princeton-nlp/LESS, collect_grad_reps.py), with two
corrections: Adam's moments are bias-corrected, and epsilon stands outside the root. The projection is the one that LESS
itself falls back to without CUDA: TRAK's BasicProjector, Rademacher, 8,192 dimensions, blocks of 128. Adam's state
comes from the gradients of the first 16 samples, since what it holds does not change what the map costs.
"""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import common
import torch
from clock import now
from torch.nn.functional import cosine_similarity
from workload import IGNORED, Sample, Workload

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
INTERVAL, BLOCK, STATE_ROWS = 16, 128, 16
COMPUTES = {
    "loop": "inner product with the query's gradient, exact",
    "less": "cosine of the projected Adam update (mean-token loss) and the projected query gradient, LESS's own score",
}
Project = Callable[[torch.Tensor], torch.Tensor]
Pass = Callable[[Sequence[Sample]], tuple[float, common.Scores]]


class Gradients:
    """Flat gradients of single samples, as LESS takes them."""

    def __init__(self, network: Any, names: Sequence[str], mean: bool) -> None:
        self._network, self._mean = network, mean
        self._weights = [network.get_submodule(name).weight.requires_grad_() for name in names]
        self.size = sum(w.numel() for w in self._weights)

    def __call__(self, sample: Sample) -> torch.Tensor:
        loss = common.summed_loss(self._network, common.collate([sample]))
        if self._mean:
            loss = loss / sum(label != IGNORED for label in sample.labels[1:])
        torch.autograd.backward(loss)
        flat = torch.cat([w.grad.view(-1) for w in self._weights])
        self._network.zero_grad()
        return flat


class AdamMap:
    """The update that Adam would make for a gradient, from a state after `steps` steps."""

    def __init__(self, gradients: Gradients, samples: Sequence[Sample]) -> None:
        self._steps = len(samples)
        self._mean, self._square = torch.zeros(gradients.size), torch.zeros(gradients.size)
        for sample in samples:
            self._mean, self._square = self._next(gradients(sample))

    def _next(self, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return (
            BETA1 * self._mean + (1 - BETA1) * gradient,
            BETA2 * self._square + (1 - BETA2) * gradient**2,
        )

    def __call__(self, gradient: torch.Tensor) -> torch.Tensor:
        mean, square = self._next(gradient)
        step = self._steps + 1
        return (mean / (1 - BETA1**step)) / ((square / (1 - BETA2**step)).sqrt() + EPSILON)


def projection(size: int, dimension: int) -> Project:
    if not dimension:
        return lambda gradients: gradients
    from trak.projectors import BasicProjector, ProjectionType

    made = BasicProjector(size, dimension, 0, ProjectionType.rademacher, torch.device("cpu"), block_size=BLOCK)
    return lambda gradients: made.project(gradients, model_id=0)


def prepare(workload: Workload, args: argparse.Namespace) -> common.Peer:
    network = common.load_network(workload, args.parameters)
    names = common.linear_modules(network, args.parameters)
    gradients = Gradients(network, names, mean=args.mode == "less")
    query = gradients(workload.query)

    def loop(samples: Sequence[Sample]) -> tuple[float, common.Scores]:
        start = now()
        scores = torch.stack([gradients(sample) @ query for sample in samples])
        return now() - start, scores.numpy()

    settings: dict[str, Any] = {"mode": args.mode}
    run: Pass = loop
    if args.mode == "less":
        settings |= {"dimension": args.dimension, "project_interval": INTERVAL, "block_size": BLOCK}
        adam = AdamMap(gradients, workload.samples[:STATE_ROWS])
        run = less(gradients, adam, projection(gradients.size, args.dimension), query, settings)
    return common.Peer(
        run,
        COMPUTES[args.mode],
        "gradients, maps, projections and products of all samples; loading the model, the query's gradient and its "
        "projection, and Adam's state are outside",
        "one sample at a time",
        settings,
    )


def less(gradients: Gradients, adam: AdamMap, project: Project, query: torch.Tensor, settings: dict[str, Any]) -> Pass:
    projected_query = project(query[None])

    def run(samples: Sequence[Sample]) -> tuple[float, common.Scores]:
        scores = []
        start, projecting = now(), 0.0
        for first in range(0, len(samples), INTERVAL):
            updates = torch.stack([adam(gradients(sample)) for sample in samples[first : first + INTERVAL]])
            before = now()
            projected = project(updates)
            projecting += now() - before
            scores.append(cosine_similarity(projected, projected_query))
        settings["seconds_of_it_projecting"] = round(projecting, 4)
        return now() - start, torch.cat(scores).numpy()

    return run


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--mode", choices=tuple(COMPUTES), default="loop")
    parser.add_argument("--dimension", type=int, default=8192, help="of the projection; 0 leaves it out")
    args = parser.parse_args()
    if args.mode == "less":
        args.warmup = 0  # the query and Adam's state warm it up; a projection more would take minutes
    common.run(f"less, {args.mode}", ("traker",), prepare, args)


if __name__ == "__main__":
    main()
