"""How a run grows with its pool: time per row and peak memory of `prism select` from 1,000 to 1,000,000 short rows.

    python benchmarks/growth.py --data ../shared/data --model ../shared/models/stories260K --rows 1000 10000 100000

The rows are made of the words of real pool files, at most 32 tokens each, the same for the same seed; half of them
have ids of their own. Of each size a dry run foretells the figures, a first run scores and selects, and a second one
selects again from the stored scores. Every run is a process of its own, so that its peak memory is its own.
"""

import argparse
import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

FILES = ("gsm8k_train", "alpaca_random9k", "dolly_3k", "codealpaca_2k")
LONGEST = 32
ROOM = LONGEST - 4  # for BOS, EOS and what the seam between prompt and completion may cost
PAIRS = 32
WORD = re.compile(r"\b[A-Za-z]{2,9}\b")


def vocabulary(data: Path) -> dict[str, list[str]]:
    """Source name → its words, in order of their first use."""
    files = [data / "pool" / f"{name}.jsonl" for name in FILES]
    if missing := [str(f) for f in files if not f.exists()]:
        sys.exit(f"the benchmark needs {missing[0]}: give the data folder with --data")
    found = {}
    for file in files:
        with file.open(encoding="utf-8") as lines:
            text = " ".join(m["content"] for _, line in zip(range(1000), lines, strict=False) for m in _turns(line))
        found[file.stem] = list(dict.fromkeys(WORD.findall(text)))
    return found


def _turns(line: str) -> list[dict[str, str]]:
    turns: list[dict[str, str]] = json.loads(line)["messages"]
    return turns


def short_rows(words: dict[str, list[str]], tokenizer: Any, rows: int, seed: int) -> Iterator[dict[str, str]]:
    """`rows` rows of a few words, each at most `LONGEST` tokens with BOS and EOS."""
    draw = random.Random(seed)
    sources = list(words)
    for first in range(0, rows, 4096):
        batch = []
        for number in range(first, min(first + 4096, rows)):
            source = draw.choice(sources)
            text = [draw.choice(words[source]) for _ in range(draw.randint(4, 12))]
            batch.append((number, source, text))
        lengths = [len(ids) for ids in tokenizer([" ".join(text) for _, _, text in batch]).input_ids]
        for (number, source, text), length in zip(batch, lengths, strict=True):
            if length > ROOM:
                text = text[: max(2, len(text) * ROOM // (length + 4))]
            half = len(text) // 2
            row = {"prompt": " ".join(text[:half]), "completion": " " + " ".join(text[half:]), "source": source}
            yield {"id": f"row-{number:07d}", **row} if number % 2 else row


def write_rows(path: Path, rows: Iterator[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row) + "\n")


def write_pairs(path: Path, words: dict[str, list[str]]) -> None:
    draw = random.Random(0)
    first, second = list(words.values())[:2]
    with path.open("w", encoding="utf-8") as file:
        for _ in range(PAIRS):
            prompt, chosen, rejected = (" ".join(draw.sample(w, 2)) for w in (first, first, second))
            file.write(json.dumps({"prompt": prompt, "chosen": " " + chosen, "rejected": " " + rejected}) + "\n")


def run(words: list[str]) -> tuple[float, float, str]:
    """(seconds, peak MiB, stdout) of a `prism` process."""
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "prism", *words], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    out = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"prism {' '.join(words)} failed")
    return time.monotonic() - began, usage.ru_maxrss / 1024, out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with pool/*.jsonl")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--work", type=Path, default=Path("/tmp/prism-growth"), help="pools and run folders land here")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    words, tokenizer = vocabulary(args.data), AutoTokenizer.from_pretrained(args.model)
    target = args.work / "pairs.jsonl"
    write_pairs(target, words)
    for rows in args.rows:
        pool = args.work / f"pool-{rows}.jsonl"
        if not pool.exists():
            write_rows(pool, short_rows(words, tokenizer, rows, args.seed))
        out = args.work / f"run-{rows}-{time.time_ns()}"
        options = ["select", "--model", args.model, "--pool", pool, "--target", target, "--out", out, "--json"]
        options += ["--dtype", "float32", "--parameters", "linear", "--max-length", LONGEST, "--engine", args.engine]
        for what, more in (("dry", ["--dry-run"]), ("first", []), ("again", [])):
            seconds, peak, printed = run([str(word) for word in (*options, *more)])
            said = json.loads(printed)
            phases = {f"{name} s": round(spent, 1) for name, spent in said["phases"].items()}
            result = {"rows": rows, "run": what, "process s": round(seconds, 1), "seconds": said["seconds"], **phases}
            size = sum(file.stat().st_size for file in out.rglob("*")) if what == "first" else 0
            disk = said["disk_bytes"]["total"] if what == "dry" else size
            peak = said["peak_memory_mb"] if what == "dry" else peak
            print(json.dumps({**result, "peak MiB": round(peak), "disk MB": round(disk / 1e6, 2)}), flush=True)


if __name__ == "__main__":
    main()
