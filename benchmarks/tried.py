"""What was tried to make the passes faster: each with and without, on the same samples, alternated.

    python benchmarks/tried.py --data ../shared/data --model ../shared/models/tiny-llama-2.6M

Every line is one change: the median time without it over the median time with it. Above 1, it pays.
"""

import argparse
import contextlib
import random
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

import prism
import prism.model.losses
from prism.data import Batch, Encoded, collate, plan_batches
from prism.model import token_losses
from prism.scoring import forward
from prism.scoring.backward import StreamingEngine
from prism.scoring.engine import Engine
from prism.scoring.forward import CentralDifference

FILES = ("gsm8k_train", "alpaca_random9k", "dolly_3k", "gpteacher_codegen_4k")
Run = Callable[[], object]


class Trial:
    """Samples, a model with a random direction, and the passes that are compared."""

    def __init__(self, args: argparse.Namespace, which: str) -> None:
        self.model = prism.load_model(args.model, dtype="float32", parameters=which)
        for name, parameter in self.model.parameters.items():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.02)
        pool = list(prism.load_pool([args.data / "pool" / f"{name}.jsonl" for name in FILES]))
        encoder = self.model.encoder(max_length=args.max_length)
        self.samples = [encoder.row(row) for row in random.Random(args.seed).sample(pool, args.rows)]
        self.direction = {n: torch.randn_like(p)[None] for n, p in self.model.parameters.items()}
        self.batches = self.plan(args.batch_tokens)

    def plan(self, budget: int) -> list[Batch]:
        return [self.collated(b) for b in plan_batches([len(s) for s in self.samples], budget)]

    def collated(self, places: list[int]) -> Batch:
        return collate([self.samples[i] for i in places])

    def backward(self) -> Engine:
        return StreamingEngine(self.model, self.direction, norms=False)

    def forward(self) -> Engine:
        return CentralDifference(self.model, self.direction, 1e-4)


def over(engine: Engine, batches: list[Batch]) -> Run:
    return lambda: [engine.score(batch) for batch in batches]


def inside(context: Callable[[], contextlib.AbstractContextManager[Any]], run: Run) -> Run:
    def wrapped() -> None:
        with context():
            run()

    return wrapped


@contextlib.contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def logits_everywhere(network: Any, batch: Batch) -> torch.Tensor:
    logits = network(input_ids=batch.ids, use_cache=False).logits.flatten(0, 1)[batch.predictors]
    return F.cross_entropy(logits, batch.labels, reduction="none")


def masked(trial: Trial) -> Callable[[], contextlib.AbstractContextManager[Any]]:
    """The decoder is handed an attention mask, as a trainer's is."""
    decoder = trial.model.network.get_decoder()
    plain = decoder.forward

    def with_mask(input_ids: torch.Tensor, **options: Any) -> Any:
        lengths = masks[input_ids.data_ptr()]
        return plain(input_ids=input_ids, attention_mask=lengths, **options)

    masks = {b.ids.data_ptr(): b.mask for b in trial.batches}
    return lambda: replaced(decoder, "forward", with_mask)


def packed(trial: Trial, budget: int) -> Run:
    """Samples end to end in rows of `budget` tokens, with position ids and a block-diagonal mask."""
    rows: list[list[Encoded]] = [[]]
    for sample in sorted(trial.samples, key=len, reverse=True):
        fits = next((row for row in rows if sum(map(len, row)) + len(sample) <= budget), None)
        if fits is None:
            rows.append([sample])
        else:
            fits.append(sample)
    inputs = []
    for row in rows:
        ids = torch.cat([torch.from_numpy(s.ids) for s in row])[None]
        positions = torch.cat([torch.arange(len(s)) for s in row])[None]
        owner = torch.cat([torch.full((len(s),), i) for i, s in enumerate(row)])
        causal = torch.ones(len(owner), len(owner), dtype=torch.bool).tril()
        mask = ((owner[:, None] == owner[None]) & causal)[None, None]
        response = torch.cat([torch.from_numpy(s.response) for s in row])
        inputs.append((ids, positions, mask, response))

    def run() -> None:
        decoder, head = trial.model.network.get_decoder(), trial.model.network.get_output_embeddings()
        with torch.no_grad():
            for ids, positions, mask, response in inputs:
                states = decoder(input_ids=ids, position_ids=positions, attention_mask=mask, use_cache=False)
                place = response.nonzero()[:, 0]
                F.cross_entropy(head(states.last_hidden_state[0, place - 1]), ids[0, place], reduction="none")

    return run


