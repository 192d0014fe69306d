"""Peak memory of one pass, in a process of its own: python benchmarks/memory.py WORKLOAD PASS --parameters linear

What is counted begins when the model is loaded: the direction and the choice of the engine are in `peak_mib`, and
`pass_mib` is what the pass itself reaches, beyond the same beginning.
"""

import argparse
import gc
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from alternate import NotRun
from passes import Bench
from peers.resident import forget_peak, give_back, resident
from peers.workload import read_workload

MEASURED = ("training", "training-all", "inference", "inference-ours", "backward-1", "forward-1")


def measured(workload: Path, key: str, parameters: str, rows: int, batch_tokens: int) -> dict[str, Any]:
    """The peak of a pass, measured in a process of its own; a `problem` where it can't be run."""
    words = [str(workload), key, "--parameters", parameters, "--rows", str(rows), "--batch-tokens", str(batch_tokens)]
    done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True)
    if done.returncode:
        print(done.stderr[-3000:], file=sys.stderr)
        return {"pass": key, "problem": f"exit status {done.returncode}"}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workload", type=Path)
    parser.add_argument("key", metavar="PASS")
    parser.add_argument("--parameters", choices=("linear", "lora"), required=True)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--batch-tokens", type=int, required=True)
    args = parser.parse_args()
    bench = Bench(read_workload(args.workload), args.parameters, args.rows, args.batch_tokens, few=args.rows)
    bench.load(args.key)
    loaded = resident()
    forget_peak()
    found: dict[str, Any] = {"pass": args.key, "rows": args.rows, "loaded_mib": round(loaded)}
    try:
        made = bench.make(args.key, warm=False)
    except NotRun as reason:
        print(json.dumps({**found, "problem": str(reason)}))
        return
    before = resident(peak=True)
    gc.collect()
    give_back()
    apart = forget_peak()
    made.run()
    after = resident(peak=True)
    found |= {"peak_mib": round(max(before, after) - loaded, 1)}
    if apart:
        found["pass_mib"] = round(after - loaded, 1)
    if args.key.startswith(("backward", "forward")):
        chosen = bench.model.parameters.values()
        found["chosen_mib"] = round(sum(p.numel() * p.element_size() for p in chosen) / 2**20, 2)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
