"""Scoring against training, the per-sample loop and other libraries: the same model and rows, in one run.

    python benchmarks/throughput.py --data ../shared/data --model ../shared/models/tiny-llama-2.6M --peers .peers
    python benchmarks/throughput.py --data ../shared/data --model random-25m --peers .peers --rows 200

Every row of the table says what it computes. Passes take turns (alternate.py), peers as processes in environments of
their own; peak memory is measured pass by pass, each in a process of its own (memory.py). README.md lists the passes.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from alternate import NotRun, Pass, Timed, alternated
from memory import MEASURED, measured
from passes import Bench
from peer_passes import EXACT, MODES, OWN_SCORES, Peers, Variant
from peers.agreement import agreement
from peers.resident import available
from peers.workload import RANDOM, Workload, read_workload
from report import Row, markdown

import prism
from prism.config import SelectConfig

HERE = Path(__file__).parent
DEMO = Path(prism.__file__).parent / "demo" / "model"
BATCH_TOKENS = SelectConfig.model_fields["batch_tokens"].default


def main() -> None:
    args = arguments()
    workload = made_workload(args)
    rows = min(args.rows, len(workload.samples))
    results: Row = {"about": about(args, workload, rows), "groups": {}}

    def keep(parameters: str, group: Row) -> None:
        results["groups"][parameters] = group
        if args.out:
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text(json.dumps(results, indent=2) + "\n")

    for parameters in args.parameters:
        keep(parameters, {})
        Group(args, workload, parameters, rows, keep).run()
    text = markdown(results)
    if args.out:
        args.out.with_suffix(".md").write_text(text)
    print(text)


class Group:
    """All passes for one choice of parameters."""

    def __init__(self, args: argparse.Namespace, workload: Workload, parameters: str, rows: int, keep: Any) -> None:
        self._args, self._workload, self._parameters, self._rows, self._keep = args, workload, parameters, rows, keep
        few = args.few or max(1, rows // 4)
        self._bench = Bench(workload, parameters, rows, args.batch_tokens, few=few, seed=args.seed)
        self._peers = Peers(args.peers, workload, parameters, args.limit) if args.peers else None

    def run(self) -> None:
        args = self._args
        group: Row = {}
        say(f"{self._parameters}: {self._bench.direction.norm():.4g} is the norm of the query's gradient")
        truth = oracle(self._workload, self._parameters, min(args.check_rows, self._rows))
        if not args.no_memory:
            group["memory"] = self._memory()
            self._keep(self._parameters, group)
        passes, group["not_made"] = self._ours()
        if self._peers:
            variants = [Variant.parse(text) for text in args.variants]
            if not variants:
                there = [
                    peer
                    for peer in EXACT
                    if self._peers.has(peer) and any(self._wanted(f"{peer}:{m}") for m in MODES[peer])
                ]
                group["tuning"] = [row for peer in there for row in self._peers.tune(peer, args.tuning_rows)]
                variants = [Variant.parse(row["variant"]) for row in group["tuning"] if row.get("best")]
                variants.append(Variant("less", "less"))
                self._keep(self._parameters, group)
            theirs, not_made = self._theirs(self._peers, variants)
            passes += theirs
            group["not_made"] += not_made

        def after_each(timed: Sequence[Timed]) -> None:
            group["passes"] = [described(one, truth) for one in timed] + group["not_made"]
            self._keep(self._parameters, {**group, "memory": [*group.get("memory", []), *peer_memory(group["passes"])]})

        after_each(alternated(passes, args.repeats, after_each))

    def _wanted(self, key: str) -> bool:
        return re.search(self._args.only, key) is not None

    def _ours(self) -> tuple[list[Pass], list[Row]]:
        made, not_made = [], []
        for key in filter(self._wanted, self._bench.keys()):
            say(f"  preparing {key}")
            try:
                made.append(self._bench.make(key))
            except NotRun as reason:
                not_made.append({"pass": key, "computes": "", "rows": "", "problem": str(reason)})
        return made, not_made

    def _theirs(self, peers: Peers, variants: Sequence[Variant]) -> tuple[list[Pass], list[Row]]:
        made, not_made = [], []
        for variant in (v for v in variants if self._wanted(str(v))):
            try:
                made.append(peers.make(variant, self._args.peer_rows or self._rows))
            except NotRun as reason:
                not_made.append({"pass": str(variant), "computes": "", "rows": "", "problem": str(reason)})
        return made, not_made

    def _memory(self) -> list[Row]:
        found = []
        offered = self._bench.keys()
        for key in (key for key in MEASURED if key in offered and self._wanted(key)):
            folder = self._workload.folder
            found.append(measured(folder, key, self._parameters, self._rows, self._args.batch_tokens))
            say(f"  memory of {key}: {found[-1].get('peak_mib', found[-1].get('problem'))}")
        return found


def described(timed: Timed, truth: np.ndarray) -> Row:
    """A row of the results, with how far the scores are from the true ones."""
    row = timed.as_json()
    scores = timed.outcomes[-1].scores if timed.outcomes else None
    if scores is not None and not row["pass"].startswith(OWN_SCORES):
        count = min(len(scores), len(truth))
        row |= agreement(scores[:count], truth[:count])
    return row


def peer_memory(passes: Sequence[Row]) -> list[Row]:
    return [
        {"pass": row["pass"], "rows": row["rows"], "peak_mib": row["peak_rss_mib"] - row["loaded_rss_mib"]}
        for row in passes
        if "peak_rss_mib" in row
    ]


def made_workload(args: argparse.Namespace) -> Workload:
    """The workload of these arguments, made where it isn't there yet; the folder stays for the next run."""
    name = args.model if args.model == RANDOM else Path(args.model).name
    folder: Path = args.work / f"{name}-{args.drawn}-rows-seed-{args.seed}"
    if not (folder / "workload.json").exists():
        say(f"making the workload {folder}")
        words = [folder, "--data", args.data, "--model", args.model, "--tokenizer", args.tokenizer]
        words += ["--rows", args.drawn, "--seed", args.seed]
        script(HERE / "peers" / "workload.py", words)
    return read_workload(folder)


