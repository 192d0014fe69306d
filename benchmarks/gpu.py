"""Scoring against training on a GPU, at sizes that matter: one call, under nine minutes.

    PYTHONPATH=. python3 benchmarks/gpu.py --out gpu.json               # 1B and 8B, on a CUDA device
    PYTHONPATH=. python3 benchmarks/gpu.py --scale tiny --seconds 60    # tries the script out, on any machine

Llama-shaped models of random weights in bfloat16, built where they run; token ids at random, lengths of rows and of
responses from a real pool (--data, or the histogram below). Nothing is downloaded, and nothing of it is said to be a
GPU's where there is none: without CUDA only `--scale tiny` runs, and the table names the device.

Model FLOPs are 4 x parameters x tokens for LoRA and 6 x for full weights; padding does not count. `done` counts the
multiplications of this very pass: the decoder's linear layers, and the output head where the pass computes logits.
"""

import argparse
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from alternate import NotRun, Outcome, Pass, Timed, alternated
from passes import BATCH, encoded, in_eights, padded, scored, spread, trained
from peers.workload import ALPHA, B_STD, FILES, IGNORED, RANK, Sample
from torch import nn

import prism
from prism.data import collate, plan_batches
from prism.errors import first_line
from prism.model import Model
from prism.model.parameters import choose_parameters
from prism.scoring import Chosen, choose_engine
from prism.scoring.backward import LoopEngine, StreamingEngine, sample_gradients
from prism.scoring.choose import stacked
from prism.target import Direction

# Rows of the pool by length, and the share of their tokens that is response: 24,229 rows of the four files in
# peers/workload.py, encoded as prism does with the demo model's tokenizer of 4,096 tokens, cut at 512. Upper ends of
# bins of 16 tokens.
LENGTHS = (
    *((32, 373, 0.25), (48, 1756, 0.33), (64, 1837, 0.43), (80, 1530, 0.53), (96, 1487, 0.58), (112, 1890, 0.60)),
    *((128, 2174, 0.63), (144, 2151, 0.64), (160, 2000, 0.65), (176, 1630, 0.66), (192, 1427, 0.66)),
    *((208, 1196, 0.67), (224, 964, 0.68), (240, 768, 0.67), (256, 637, 0.67), (272, 448, 0.66), (288, 382, 0.67)),
    *((304, 305, 0.68), (320, 213, 0.71), (336, 161, 0.68), (352, 126, 0.72), (368, 98, 0.73), (384, 80, 0.71)),
    *((400, 65, 0.71), (416, 55, 0.73), (432, 40, 0.77), (448, 35, 0.69), (464, 33, 0.78), (480, 25, 0.68)),
    *((496, 22, 0.80), (512, 321, 0.72)),
)
BIN = 16
CHECKED = 4  # samples scored by plain autograd too
SHARES = {"linear": 0.35, "lora": 0.65}  # of a model's time
FACTOR = {"linear": 6, "lora": 4}


@dataclass(frozen=True)
class Shape:
    width: int
    inner: int
    layers: int
    heads: int
    groups: int
    vocabulary: int
    tied: bool
    share: float  # of the time


@dataclass(frozen=True)
class Deadline:
    """A moment by which something should be done."""

    moment: float

    @property
    def left(self) -> float:
        return self.moment - time.monotonic()

    def part(self, share: float) -> "Deadline":
        """When that share of what is left will be gone."""
        return Deadline(time.monotonic() + share * self.left)


SHAPES = {
    "tiny": Shape(64, 176, 2, 4, 2, 512, False, 1.0),
    "1B": Shape(2048, 8192, 16, 32, 8, 128256, True, 0.25),  # as Llama 3.2 1B
    "8B": Shape(4096, 14336, 32, 32, 8, 128256, False, 0.75),  # as Llama 3.1 8B
}


