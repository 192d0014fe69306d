"""How near factored curvatures come to the Gauss-Newton solve, on a real model and real rows.

    python benchmarks/curvature_quality.py --model prism/demo/model --pool POOL.jsonl --target PAIRS.jsonl --out R.json

The reference is conjugate gradients on the Gauss-Newton product over the same samples, with the same damping: a share
of the mean eigenvalue over the whole model, as one number. Printed: cosine with it of each curvature's solution, for
the direction of the target.
"""

import argparse
import json
from pathlib import Path

import torch

from prism import load_model, load_pool, load_target
from prism.curvature import Damping, Fitted
from prism.curvature.fit import FitOptions, Kind, Plan, fit_blocks
from prism.curvature.gauss_newton import ConjugateGradients
from prism.curvature.store import Memory
from prism.progress import Silent
from prism.target import Direction, measure_target

KINDS: tuple[Kind, ...] = ("diagonal", "kfac", "ekfac")


def flat(direction: Direction) -> torch.Tensor:
    return torch.cat([t.flatten().double() for t in direction.tensors.values()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--adapter")
    parser.add_argument("--pool", required=True)
    parser.add_argument("--target", required=True)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--share", type=float, default=0.1, help="damping, of the mean eigenvalue")
    parser.add_argument("--tolerance", type=float, default=1e-2)
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    model = load_model(args.model, adapter=args.adapter, dtype="float32")
    encoder, pool = model.encoder(max_length=args.max_length), load_pool(args.pool)
    direction = measure_target(model, load_target(args.target), encoder).direction
    samples = FitOptions(samples=args.samples).choose(model, pool, encoder, Silent())
    fits = {}
    for kind in KINDS:
        store = Memory()
        fit_blocks(model, samples, Plan.make(model, kind, 1 << 40), store, Silent())
        fits[kind] = Fitted(kind, Damping(), store.blocks(), store.means)
    sizes = {name: p.numel() for name, p in model.parameters.items()}
    mean = sum(fits["ekfac"].means[n] * size for n, size in sizes.items()) / sum(sizes.values())
    damping = Damping(args.share * mean, relative=False)
    cg = ConjugateGradients(model, samples, damping, args.tolerance, args.iterations, Silent()).solve(direction)
    found = {"identity": direction, **{kind: fit.solve(direction, damping) for kind, fit in fits.items()}}
    figures = {
        "samples": len(samples.encoded),
        "tokens": sum(samples.lengths),
        "weights": sum(sizes.values()),
        "damping": f"{args.share} of the mean eigenvalue {mean:.3g}",
        "cg": {name: cg.provenance[name] for name in ("residual", "iterations")},
        "cosine": {n: float(torch.cosine_similarity(flat(d), flat(cg), dim=0)) for n, d in found.items()},
    }
    print(json.dumps(figures, indent=2))
    args.out.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
