"""Fit a curvature in streaming passes over a sample of the pool, as many parameters at a time as memory holds."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from prism.budget import BATCH_TOKENS
from prism.curvature.blocks import Block, Diagonal, Kronecker, eigenbasis
from prism.curvature.passes import Passes
from prism.curvature.sample import FitSamples, Labels, fit_samples
from prism.curvature.statistics import Sums
from prism.curvature.store import BlockStore
from prism.data import Encoder, Pool
from prism.errors import DataError, ModelError
from prism.model import Model
from prism.progress import Progress
from prism.scoring.hooks import FORWARDS
from prism.scoring.products import wide
from prism.scoring.taps import modules_outside
from prism.scoring.targets import find_targets

Kind = Literal["diagonal", "kfac", "ekfac"]


@dataclass(frozen=True)
class Plan:
    """What is fitted together: `groups` of parameter names, `factored` among them as Kronecker products and the others
    as diagonals; `held`, the bytes of the largest group while it is fitted, and `stored`, those of the whole."""

    kind: Kind
    factored: frozenset[str]
    groups: tuple[tuple[str, ...], ...]
    held: int
    stored: int

    @classmethod
    def make(cls, model: Model, kind: Kind, memory: int) -> "Plan":
        """Matrix products of `nn.Linear` and `Conv1D` inside the decoder get factors; embeddings, the output head,
        norms, biases, routers and experts a diagonal."""
        factored = frozenset() if kind == "diagonal" else frozenset(_matrices(model))
        groups: list[list[str]] = []
        room = held = stored = 0
        for name, parameter in model.parameters.items():
            element = 8 if parameter.dtype == torch.float64 else 4
            sides = sum(n * n for n in parameter.shape) if name in factored else 0
            size = 2 * (sides or parameter.numel()) * element  # the sums, and a batch's own; or the basis, and these
            stored += (sides + parameter.numel()) * element
            if not groups or room + size > memory:
                groups.append([])
                room = 0
            groups[-1].append(name)
            room += size
            held = max(held, room)
        return cls(kind, factored, tuple(map(tuple, groups)), held, stored)

    @property
    def passes(self) -> int:
        """Forward and backward passes over the samples."""
        return sum(2 if self.kind == "ekfac" and self.factored & set(group) else 1 for group in self.groups)

    def __str__(self) -> str:
        count = sum(map(len, self.groups))
        what = f"{count} diagonals"
        if self.factored:
            what = f"{len(self.factored)} matrices as Kronecker products"
            if rest := count - len(self.factored):
                what += f" and {rest} other parameters as diagonals"
        return (
            f"{what}; {self.passes} {'pass' if self.passes == 1 else 'passes'} over the samples, with up to "
            f"{self.held / 1e9:.2g} GB beside the model, and {self.stored / 1e9:.2g} GB to keep"
        )


@dataclass(frozen=True)
class FitOptions:
    """`samples` pool rows drawn with `seed`, with `labels` drawn from the model or the data's own; batches of
    `batch_tokens` padded tokens; `memory`, the bytes that parameters which are fitted together may take."""

    samples: int = 2000
    labels: Labels = "model"
    seed: int = 0
    batch_tokens: int = BATCH_TOKENS
    memory: int = 4_000_000_000

    def choose(self, model: Model, pool: Pool, encoder: Encoder, progress: Progress) -> FitSamples:
        """Raises DataError where no row can be used."""
        found = fit_samples(
            model,
            pool,
            encoder,
            count=self.samples,
            labels=self.labels,
            seed=self.seed,
            batch_tokens=self.batch_tokens,
            progress=progress,
        )
        progress.note(f"curvature: {found} of the pool's {len(pool):,} rows")
        return found


def fit_into(
    store: BlockStore,
    model: Model,
    pool: Pool,
    encoder: Encoder,
    kind: Kind,
    options: FitOptions,
    progress: Progress,
) -> None:
    """Fit what `store` lacks, and say what is done; raises as `fit_blocks`, and DataError where no row can be used."""
    if set(store.means) == set(model.parameters):
        progress.note(f"reused the fitted curvature {kind}")
        return
    plan = Plan.make(model, kind, options.memory)
    progress.note(f"curvature {kind}: {plan}")
    fit_blocks(model, options.choose(model, pool, encoder, progress), plan, store, progress)


def fit_blocks(model: Model, samples: FitSamples, plan: Plan, store: BlockStore, progress: Progress) -> None:
    """Fit what `store` lacks. Definitions are kronfluence's: covariances are means over all tokens that are no padding,
    corrected eigenvalues and diagonals means over the squared gradients of whole samples. Diagonals beside K-FAC are
    means per token, as its factors are.

    Raises:
        ModelError: the model uses a parameter in a way that can't be followed, or a factor can't be decomposed.
        DataError: a sum is not finite.
    """
    todo = [group for group in plan.groups if not set(group) <= set(store.means)]
    if not todo:
        return
    if len(todo) < len(plan.groups):
        progress.note(f"curvature: reused {len(plan.groups) - len(todo)} of {len(plan.groups)} parts")
    passes = Passes(model, samples, progress)
    if passes.refusal and plan.factored:
        raise ModelError(
            f"--curvature {plan.kind} can't be fitted for this model: {passes.refusal}; "
            "take --curvature diagonal, or other --parameters"
        )
    if passes.refusal:
        progress.note(f"curvature: fitted sample by sample, exact but slow, since {passes.refusal}")
    for group in todo:
        store.put(_blocks(plan, group, passes))


def _blocks(plan: Plan, group: Sequence[str], passes: "Passes") -> dict[str, Block]:
    factored = [name for name in group if name in plan.factored]
    sums = passes.run(group, "curvature: factors" if factored else "curvature: diagonal", factored=factored)
    per = passes.tokens if plan.kind == "kfac" else passes.count
    blocks: dict[str, Block] = {
        name: Diagonal(_sum_of(sums, passes.model, name) / per) for name in group if name not in plan.factored
    }
    bases: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for name in factored:
        tokens = sums.pop((name, "tokens"), torch.ones(()))
        sides = [sums.pop((name, side), None) for side in ("left", "right")]
        (left, q_left), (right, q_right) = (
            eigenbasis(torch.zeros(n, n) if side is None else side / tokens, name)
            for n, side in zip(passes.model.parameters[name].shape, sides, strict=True)
        )
        bases[name] = q_left, q_right
        blocks[name] = Kronecker(q_left, q_right, torch.outer(left, right))
    if plan.kind == "ekfac" and factored:
        squares = passes.run(factored, "curvature: eigenvalues", bases=bases)
        for name in factored:
            values = _sum_of(squares, passes.model, name) / passes.count
            blocks[name] = Kronecker(*bases[name], values)
    return {name: blocks[name] for name in group}


def _sum_of(sums: Sums, model: Model, name: str) -> torch.Tensor:
    """Squares of one parameter; zeros where no loss depends on it."""
    found = sums.get((name, "squares"))
    if found is None:
        return torch.zeros_like(wide(model.parameters[name].detach()))
    if not bool(found.isfinite().all()):
        raise DataError(f"the curvature of {name} is not finite: try --dtype float32")
    return found


def _matrices(model: Model) -> Iterable[str]:
    outside = modules_outside(model.network)
    for module, held in find_targets(model.network, model.parameters).items():
        if type(module).forward in FORWARDS and module not in outside:
            for target in held.get("weight", ()):
                if isinstance(target, str):
                    yield target