def main() -> None:
    args = arguments()
    started = time.monotonic()
    end = Deadline(started + args.seconds)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # as prism select has it on CUDA
    results: dict[str, Any] = {"about": about(args, device), "passes": []}
    results["about"]["matrix_rate"] = rate = matrix_rate(device)
    say(f"bf16 matrix products: {rate / 1e12:.3g} TFLOP/s on {results['about']['device']}")

    for number, scale in enumerate(args.scale):
        share = SHAPES[scale].share / sum(SHAPES[s].share for s in args.scale[number:])
        for row in model_rows(args, scale, device, end.part(share)):
            for count in ("model", "done"):
                if f"{count}_flops_per_second" in row:
                    row[f"{count}_of_matrix_rate"] = round(row[f"{count}_flops_per_second"] / rate, 4)
            results["passes"].append(row)
        if args.out:
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text(json.dumps(results, indent=2) + "\n")
    results["about"]["took_seconds"] = round(time.monotonic() - started, 1)
    if args.out:
        args.out.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results))
    print(markdown(results))


def model_rows(args: argparse.Namespace, scale: str, device: torch.device, end: Deadline) -> Iterator[dict[str, Any]]:
    """The rows of one model: full linear weights first, then a LoRA on the same weights."""
    say(f"{scale}: {end.left:.0f} s are left for it")
    network = build(SHAPES[scale], device, args.seed)
    samples = draw(args, SHAPES[scale].vocabulary)
    for number, parameters in enumerate(args.parameters):
        if parameters == "lora":
            network = adapted(network, args.adapter_dtype, args.seed)
        share = SHARES[parameters] / sum(SHARES[p] for p in args.parameters[number:])
        yield from Group(args, scale, network, parameters, samples).rows(end.part(share))


class Group:
    """The passes over one model with one choice of parameters."""

    def __init__(
        self, args: argparse.Namespace, scale: str, network: Any, parameters: str, samples: list[Sample]
    ) -> None:
        self._args, self._scale, self._parameters, self._samples = args, scale, parameters, samples
        self._model = Model(network, None, parameters)
        self._device = self._model.device
        self._chosen, self._error = self._engine()

    def rows(self, end: Deadline) -> list[dict[str, Any]]:
        """What every pass came to; the last repeats are left out where they would take too long."""
        passes = [
            self._training("training", lambda samples: in_eights(samples, by_length=False)),
            self._training("training-sorted", lambda samples: in_eights(samples, by_length=True)),
            self._training("training-planned", lambda samples: self._planned(samples)),
            *(self._scoring(budget) for budget in self._args.batch_tokens),
        ]
        timed = alternated(passes, self._args.repeats, time_for=lambda turn: turn == 0 or turn < end.left)
        return [self._row(one, timed[0].rate) for one in timed]

    def _engine(self) -> tuple[Chosen, float]:
        """The backward engine, and how far it is from plain autograd on a few samples."""
        model, query = self._model, encoded(self._samples[-1])
        _, found = sample_gradients(model, collate([query]).to(self._device))
        directions = [Direction(found)]
        probes = [encoded(s) for s in spread(self._samples, 8)]
        chosen = choose_engine(model, directions, norms=False, probes=probes, engine="backward")
        say(f"{self._scale}, {self._parameters}: {chosen.why}")
        v = stacked(model, directions)
        if isinstance(chosen.engine, LoopEngine):  # what it would have cost is worth knowing all the same
            engine = StreamingEngine(model, v, False)
            chosen = Chosen(engine, f"REFUSED by the check, measured nevertheless: {chosen.why}")
        few = collate([encoded(s) for s in self._samples[:CHECKED]]).to(self._device)
        truth = LoopEngine(model, v, False).score(few).scores
        error = (chosen.engine.score(few).scores.double() - truth.double()).norm() / truth.double().norm()
        return chosen, float(error)

    def _training(self, key: str, batches: Callable[[Sequence[Sample]], Iterator[dict[str, torch.Tensor]]]) -> Pass:
        def work(samples: Sequence[Sample]) -> None:
            network = self._model.network
            network.train()
            with self._model.requiring_grad():
                trained(network, ({k: v.to(self._device) for k, v in batch.items()} for batch in batches(samples)))
            network.eval()

        return self._pass(key, work)

    def _planned(self, samples: Sequence[Sample]) -> Iterator[dict[str, torch.Tensor]]:
        for indices in plan_batches([len(s) for s in samples], self._args.batch_tokens[0]):
            yield padded([samples[i] for i in indices])

    def _scoring(self, budget: int) -> Pass:
        def work(samples: Sequence[Sample]) -> None:
            torch.use_deterministic_algorithms(self._device.type == "cuda", warn_only=True)  # as prism select has it
            scored(self._model, self._chosen, 1, budget, samples)
            torch.use_deterministic_algorithms(False)

        return self._pass(f"scoring@{budget}", work)

    def _pass(self, key: str, work: Callable[[Sequence[Sample]], None]) -> Pass:
        warm: set[str] = set()

        def run() -> Outcome:
            try:
                if not warm:
                    warm.add(key)
                    work(spread(self._samples, 2 * BATCH))
                return self._clocked(work)
            except torch.OutOfMemoryError as error:
                raise NotRun(f"out of memory: {first_line(error)}") from None

        return Pass(key, key, len(self._samples), sum(len(s) for s in self._samples), run)

    def _clocked(self, work: Callable[[Sequence[Sample]], None]) -> Outcome:
        if self._device.type != "cuda":
            start = time.perf_counter()
            work(self._samples)
            return Outcome(time.perf_counter() - start)
        torch.cuda.empty_cache()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        held, start = torch.cuda.memory_allocated(), time.perf_counter()
        work(self._samples)
        torch.cuda.synchronize()
        seconds, peak = time.perf_counter() - start, torch.cuda.max_memory_allocated()
        return Outcome(seconds, details={"peak_gib": gib(peak), "peak_beyond_held_gib": gib(peak - held)})

    def _row(self, timed: Timed, base: float | None) -> dict[str, Any]:
        """With both counts of FLOPs: by the formula, and of what was done."""
        row = {"model": self._scale, "gradients": self._parameters, **timed.as_json()}
        ours = timed.made.key.startswith("scoring")
        if ours:
            row |= {"engine": self._chosen.engine.name, "why": self._chosen.why, "error": self._error}
        if timed.rate is None:
            return row
        network, factor, tokens = self._model.network, FACTOR[self._parameters], timed.made.tokens
        total = sum(p.numel() for name, p in network.named_parameters() if "lora_" not in name)
        inside = sum(p.numel() for p in choose_parameters(network, "linear").values())
        head = network.get_output_embeddings().weight.numel()
        responses = sum(label != IGNORED for s in self._samples for label in s.labels)
        done = factor * inside * tokens + 4 * head * (responses if ours else tokens)
        return row | {
            "parameters": total,
            "over_training": round(timed.rate / base, 3) if base else None,
            "model_flops_per_second": factor * total * tokens / timed.seconds,
            "done_flops_per_second": done / timed.seconds,
        }


