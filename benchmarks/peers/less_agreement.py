"""LESS's scores by us and by dattri-LLM, at the same checkpoints, on the same tokens; nothing is projected.

    python benchmarks/peers/workload.py W --data ../shared/data --model ../shared/models/tiny-llama-2.6M --rows 100
    prism warmup --model W/model --pool ../shared/data/pool/dolly_3k.jsonl --out W/warm --share 64 --epochs 2
    python benchmarks/peers/less_agreement.py W W/warm --peer .peers/dattri-llm --rows 100

Prints Spearman's correlation and the largest error by checkpoint, and of the sum weighted by learning rates. In our own
environment; the peer runs in its own.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from agreement import agreement
from workload import IGNORED, Sample, Workload, read_workload

from prism.data import Encoded, collate, plan_batches
from prism.methods.checkpoints import find_checkpoints
from prism.methods.moments import load_moments
from prism.model import load_model
from prism.scoring.backward import sample_gradients
from prism.scoring.mapped import AdamMap, mapped_engine

HERE = Path(__file__).parent


def ours(workload: Workload, checkpoint: Path, rows: int) -> tuple[np.ndarray, float]:
    """Cosines of Adam's map with the query's gradient [rows], and the checkpoint's weight."""
    model = load_model(workload.model, adapter=checkpoint, dtype="float32", device="cpu")
    moments = load_moments(checkpoint, model)
    _, query = sample_gradients(model, collate([encoded(workload.query)]))
    samples = [encoded(sample) for sample in workload.samples[:rows]]
    v = {name: query[name][None] for name in model.parameters}
    engine, why = mapped_engine(model, v, AdamMap(moments), mean_loss=True, norms=True, probes=samples[:8])
    print(f"{checkpoint.name}: step {moments.step}, weight {moments.learning_rate:.3g}; {why}", file=sys.stderr)
    size = torch.stack([g.square().sum() for g in query.values()]).sum().sqrt()
    found = np.empty(rows)
    for batch in plan_batches([len(s) for s in samples], 4096):
        result = engine.score(collate([samples[i] for i in batch]))
        assert result.norms is not None
        found[batch] = (result.scores[:, 0] / result.norms / size).numpy()
    return found, moments.learning_rate


def encoded(sample: Sample) -> Encoded:
    return Encoded(np.array(sample.input_ids), np.array(sample.labels) != IGNORED)


def theirs(peer: Path, folder: Path, checkpoints: list[Path], rows: int) -> np.ndarray:
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "scores.npy"
        command = [peer / "bin" / "python", HERE / "dattri_less_run.py", folder, *checkpoints]
        subprocess.run([*map(str, command), "--rows", str(rows), "--out", str(out)], check=True)
        found: np.ndarray = np.load(out)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workload", type=Path)
    parser.add_argument("checkpoints", nargs="+")
    parser.add_argument("--peer", type=Path, required=True, help="dattri-LLM's environment, of setup.sh")
    parser.add_argument("--rows", type=int, default=100)
    args = parser.parse_args()
    workload, checkpoints = read_workload(args.workload), find_checkpoints(args.checkpoints)
    mine, weights = map(np.array, zip(*(ours(workload, c, args.rows) for c in checkpoints), strict=True))
    others = theirs(args.peer, args.workload, checkpoints, args.rows)
    for checkpoint, a, b in zip(checkpoints, mine, others, strict=True):
        print(json.dumps({"checkpoint": checkpoint.name, "rows": args.rows, **agreement(a, b)}))
    print(json.dumps({"checkpoint": "all", "rows": args.rows, **agreement(weights @ mine, weights @ others)}))


if __name__ == "__main__":
    main()
