"""How far scores in float32, bfloat16, float16 and with 8-bit or 4-bit bases are from float64's, on real rows.

    python benchmarks/precision.py --data ../shared/data --model prism/demo/model
    python benchmarks/precision.py --data ../shared/data --model prism/demo/model --parameters lora

The same rows (a quarter from each of four pool files) are scored against the same pairs (safe answers, and ordinary
answers to other prompts) by the backward engine, each precision from its own direction, as a run would. With
`--parameters lora` a new LoRA is attached, and quantised bases take part. No timing: what else runs does not matter.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from growth import FILES
from scipy.stats import spearmanr

from prism import load_model, load_pool, load_target
from prism.errors import PrismError
from prism.scoring import score_pool
from prism.target import Direction, measure_target

PLAIN = ("float64", "float32", "bfloat16", "float16")
QUANTISED = (("8bit", "float32"), ("8bit", "bfloat16"), ("4bit", "float32"), ("4bit", "bfloat16"))
SAFE = "safety/safety_tuned_llamas_2483.jsonl"
COLUMNS = ("precision", "engine", "direction error", "Spearman", "top 5 % shared", "largest difference")


def first(data: Path, name: str, count: int, start: int = 0) -> list[list[dict[str, str]]]:
    """The conversations of some rows of a file."""
    if not (data / name).exists():
        sys.exit(f"the benchmark needs {data / name}: give the data folder with --data")
    with (data / name).open(encoding="utf-8") as lines:
        rows = [json.loads(line)["messages"] for _, line in zip(range(start + count), lines, strict=False)]
    return rows[start:]


def wanted(parameters: str, only: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, options of `load_model`) of the reference, then of those that `only` matches, last what CPUs are slowest
    at."""
    yield PLAIN[0], {"dtype": PLAIN[0]}
    every: list[tuple[str, dict[str, Any]]] = [(dtype, {"dtype": dtype}) for dtype in PLAIN[1:-1]]
    if parameters == "lora":
        every += [(f"{bits}, {dtype}", {"dtype": dtype, "quantize": bits}) for bits, dtype in QUANTISED]
    every.append((PLAIN[-1], {"dtype": PLAIN[-1]}))
    yield from ((name, options) for name, options in every if re.search(only, name))


def compared(scores: np.ndarray, exact: np.ndarray) -> tuple[str, str, str]:
    best = max(1, len(exact) // 20)
    shared = len(set(np.argsort(-scores)[:best]) & set(np.argsort(-exact)[:best]))
    largest = np.abs(scores - exact).max() / np.abs(exact).max()
    return f"{spearmanr(scores, exact).statistic:.6f}", f"{shared} of {best}", f"{largest:.1e}"


def off(direction: Direction, exact: Direction) -> str:
    parts = [direction.tensors[name].double() - t for name, t in exact.tensors.items()]
    return f"{float(torch.stack([p.square().sum() for p in parts]).sum().sqrt()) / exact.norm():.1e}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with pool/*.jsonl and safety/*.jsonl")
    parser.add_argument("--model", required=True)
    parser.add_argument("--parameters", default="linear", choices=["linear", "all", "lora"])
    parser.add_argument("--only", default="", help="regular expression on the names of precisions")
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--max-length", type=int, default=512)
    args = parser.parse_args()
    rows = [{"messages": m} for f in FILES for m in first(args.data, f"pool/{f}.jsonl", args.rows // len(FILES))]
    ordinary = first(args.data, f"pool/{FILES[1]}.jsonl", args.pairs, start=args.rows)
    pairs = [
        {"prompt": safe[0]["content"], "chosen": safe[1]["content"], "rejected": other[1]["content"]}
        for safe, other in zip(first(args.data, SAFE, args.pairs), ordinary, strict=True)
    ]
    print(f"{args.model}, {args.parameters}: {len(rows)} rows, {len(pairs)} pairs, at most {args.max_length} tokens\n")
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    exact: tuple[Direction, np.ndarray] | None = None
    for name, options in wanted(args.parameters, args.only):
        try:
            model = load_model(args.model, parameters=args.parameters, **options)
        except PrismError as error:
            print(f"| {name} | not run: {error} |", flush=True)
            continue
        encoder = model.encoder(max_length=args.max_length)
        direction = measure_target(model, load_target(pairs), encoder).direction
        table = score_pool(model, load_pool(rows), direction, encoder, engine="backward")
        scores = table.column("score").astype(float)
        if exact is None:
            exact = direction, scores
        found = (name, table.details["engine"], off(direction, exact[0]), *compared(scores, exact[1]))
        print(f"| {' | '.join(found)} |", flush=True)


if __name__ == "__main__":
    main()