def build(shape: Shape, device: torch.device, seed: int) -> Any:
    """A Llama of random weights in bfloat16, made on the device."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.groups,
        max_position_embeddings=2048,
        tie_word_embeddings=shape.tied,
        use_cache=False,
    )
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with device:
            return LlamaForCausalLM(config)
    finally:
        torch.set_default_dtype(before)


def adapted(network: Any, dtype: str, seed: int) -> Any:
    """With a LoRA on all linear layers whose B is not zero, in the dtype asked for."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM")
    made = get_peft_model(network, config, autocast_adapter_dtype=False)
    for name, parameter in made.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.to(getattr(torch, dtype))
            if "lora_B" in name:
                nn.init.normal_(parameter, std=B_STD)
    return made


def draw(args: argparse.Namespace, vocabulary: int) -> list[Sample]:
    """Rows of random tokens, with the lengths of real ones."""
    source = random.Random(args.seed)
    drawn = measured_lengths(args.data, args.rows, source) if args.data else stored_lengths(args.rows, source)
    samples = []
    for length, responses in drawn:
        ids = [source.randrange(vocabulary) for _ in range(length)]
        samples.append(Sample(ids, [IGNORED] * (length - responses) + ids[length - responses :]))
    return samples


def stored_lengths(rows: int, source: random.Random) -> list[tuple[int, int]]:
    found = []
    for top, _, share in source.choices(LENGTHS, weights=[count for _, count, _ in LENGTHS], k=rows):
        length = 512 if top == 512 else source.randint(top - BIN + 1, top)  # of the last bin nearly all were cut
        found.append((length, min(length - 1, max(1, round(share * length)))))
    return found


