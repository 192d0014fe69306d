"""Every method on one pool: its cost beside a training pass, what it picks, and what noise in the target does to it.

python benchmarks/methods.py --data ../shared/data --model ../shared/models/stories260K --rows 20000 --work /tmp/methods

Resumable: what `--work` holds already is not done again. The table goes to the screen and to WORK/methods.md.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from peers.clock import CPU, now
from scipy.stats import spearmanr

POOL = ("t0_p3_full", "alpaca_random9k", "gsm8k_train", "commonsenseqa_train", "dolly_3k", "codealpaca_2k")
TARGET = ("gsm8k_test", "commonsenseqa_dev", "bbh_6511", "truthfulqa_gen_817")
NOISE = (0.2, 0.4)
SHARE = 0.05
WARMED = ("less", "rose", "tracin")
NO_TARGET = ("random", "longest", "perplexity", "ifd")
SHARED = "Times are those that all threads worked, since other jobs shared the machine. "
Floats = npt.NDArray[np.float64]


def main() -> None:
    args = arguments()
    if args.train_pass:
        train_pass(args)
        return
    args.work.mkdir(parents=True, exist_ok=True)
    bench = Bench(args)
    bench.prepare()
    bench.once("training pass", bench.training)
    names = bench.names()
    if set(names) & set(WARMED):
        bench.once("warm-up", bench.warm)
    for name in names:
        if not bench.derives(name):
            bench.once(name, lambda name=name: bench.measure(name))
    bench.once("matrix", lambda: bench.pair_scores("prism"))
    if "prism-ekfac" in names:
        bench.once("matrix-ekfac", lambda: bench.pair_scores("prism-ekfac"))
    with ThreadPoolExecutor(2) as workers:  # nothing is timed here
        jobs = [(name, noise) for name in names for noise in NOISE if bench.reruns(name)]
        list(workers.map(lambda job: bench.noisy(*job), jobs))
    text = bench.table(names)
    (args.work / "methods.md").write_text(text)
    print(text)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with pool/ and target/")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("/tmp/prism-methods"))
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument(
        "--noise-rows", type=int, default=2_000, help="for methods that need a pass for each noise level"
    )
    parser.add_argument("--pairs", type=int, default=48, help="dealt evenly to the target files, each a subtask")
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--checkpoints", type=int, default=2)
    parser.add_argument("--share", default="5%", help="of the pool, for the warm-up")
    parser.add_argument("--curvature-samples", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", help="methods; all that prism methods lists and that need no more options")
    parser.add_argument(
        "--derive", action="store_true", help="no pass of their own for methods that follow from the pair scores"
    )
    parser.add_argument("--train-pass", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not args.train_pass and not (args.data / "pool").is_dir():
        parser.error(f"{args.data} holds no pool/: see the README of benchmarks")
    return args


class Bench:
    """A folder with the data, a run folder for each method, and `results.json`."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.work, self._lock = args, args.work, Lock()
        self.file = self.work / "results.json"
        self.results: dict[str, Any] = json.loads(self.file.read_text()) if self.file.exists() else {}

    def once(self, name: str, make: Callable[[], dict[str, Any]]) -> None:
        if name not in self.results:
            print(f"{time.strftime('%H:%M:%S')} {name}", file=sys.stderr, flush=True)
            try:
                found = make()
            except subprocess.CalledProcessError as error:
                found = {"error": (error.stderr.strip().splitlines() or ["failed"])[-1]}
            with self._lock:
                self.results[name] = found
                self.file.write_text(json.dumps(self.results, indent=1))

    def prepare(self) -> None:
        """Pool, its first rows, and the target with each share of its pairs swapped; the same for the same seed."""
        draw = random.Random(self.args.seed)
        rows = [row for name in POOL for row in read(self.args.data / "pool" / f"{name}.jsonl", name)]
        draw.shuffle(rows)
        rows = rows[: self.args.rows]
        write(self.work / "pool.jsonl", rows)
        write(self.work / "part.jsonl", rows[: self.args.noise_rows])
        pairs = []
        for name in TARGET:
            items = read(self.args.data / "target" / f"{name}.jsonl", name)
            draw.shuffle(items)
            pairs += paired(items, name)[: self.args.pairs // len(TARGET)]
        order = list(range(len(pairs)))
        draw.shuffle(order)
        for noise in (0.0, *NOISE):
            swapped = set(order[: round(noise * len(pairs))])
            write(self.target(noise), [swap(pair) if i in swapped else pair for i, pair in enumerate(pairs)])
        (self.work / "swapped.json").write_text(json.dumps({n: order[: round(n * len(pairs))] for n in (0.0, *NOISE)}))

    def target(self, noise: float = 0.0) -> Path:
        return self.work / f"pairs-{round(100 * noise):02d}.jsonl"

    def names(self) -> list[str]:
        if self.args.only:
            return ["prism", *(name for name in self.args.only if name != "prism")]
        listed = json.loads(prism("methods", "--json"))
        return [row["name"] for row in listed if row["name"] not in ("delta-loss", "reducible-loss", "rho")]

    def training(self) -> dict[str, Any]:
        here = [sys.executable, __file__, "--train-pass", "--data", ".", "--model", str(self.args.model)]
        here += ["--work", str(self.work), "--max-length", str(self.args.max_length)]
        done = subprocess.run(here, capture_output=True, text=True, check=True)
        return dict(json.loads(done.stdout.splitlines()[-1]))

    def warm(self) -> dict[str, Any]:
        options = ["--share", self.args.share, "--checkpoints", str(self.args.checkpoints), "--epochs", "2"]
        options += ["--max-length", str(self.args.max_length), "--seed", str(self.args.seed)]
        began = children() if CPU else time.monotonic()
        prism(
            "warmup", "--model", str(self.args.model), "--pool", str(self.work / "pool.jsonl"), "--out",
            str(self.work / "warm"), *options,
        )  # fmt: skip
        return {"seconds": (children() if CPU else time.monotonic()) - began}

    def select(self, name: str, out: str, *more: str, noise: float = 0.0, pool: str = "pool") -> dict[str, Any]:
        command = [
            "select",
            "--method",
            name,
            "--model",
            str(self.args.model),
            "--pool",
            str(self.work / f"{pool}.jsonl"),
        ]
        command += ["--target", str(self.target(noise)), "--out", str(self.work / out), "--budget", f"{SHARE:%}"]
        command += ["--max-length", str(self.args.max_length), "--keep-duplicates", "--json"]
        command += ["--curvature-samples", str(self.args.curvature_samples), *more]
        if name in WARMED:
            command += ["--checkpoints", str(self.work / "warm")]
        return dict(json.loads(prism(*command)))

    def measure(self, name: str) -> dict[str, Any]:
        began = children()
        summary = self.select(name, f"clean/{name}")
        worked = children() - began
        loading = sum(summary["phases"].get(phase, 0) for phase in ("reading", "loading"))
        return {
            "seconds": (worked - self.startup() if CPU else summary["seconds"]) - loading,
            "memory": summary["peak_memory_mb"],
            "phases": summary["phases"],
        }

    def startup(self) -> float:
        """Seconds of work before a run begins: imports."""
        if "startup" not in self.results:
            began = children()
            subprocess.run([sys.executable, "-c", "import prism.run.select"], check=True)
            self.results["startup"] = children() - began
        return float(self.results["startup"])

    def pair_scores(self, name: str) -> dict[str, Any]:
        began = time.monotonic()
        self.select(name, f"clean/{name}", "--pair-scores")
        return {"seconds": time.monotonic() - began}

    def reruns(self, name: str) -> bool:
        return "error" not in self.results.get(name, {}) and name not in (*LINEAR, *NO_TARGET)

    def derives(self, name: str) -> bool:
        """Whether a method's scores are made of those against each pair, in place of a pass like PRISM's of its own."""
        rule = LINEAR.get(name)
        return self.args.derive and rule is not None and rule.by != "norm" and name not in ("prism", "prism-ekfac")

    def noisy(self, name: str, noise: float) -> None:
        pool = "part" if name in WARMED else "pool"
        self.once(f"{name} {noise}", lambda: self.select(name, f"noise-{noise}/{name}", noise=noise, pool=pool) and {})

    def scores(self, out: str) -> dict[str, Any]:
        """Columns of a run's score table, by name."""
        shards = sorted((self.work / out / "scores").glob("*.parquet"))
        tables = [pq.read_table(shard) for shard in shards]
        names = ("id", "score", "source", "response_tokens", "gradient_norm")
        return {n: np.concatenate([np.array(t.column(n).to_pylist()) for t in tables]) for n in names}

    def table(self, names: list[str]) -> str:
        args, plain = self.args, self.results["training pass"]
        reference = set(top(self.scores("clean/prism")))
        warmed = self.results.get("warm-up", {}).get("seconds", 0)
        lines = [
            f"{args.rows:,} rows of {', '.join(POOL)} (seed {args.seed}), at most {args.max_length} tokens; "
            f"{args.pairs} pairs of {', '.join(TARGET)}, y- another item's answer; {args.model.name}, {os.cpu_count()} "
            "cores. A training pass over the pool (gradients of the linear weights, batches of 8): "
            f"{plain['seconds']:.0f} s, {plain['memory']} MiB. "
            f"{SHARED if CPU else ''}Warm-up, not counted below: {warmed:.0f} s.",
            "",
            "| method | time over training | peak MiB | top 5 % shared with PRISM | mean response tokens | most picked "
            "| 20 % swapped | 40 % swapped |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for name in names:
            derived = self.derives(name)
            result = self.results.get(name, {} if derived else {"error": "not run"})
            if "error" in result:
                lines.append(f"| `{name}` | {result['error']} | | | | | | |")
                continue
            scores = self.scores("clean/prism" if derived else f"clean/{name}")
            if derived:
                scores["score"] = self.linear(name, 0.0, scores)
            best = top(scores)
            sources = Counter(scores["source"][best].tolist()).most_common(3)
            picked = ", ".join(f"{source} {count / len(best):.0%}" for source, count in sources)
            same = len(reference & set(best)) / len(best)
            length = scores["response_tokens"][best].mean()
            noise = [self.stability(name, scores, level) for level in NOISE]
            like = "prism-ekfac" if name in LINEAR and LINEAR[name].curved else "prism"
            cost = f"as `{like}` | "
            if not derived:
                cost = f"{result['seconds'] / plain['seconds']:.2f} | {result['memory']}"
            lines.append(f"| `{name}` | {cost} | {same:.0%} | {length:.0f} | {picked} | {noise[0]} | {noise[1]} |")
        lines += [
            "",
            "Where the cost is another method's, scores were made of the scores against each pair, exactly. "
            * args.derive
            + "The last two columns are Spearman correlations of a method's ranking with its own on the clean target. "
            f"Those of {', '.join(LINEAR)} follow from the scores against each pair, exactly; those of "
            f"{', '.join(WARMED)} are over the pool's first {args.noise_rows:,} rows; the others are own runs.",
        ]
        return "\n".join(lines) + "\n"

    def stability(self, name: str, clean: dict[str, Any], noise: float) -> str:
        if name in NO_TARGET:
            return "1 (sees no target)"
        if name in LINEAR:
            if f"matrix{'-ekfac' * LINEAR[name].curved}" not in self.results:
                return ""
            return f"{correlation(self.linear(name, 0.0, clean), self.linear(name, noise, clean)):.3f}"
        if "error" in self.results.get(f"{name} {noise}", {"error": ""}):
            return "failed"
        other = self.scores(f"noise-{noise}/{name}")
        known = dict(zip(clean["id"].tolist(), clean["score"].tolist(), strict=True))
        return f"{correlation(np.array([known[i] for i in other['id'].tolist()]), other['score']):.3f}"

    def linear(self, name: str, noise: float, clean: dict[str, Any]) -> Floats:
        """Scores [rows] from the scores against each pair: swapping one exchanges its sides, and pi for 1 - pi."""
        rule = LINEAR[name]
        run = self.work / "clean" / ("prism-ekfac" if rule.curved else "prism")
        file = pq.ParquetFile(run / "pairs.parquet")
        ids = json.loads(file.schema_arrow.metadata[b"prism.pairs"])
        table = pq.read_table(run / "target.parquet", columns=["id", "preference"]).to_pydict()
        places = {pair: place for place, pair in enumerate(table["id"])}
        swapped = set(json.loads((self.work / "swapped.json").read_text())[str(noise)])
        turned = np.array([places[pair] in swapped for pair in ids])
        pi = np.array([table["preference"][places[pair]] for pair in ids])
        weights = rule.weigh(np.where(turned, 1 - pi, pi))
        parts = []
        for number in range(file.num_row_groups):
            group = file.read_row_group(number)
            sides = [
                group.column(side).combine_chunks().flatten().to_numpy().reshape(len(group), -1).astype(np.float64)
                for side in ("chosen", "rejected")
            ]
            wanted, other = np.where(turned, sides[1], sides[0]), np.where(turned, sides[0], sides[1])
            parts.append((wanted if rule.chosen else wanted - other) @ weights)
        total: Floats = np.concatenate(parts) / len(ids)
        if rule.by == "token":
            total = total / clean["response_tokens"]
        if rule.by == "norm":
            total = total / clean["gradient_norm"].astype(np.float64)
        return total


class Linear:
    """How a method at one checkpoint follows from the scores against each pair."""

    def __init__(self, weigh: Callable[[Floats], Floats], *, chosen: bool = False, by: str = "", curved: bool = False):
        self.weigh, self.chosen, self.by, self.curved = weigh, chosen, by, curved


LINEAR = {
    "prism": Linear(lambda pi: pi),
    "prism-sharp": Linear(lambda pi: pi**3),
    "uniform": Linear(np.ones_like),
    "hard": Linear(lambda pi: 1 - pi),
    "boundary": Linear(lambda pi: pi * (1 - pi)),
    "chosen": Linear(lambda pi: pi, chosen=True),
    "prism-mean": Linear(lambda pi: pi, by="token"),
    "prism-cosine": Linear(lambda pi: pi, by="norm"),
    "prism-ekfac": Linear(lambda pi: pi, curved=True),
    "if-guide": Linear(np.ones_like, curved=True),
    "ekfac": Linear(np.ones_like, chosen=True, by="token", curved=True),
}


def children() -> float:
    """Seconds that processes started here, and ended, have worked."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def top(scores: dict[str, Any]) -> list[int]:
    """Places of the best rows, as many as the budget."""
    values = np.where(np.isfinite(scores["score"].astype(np.float64)), scores["score"].astype(np.float64), -np.inf)
    return [int(i) for i in np.argsort(-values, kind="stable")[: int(SHARE * len(values))]]


def correlation(one: Any, two: Any) -> float:
    a, b = np.asarray(one, np.float64), np.asarray(two, np.float64)
    both = np.isfinite(a) & np.isfinite(b)
    return float(spearmanr(a[both], b[both]).statistic)


def prism(*words: str) -> str:
    """What a prism command prints, in a process of its own."""
    return subprocess.run([sys.executable, "-m", "prism", *words], capture_output=True, text=True, check=True).stdout


def read(path: Path, name: str) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [
        {"id": f"{name}:{i}", "source": name, "messages": row["messages"]}
        for i, row in enumerate(rows)
        if row.get("messages") and row["messages"][-1]["role"] == "assistant"
    ]


def paired(items: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """Each item with the answer of the next one that says something else."""
    pairs = []
    for item, other in pairwise(items):
        prompt, wanted, unwanted = item["messages"][:-1], item["messages"][-1], other["messages"][-1]
        if wanted["content"] != unwanted["content"]:
            pairs.append(
                {"id": item["id"], "subtask": name, "prompt": prompt, "chosen": [wanted], "rejected": [unwanted]}
            )
    return pairs


def swap(pair: dict[str, Any]) -> dict[str, Any]:
    return {**pair, "chosen": pair["rejected"], "rejected": pair["chosen"]}


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def train_pass(args: argparse.Namespace) -> None:
    """What a trainer does less the optimizer, over the pool, in this process: seconds and peak memory."""
    from typing import NamedTuple

    from passes import in_eights, trained

    from prism.data import load_pool
    from prism.errors import RowError
    from prism.model import load_model

    class Sample(NamedTuple):
        input_ids: list[int]
        labels: list[int]

    model = load_model(args.model)
    encoder = model.encoder(max_length=args.max_length)
    samples = []
    began = now()
    for row in load_pool(args.work / "pool.jsonl"):
        try:
            encoded = encoder.row(row)
        except RowError:
            continue
        samples.append(Sample(encoded.ids.tolist(), np.where(encoded.response, encoded.ids, -100).tolist()))
    network: Any = model.network.train()
    for parameter in model.parameters.values():
        parameter.requires_grad_(True)
    trained(network, in_eights(samples, False))
    seconds = now() - began
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(json.dumps({"seconds": seconds, "memory": memory, "rows": len(samples)}))


if __name__ == "__main__":
    main()
