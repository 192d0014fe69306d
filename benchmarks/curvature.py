"""Scores under a fitted curvature beside kronfluence's, on the same model, samples, labels, query and damping.

    python benchmarks/curvature.py W/tiny --parameters linear --rows 300 --peers .peers --out R/curvature.json

The workload is that of `benchmarks/peers/workload.py`. Both fit at the data's own labels on the rows that are scored,
with a damping of 0.1 of each module's mean eigenvalue. What is compared: the scores (Spearman, and the largest error
relative to the largest score), for each strategy, in float32.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent / "peers"))
from agreement import agreement
from clock import now
from workload import IGNORED, Sample, Workload, read_workload

from prism import load_model
from prism.curvature import Damping, Fitted
from prism.curvature.fit import Kind, Plan, fit_blocks
from prism.curvature.sample import FitSamples
from prism.curvature.store import Memory
from prism.data import Encoded, collate, plan_batches
from prism.model import Model
from prism.progress import Silent
from prism.scoring.backward import StreamingEngine, sample_gradients
from prism.target import Direction

KINDS: tuple[Kind, ...] = ("diagonal", "kfac", "ekfac")


def encoded(sample: Sample) -> Encoded:
    return Encoded(np.array(sample.input_ids), np.array(sample.labels) != IGNORED)


def ours(model: Model, workload: Workload, rows: int, kind: Kind, batch_tokens: int) -> tuple[Any, float]:
    """(scores, seconds of the fit)."""
    samples = [encoded(sample) for sample in workload.samples[:rows]]
    labels = [torch.from_numpy(e.ids[e.response]) for e in samples]
    store, start = Memory(), now()
    fit_on = FitSamples(samples, labels, "data", 0, batch_tokens)
    fit_blocks(model, fit_on, Plan.make(model, kind, 1 << 40), store, Silent())
    seconds = now() - start
    query = sample_gradients(model, collate([encoded(workload.query)]))[1]
    solved = Fitted(kind, Damping(), store.blocks(), store.means).solve(Direction(query))
    engine = StreamingEngine(model, {name: t[None] for name, t in solved.tensors.items()}, norms=False)
    scores = np.empty(len(samples))
    for batch in plan_batches([len(e) for e in samples], batch_tokens):
        scores[batch] = engine.score(collate([samples[i] for i in batch])).scores[:, 0].numpy()
    return scores, seconds


def theirs(args: argparse.Namespace, kind: Kind, folder: Path) -> tuple[Any, dict[str, Any]]:
    out = folder / f"{kind}.json"
    runner = Path(__file__).parent / "peers" / "kronfluence_run.py"
    options = ["--parameters", args.parameters, "--rows", str(args.rows), "--batch-tokens", str(args.batch_tokens)]
    command = [args.peers / "kronfluence/bin/python", runner, args.workload, *options, "--strategy", kind]
    subprocess.run([*map(str, command), "--warmup", "0", "--out", str(out)], check=True)
    return np.load(out.with_suffix(".npy")).astype(np.float64), json.loads(out.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workload", type=Path)
    parser.add_argument("--parameters", choices=("linear", "lora"), required=True)
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--peers", type=Path, default=Path(".peers"), help="where setup.sh made the environments")
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    workload = read_workload(args.workload)
    adapter = workload.adapter if args.parameters == "lora" else None
    model = load_model(workload.model, adapter=adapter, parameters=args.parameters, dtype="float32", device="cpu")
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in KINDS:
            scores, seconds = ours(model, workload, args.rows, kind, args.batch_tokens)
            peer, about = theirs(args, kind, Path(folder))
            figures = {
                "curvature": kind,
                "parameters": args.parameters,
                "rows": args.rows,
                **agreement(scores, peer),
                "fit_seconds": round(seconds, 2),
                "kronfluence_fit_seconds": about["settings"]["fitting_seconds"],
                "versions": about["versions"],
            }
            print(json.dumps(figures), flush=True)
            results.append(figures)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