def measured_lengths(data: Path, rows: int, source: random.Random) -> list[tuple[int, int]]:
    demo = Path(prism.__file__).parent / "demo" / "model"
    encoder = prism.load_model(demo, dtype="float32", parameters="linear", device="cpu").encoder(max_length=512)
    pool = list(prism.load_pool([data / "pool" / f"{name}.jsonl" for name in FILES]))
    encodings = [encoder.row(row) for row in source.sample(pool, rows)]
    return [(len(e), e.response_tokens) for e in encodings]


def matrix_rate(device: torch.device) -> float:
    """FLOPs per second of a large square product of random bfloat16 matrices: the median of 20."""
    size = 8192 if device.type == "cuda" else 512
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    times = []
    for _ in range(25):
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return float(2 * size**3 / statistics.median(times[5:]))


def about(args: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    import peft
    import transformers

    return {
        "command": " ".join(["python", *sys.argv]),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "CPU: says nothing of a GPU",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "peft": peft.__version__,
        "prism": prism.__version__,
        "lengths": f"drawn from {args.data}" if args.data else "drawn from the stored histogram",
        "rows": args.rows,
        "seed": args.seed,
        "adapter_dtype": args.adapter_dtype,
    }


def markdown(results: dict[str, Any]) -> str:
    info = results["about"]
    lines = [
        f"{info['device']}, torch {info['torch']}, transformers {info['transformers']}; bf16 matrix products at "
        f"{info['matrix_rate'] / 1e12:.3g} TFLOP/s. Random weights in bf16, LoRA r = {RANK} in "
        f"{info['adapter_dtype']}; {info['rows']} rows, lengths {info['lengths']}; `{info['command']}`, "
        f"{info['took_seconds']} s. *Training*: "
        f"transformers' own loss, batches of {BATCH} with attention mask in arrival order, sorted by length, or those "
        "of our plan; no optimizer step. *Scoring*: backward engine, one direction, padded tokens per batch after @.",
        "",
        "| model | gradients | pass | repeats | samples/s | tokens/s | / training | model FLOPs / matrix rate | "
        "done FLOPs / matrix rate | peak, GiB | error |",
        f"|{' --- |' * 11}",
    ]
    for row in results["passes"]:
        name = [row["model"], row["gradients"], row["pass"]]
        if "problem" in row:
            lines.append(f"| {' | '.join([*name, '0', row['problem'], *[''] * 6])} |")
            continue
        cells = [
            *name,
            str(len(row["seconds"])),
            f"{row['samples_per_second']:.1f} ({row['slowest']:.1f}–{row['fastest']:.1f})",
            f"{row['tokens_per_second']:,.0f}",
            str(row["over_training"]),
            f"{row['model_of_matrix_rate']:.1%}",
            f"{row['done_of_matrix_rate']:.1%}",
            str(row.get("peak_gib", "not measured")),
            f"{row['error']:.0e}" if "error" in row else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    said = [f"{row['model']}, {row['gradients']}: {row['why']}." for row in results["passes"] if "why" in row]
    return "\n".join([*lines, "", *dict.fromkeys(said)])


def gib(size: float) -> float:
    return round(size / 2**30, 2)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", nargs="+", choices=tuple(SHAPES), default=["1B", "8B"])
    parser.add_argument("--parameters", nargs="+", choices=("linear", "lora"), default=["linear", "lora"])
    parser.add_argument("--data", type=Path, help="folder with pool/*.jsonl, whose lengths are drawn from")
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=450, help="no repeat begins that would end after these")
    parser.add_argument("--batch-tokens", type=int, nargs="+", default=[8192, 16384], help="padded tokens per batch")
    parser.add_argument("--adapter-dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON, written after each model")
    args = parser.parse_args()
    args.parameters = sorted(set(args.parameters), key=list(SHARES).index)  # the LoRA goes onto the same weights
    if not torch.cuda.is_available() and args.scale != ["tiny"]:
        parser.error("there is no CUDA device: --scale tiny tries the script out on a CPU")
    return args


if __name__ == "__main__":
    main()
