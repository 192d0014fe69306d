"""Scoring pass against a plain forward and backward training pass: the same model, rows and batches.

    python benchmarks/throughput.py --data ../shared/data

Every row of the table says what it computes; times are medians over alternated repeats, so that a noisy machine
disturbs all alike. The ratio is training time over scoring time: above 1, scoring is the faster.
"""

import argparse
import json
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

import prism
from prism.data import Batch, Encoded, collate, plan_batches
from prism.model import Model
from prism.scoring.backward import StreamingEngine

FILES = ("gsm8k_train", "alpaca_random9k", "dolly_3k", "gpteacher_codegen_4k")
DEMO = Path(prism.__file__).parent / "demo" / "model"
Pass = Callable[[], None]


def samples(data: Path, model: Model, rows: int, length: int, seed: int) -> list[Encoded]:
    files = [data / "pool" / f"{name}.jsonl" for name in FILES]
    if missing := [str(f) for f in files if not f.exists()]:
        sys.exit(f"the benchmark needs {missing[0]}: give the data folder with --data")
    encoder = model.encoder(max_length=length)
    chosen = random.Random(seed).sample(list(prism.load_pool(files)), rows)
    return [encoder.row(row) for row in chosen]


def scoring_pass(model: Model, batches: list[Batch], norms: bool = False) -> Pass:
    directions = {name: torch.randn_like(p)[None] for name, p in model.parameters.items()}
    engine = StreamingEngine(model, directions, norms)

    def run() -> None:
        for batch in batches:
            engine.score(batch)

    return run


def training_pass(model: Model, batches: list[Batch]) -> Pass:
    """What a trainer does per step, less the optimizer: HF loss on padded batches, gradients of the trained weights."""
    labelled = []
    for batch in batches:
        labels = torch.full_like(batch.ids, -100)
        labels.view(-1)[batch.predictors + 1] = batch.labels
        labelled.append((batch, labels))
    trained = list(model.parameters.values() if model.which == "lora" else model.network.parameters())

    def run() -> None:
        for parameter in trained:
            parameter.requires_grad_(True)
        for batch, labels in labelled:
            model.network(input_ids=batch.ids, attention_mask=batch.mask, labels=labels).loss.backward()
            model.network.zero_grad()
        for parameter in trained:
            parameter.requires_grad_(False)

    return run


def medians(passes: dict[str, Pass], repeats: int) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in passes}
    for run in passes.values():
        run()
    for _ in range(repeats):
        for name, run in passes.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with pool/*.jsonl")
    parser.add_argument("--model", type=Path, default=DEMO)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--batch-tokens", type=int, default=8192)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    results = []
    for which, what in (("linear", "all linear weights"), ("lora", "LoRA r = 16 on all linear layers")):
        model = prism.load_model(args.model, dtype=args.dtype, parameters=which)
        encoded = samples(args.data, model, args.rows, args.max_length, args.seed)
        plan = plan_batches([len(s) for s in encoded], args.batch_tokens)
        batches = [collate([encoded[i] for i in batch]) for batch in plan]
        tokens = sum(len(s) for s in encoded)
        times = medians(
            {
                "training": training_pass(model, batches),
                "scoring": scoring_pass(model, batches),
                "scoring with norms": scoring_pass(model, batches, norms=True),
            },
            args.repeats,
        )
        for name, seconds in times.items():
            results.append(
                {
                    "pass": f"{name}, {what}",
                    "samples/s": round(args.rows / seconds, 1),
                    "tokens/s": round(tokens / seconds),
                    "training time / this": round(times["training"] / seconds, 2),
                }
            )
            print(json.dumps(results[-1]), flush=True)


if __name__ == "__main__":
    main()
