"""What `prism compare` saves by scoring methods that differ in their directions alone in one pass.

    python benchmarks/together.py --data ../shared/data --model ../shared/models/tiny-llama-2.6M
    python benchmarks/together.py … --methods less rose --targets safety gsm8k --checkpoints WARMUP

Each turn scores one pool by every method alone, then by all together, in fresh folders, everything included: loading,
target, curvature and pass. With BENCHMARK_CLOCK=cpu it counts the seconds that threads worked.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent / "experiments")]

import numpy as np  # noqa: E402
from material import Material  # noqa: E402

from prism.config import SelectConfig  # noqa: E402
from prism.experiments.statistics import spearman  # noqa: E402
from prism.progress import Silent  # noqa: E402
from prism.run.select import run_select  # noqa: E402
from prism.run.together import score_together, together  # noqa: E402

METHODS = ("prism", "prism-sharp", "prism-ekfac", "if-guide", "prism-kfac-cosine")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the shared data: pool/, target/, safety/")
    parser.add_argument("--model", required=True)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--targets", nargs="+", default=["safety"], help="each method is run for each")
    parser.add_argument("--checkpoints", nargs="+", default=[], help="of prism warmup, for methods that score there")
    args = parser.parse_args()
    clock = time.process_time if os.environ.get("BENCHMARK_CLOCK") == "cpu" else time.monotonic
    with tempfile.TemporaryDirectory() as place:
        material = Material(args.data, Path(place) / "data")
        targets = {name: material.target(name, 64, 64)[0] for name in args.targets}
        seconds: dict[str, list[float]] = {"alone": [], "together": []}
        agreement = 1.0
        for turn in range(args.repeats):
            configs = {
                way: [
                    SelectConfig(
                        model=args.model,
                        pool=[str(material.pool(args.rows))],
                        target=[str(target)],
                        method=method,
                        checkpoints=args.checkpoints,
                        max_length=256,
                        dtype="float32",
                        out=f"{place}/{way}-{turn}-{method}-{name}",
                    )
                    for method in args.methods
                    for name, target in targets.items()
                ]
                for way in seconds
            }
            began = clock()
            alone = [run_select(config) for config in configs["alone"]]
            seconds["alone"].append(clock() - began)
            began = clock()
            (group,) = together(configs["together"])
            list(score_together(group, Silent()))
            found = [run_select(config) for config in configs["together"]]
            seconds["together"].append(clock() - began)
            scores = [[np.asarray(run.selection.scores.column("score")) for run in runs] for runs in (alone, found)]
            agreement = min(agreement, *(spearman(a, b) for a, b in zip(*scores, strict=True)))
        ratios = [a / b for a, b in zip(seconds["alone"], seconds["together"], strict=True)]
        print(
            json.dumps(
                {
                    "methods": list(args.methods),
                    "targets": args.targets,
                    "rows": args.rows,
                    "seconds": seconds,
                    "alone_over_together": statistics.median(ratios),
                    "least_spearman": agreement,
                },
                indent=2,
            )
        )


if __name__ == "__main__":
    main()
