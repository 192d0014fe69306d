"""Scores by plain autograd in float64, one sample at a time; and how far a peer's scores are from them.

python benchmarks/peers/oracle.py WORKLOAD --parameters linear --out ORACLE.npy
python benchmarks/peers/oracle.py WORKLOAD --parameters linear --out ORACLE.npy --compare RESULT.json ...
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from agreement import Array, agreement
from common import collate, linear_modules, load_network, summed_loss
from workload import Sample, Workload, read_workload


def oracle(workload: Workload, parameters: str, rows: int | None) -> Array:
    """The inner product of each sample's gradient with the query's."""
    network = load_network(workload, parameters, torch.float64)
    weights = [network.get_submodule(name).weight.requires_grad_() for name in linear_modules(network, parameters)]

    def gradient(sample: Sample) -> torch.Tensor:
        found = torch.autograd.grad(summed_loss(network, collate([sample])), weights)
        return torch.cat([g.flatten() for g in found])

    direction = gradient(workload.query)
    return np.array([float(gradient(sample) @ direction) for sample in workload.samples[:rows]])


def compare(results: Sequence[Path], truth: Array) -> None:
    for file in results:
        result = json.loads(file.read_text())
        scores = np.load(file.parent / result["scores"])
        figures = agreement(scores, truth[: len(scores)])
        print(json.dumps({"result": file.name, "rows": len(scores), **figures}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workload", type=Path)
    parser.add_argument("--parameters", choices=("linear", "lora"), required=True)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--out", type=Path, required=True, help="made where it isn't there yet")
    parser.add_argument("--compare", type=Path, nargs="*", default=[])
    args = parser.parse_args()
    if not args.out.exists():
        np.save(args.out, oracle(read_workload(args.workload), args.parameters, args.rows))
    compare(args.compare, np.load(args.out))


if __name__ == "__main__":
    main()