def inference(trial: Trial) -> Run:
    def run() -> None:
        with torch.no_grad():
            for batch in trial.batches:
                token_losses(trial.model.network, batch)

    return run


def compiled(trial: Trial) -> Callable[[], contextlib.AbstractContextManager[Any]]:
    layers = [m for n, m in trial.model.network.named_modules() if n.endswith(f"layers.{n.rpartition('.')[2]}")]
    plain = [layer.forward for layer in layers]
    made = [torch.compile(p, dynamic=True) for p in plain]

    @contextlib.contextmanager
    def context() -> Iterator[None]:
        for layer, fast in zip(layers, made, strict=True):
            layer.forward = fast
        try:
            yield
        finally:
            for layer in layers:
                del layer.forward

    return context


def limit(logits: int) -> Callable[[], contextlib.AbstractContextManager[Any]]:
    return partial(replaced, prism.model.losses, "LOGITS", {"cpu": logits})


def comparisons(trial: Trial, which: str) -> dict[str, tuple[Run, Run]]:
    """What → (without, with)."""
    backward, ahead, batches = trial.backward(), trial.forward(), trial.batches
    arrival = [trial.collated(list(range(i, min(i + 8, len(trial.samples))))) for i in range(0, len(trial.samples), 8)]
    whole = partial(replaced, forward, "token_losses", logits_everywhere)
    back, fore = over(backward, batches), over(ahead, batches)
    found = {
        "length-sorted token budget for arrival-order batches of 8, backward": (over(backward, arrival), back),
        "the same, forward": (over(ahead, arrival), fore),
        "logits at response positions only, forward": (inside(whole, fore), fore),
        "head in parts of 4M logits for all at once, backward": (inside(limit(1 << 40), back), back),
        "head in parts of 4M logits for 64M, backward": (inside(limit(1 << 26), back), back),
        "head in parts of 4M logits for 1M, backward": (inside(limit(1 << 20), back), back),
        "no attention mask, backward": (inside(masked(trial), back), back),
        "packing into rows of 2,048 tokens for padding, inference": (inference(trial), packed(trial, 2048)),
        "torch.compile of decoder layers, forward": (fore, inside(compiled(trial), fore)),
    }
    if which == "lora":
        unmerged = partial(replaced, forward, "merged_adapters", lambda _: contextlib.nullcontext())
        found["LoRA folded into its base, forward"] = (inside(unmerged, fore), fore)
    for budget in (2048, 4096, 16384):
        name = f"token budget {budget} for 8192"
        found[f"{name}, backward"] = (back, over(backward, trial.plan(budget)))
        found[f"{name}, forward"] = (fore, over(ahead, trial.plan(budget)))
    return found


def ratio(without: Run, having: Run, repeats: int) -> float:
    times: tuple[list[float], list[float]] = ([], [])
    for run in (without, having):
        run()
    for _ in range(repeats):
        for spent, run in zip(times, (without, having), strict=True):
            start = time.perf_counter()
            run()
            spent.append(time.perf_counter() - start)
    return statistics.median(times[0]) / statistics.median(times[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with pool/*.jsonl")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--batch-tokens", type=int, default=8192)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="part of the names of what is tried")
    args = parser.parse_args()
    for which in ("linear", "lora"):
        trial = Trial(args, which)
        for name, (without, having) in comparisons(trial, which).items():
            if args.only in name:
                print(f"| {name}, {which} | {ratio(without, having, args.repeats):.2f} |", flush=True)


if __name__ == "__main__":
    main()
