"""Try out what fitting a curvature takes."""

import time
from dataclasses import dataclass, replace

from prism.curvature import Damping
from prism.curvature.factorless import FACTORLESS, solver
from prism.curvature.fit import FitOptions, Plan, fit_blocks
from prism.curvature.store import Memory
from prism.data import Pool
from prism.run.curvature import fit_options
from prism.run.trial import Bench, Watch, spread
from prism.target import Direction

ROWS = 24
PRODUCTS = 2


@dataclass(frozen=True)
class CurvatureTrial:
    """Seconds of the whole fit; bytes held beside the model, and kept on disk; the fit in words."""

    seconds: float
    held: int
    stored: int
    about: str


class _Phases(Watch):
    """Adds up the time between a phase's start and its last batch."""

    passes: float = 0.0

    def advance(self, rows: int, tokens: int) -> None:
        super().advance(rows, tokens)
        now = time.monotonic()
        self.passes += now - self.began
        self.began = now


def try_curvature(bench: Bench, sample: Pool, kind: str, rows: int, direction: Direction) -> CurvatureTrial:
    """Fit the first part of a curvature, or solve for a direction (cg: by a few products), on a few rows from all
    over the pool of `rows` rows; passes over the samples take as much longer as there are more of them, the rest does
    not."""
    options = fit_options(bench.config)
    few = spread(sample, min(ROWS, len(sample)))
    share = min(options.samples, rows) / len(few)
    watch = _Phases()
    labels = FACTORLESS.get(kind, options.labels)
    found = FitOptions(samples=len(few), labels=labels, batch_tokens=options.batch_tokens).choose(
        bench.model, few, bench.encoder, watch
    )
    drawing, watch.passes = watch.passes * share, 0.0
    began = time.monotonic()
    if kind in FACTORLESS:
        damping = Damping(1.0, False)
        solver(kind, bench.model, found, damping, watch, tolerance=1e-30, iterations=PRODUCTS).solve(direction)
        seconds = (time.monotonic() - began) * share
        size, of = sum(t.nbytes for t in direction.tensors.values()), f"{min(options.samples, rows):,} samples"
        if kind == "datainf":
            return CurvatureTrial(drawing + seconds, 3 * size, size, f"2 passes over {of}")
        most = bench.config.cg_iterations
        return CurvatureTrial(drawing + seconds / PRODUCTS * most, 6 * size, size, f"up to {most} products of {of}")
    plan = Plan.make(bench.model, kind, options.memory)  # type: ignore[arg-type]
    fit_blocks(bench.model, found, replace(plan, groups=plan.groups[:1]), Memory(), watch)
    rest = max(0.0, time.monotonic() - began - watch.passes)
    return CurvatureTrial(
        drawing + len(plan.groups) * (watch.passes * share + rest), plan.held, plan.stored, f"curvature {kind}: {plan}"
    )