def oracle(workload: Workload, parameters: str, rows: int) -> np.ndarray:
    """Scores of the first rows by per-sample autograd in float64."""
    out = workload.folder / f"truth-{parameters}-{rows}.npy"
    if not out.exists():
        say(f"  per-sample autograd in float64, {rows} rows")
        script(
            HERE / "peers" / "oracle.py", [workload.folder, "--parameters", parameters, "--rows", rows, "--out", out]
        )
    found: np.ndarray = np.load(out)
    return found


def script(path: Path, words: Sequence[object]) -> None:
    if subprocess.run([sys.executable, str(path), *map(str, words)], stdout=subprocess.DEVNULL).returncode:
        sys.exit(f"{path.name} failed")


def about(args: argparse.Namespace, workload: Workload, rows: int) -> Row:
    packages = ("torch", "transformers", "peft", "numpy")
    versions = [f"PRISM {prism.__version__} ({revision()})", *(f"{name} {version(name)}" for name in packages)]
    return {
        "command": " ".join(["python", *sys.argv]),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "workload": workload.about,
        "rows": rows,
        "tokens": sum(len(s) for s in workload.samples[:rows]),
        "checked_rows": min(args.check_rows, rows),
        "repeats": args.repeats,
        "batch_tokens": args.batch_tokens,
        "versions": ", ".join([f"Python {platform.python_version()}", *versions]),
        "machine": {
            "processor": processor(),
            "system": platform.platform(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "wait_policy": os.environ.get("OMP_WAIT_POLICY"),
            "clock": os.environ.get("BENCHMARK_CLOCK", "wall"),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
            "available_gib": round(available() / 2**30, 1),
            "load": round(os.getloadavg()[0], 2),
        },
    }


def processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return names[0].partition(": ")[2] if names else platform.processor() or platform.machine()


def revision() -> str:
    asked = ["git", "-C", str(HERE), "describe", "--always", "--dirty"]
    return subprocess.run(asked, capture_output=True, text=True).stdout.strip() or "no revision"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with pool/*.jsonl")
    parser.add_argument("--model", default=str(DEMO), help=f"model folder, or {RANDOM}")
    parser.add_argument("--tokenizer", type=Path, default=DEMO, help=f"folder with the tokenizer that {RANDOM} gets")
    parser.add_argument("--peers", type=Path, help="folder of the peers' environments (peers/setup.sh); none without")
    parser.add_argument("--variants", nargs="+", default=[], help="PEER:MODE@TOKENS …, in place of a tuning run")
    parser.add_argument("--parameters", nargs="+", choices=("linear", "lora"), default=["linear", "lora"])
    parser.add_argument("--drawn", type=int, default=2000, help="rows of the workload")
    parser.add_argument("--rows", type=int, default=2000, help="of these, how many from the start are used")
    parser.add_argument("--few", type=int, help="rows of the loop and of 1,000 directions; a quarter unless given")
    parser.add_argument("--peer-rows", type=int, help="rows that peers score; as many as we unless given")
    parser.add_argument("--tuning-rows", type=int, default=100)
    parser.add_argument("--check-rows", type=int, default=200, help="rows scored in float64 to compare with")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch-tokens", type=int, default=BATCH_TOKENS, help="padded tokens per batch of ours")
    parser.add_argument("--only", default="", help="regular expression on the names of passes")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--limit", type=float, default=1800, help="seconds after which a peer's process is stopped")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("/tmp/prism-throughput"), help="workloads land and stay here")
    parser.add_argument("--out", type=Path, help="JSON, written after every turn; the tables go beside it as .md")
    args = parser.parse_args()
    try:
        _ = [Variant.parse(text) for text in args.variants]
        re.compile(args.only)
    except (ValueError, re.error) as error:
        parser.error(str(error))
    if args.model != RANDOM and not Path(args.model).is_dir():
        parser.error(f"there is no model folder {args.model}")
    if not (args.data / "pool").is_dir():
        parser.error(f"there is no {args.data / 'pool'}: give the data folder with --data")
    return args


if __name__ == "__main__":
    main()
