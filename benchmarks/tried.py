"""What was tried to make the passes faster: each with and without, on the same samples, alternated.

    python benchmarks/tried.py --data ../shared/data --model ../shared/models/tiny-llama-2.6M

Every line is one change: the median time without it over the median time with it. Above 1, it pays.
"""

import argparse
import contextlib
import random
import re
import statistics
import time
import types
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

import prism
import prism.model.losses
from prism.data import Batch, Encoded, collate, plan_batches
from prism.model import Model, token_losses
from prism.scoring import feed, forward, score_pool
from prism.scoring.backward import StreamingEngine
from prism.scoring.engine import Engine
from prism.scoring.forward import CentralDifference
from prism.target import Direction

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
        self.encoder = self.model.encoder(max_length=args.max_length)
        rows = random.Random(args.seed).sample(pool, args.rows)
        self.rows = [{"messages": list(row.messages)} for row in rows]
        self.samples = [self.encoder.row(row) for row in rows]
        self.direction = {n: torch.randn_like(p)[None] for n, p in self.model.parameters.items()}
        self.budget = args.batch_tokens
        self.batches = self.plan(self.budget)

    def plan(self, budget: int) -> list[Batch]:
        return [self.collated(b) for b in plan_batches([len(s) for s in self.samples], budget)]

    def collated(self, places: list[int]) -> Batch:
        return collate([self.samples[i] for i in places])

    def pairs(self) -> list[tuple[Encoded, Encoded]]:
        """Every row's answer, and the next row's answer to its prompt."""
        answers = [row["messages"][-1]["content"] for row in self.rows]
        found = [
            {"prompt": row["messages"][:-1], "chosen": answers[i], "rejected": answers[i - 1]}
            for i, row in enumerate(self.rows)
        ]
        return [self.encoder.pair(pair) for pair in prism.load_target(found)]

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


def side_by_side(trial: Trial) -> Run:
    """Each pair as one row: its prompt once, then both answers, neither of which sees the other."""
    trees = []
    for pair in trial.pairs():
        ids = [torch.from_numpy(side.ids) for side in pair]
        shared = min(int(np.argmax(side.response)) for side in pair)
        shared = next((i for i in range(shared) if ids[0][i] != ids[1][i]), shared)
        tails = [side[shared:] for side in ids]
        owner = torch.cat([torch.full((shared,), -1), torch.zeros(len(tails[0])), torch.ones(len(tails[1]))])
        sees = (owner[:, None] == owner[None]) | (owner[None] == -1)
        positions = torch.cat([torch.arange(shared), *(shared + torch.arange(len(tail)) for tail in tails)])
        trees.append((torch.cat([ids[0][:shared], *tails]), positions, sees & torch.ones_like(sees).tril()))
    batches = []
    for places in plan_batches([len(tree[0]) for tree in trees], trial.budget):
        width = max(len(trees[i][0]) for i in places)
        mask = torch.eye(width, dtype=torch.bool).repeat(len(places), 1, 1)
        tokens, positions = (torch.zeros(len(places), width, dtype=torch.long) for _ in range(2))
        for row, place in enumerate(places):
            words, where, sees = trees[place]
            tokens[row, : len(words)], positions[row, : len(words)] = words, where
            mask[row, : len(words), : len(words)] = sees
        batches.append((tokens, positions, mask[:, None]))
    decoder = trial.model.network.get_decoder()

    def run() -> None:
        with torch.no_grad():
            for tokens, positions, mask in batches:
                decoder(input_ids=tokens, position_ids=positions, attention_mask=mask, use_cache=False)

    return run


def apart(trial: Trial) -> Run:
    sides = [side for pair in trial.pairs() for side in pair]
    batches = [collate([sides[i] for i in places]) for places in plan_batches([len(s) for s in sides], trial.budget)]
    decoder = trial.model.network.get_decoder()

    def run() -> None:
        with torch.no_grad():
            for batch in batches:
                decoder(input_ids=batch.ids, use_cache=False)

    return run


class AtOnce:
    """In place of a thread: what is submitted is done before `submit` returns."""

    def __init__(self, _: int) -> None: ...

    def __enter__(self) -> "AtOnce":
        return self

    def __exit__(self, *_: object) -> None: ...

    def submit(self, work: Callable[..., Any], *args: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(work(*args))
        return done


def whole_pass(trial: Trial) -> Run:
    """Rows in, score table out, in shards of 64 rows."""
    direction = Direction({name: v[0] for name, v in trial.direction.items()})
    pool = prism.load_pool(trial.rows)
    return lambda: score_pool(trial.model, pool, direction, trial.encoder, engine="backward", shard_rows=64)


def upper_half(trial: Trial) -> Engine:
    """The backward engine for the weights of the upper half of the layers."""
    layers = trial.model.network.config.num_hidden_layers
    upper = [f".layers.{i}." for i in range(layers // 2, layers)]
    chosen = {n: v for n, v in trial.direction.items() if any(part in n for part in upper)}
    pattern = "|".join(map(re.escape, chosen))
    return StreamingEngine(Model(trial.model.network, trial.model.tokenizer, f"^({pattern})$"), chosen, norms=False)


def to_the_bottom(trial: Trial) -> contextlib.AbstractContextManager[Any]:
    """The graph begins at the embeddings, as where these are trained."""
    embeddings = trial.model.network.get_input_embeddings()
    handle = embeddings.register_forward_hook(lambda module, args, output: output.requires_grad_())
    return contextlib.closing(types.SimpleNamespace(close=handle.remove))


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
    half, table, bottom = over(upper_half(trial), batches), whole_pass(trial), partial(to_the_bottom, trial)
    waiting = partial(replaced, feed, "ThreadPoolExecutor", AtOnce)
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
        "graph from the lowest chosen layer for the embeddings, backward": (inside(bottom, back), back),
        "the same for the weights of the upper half of the layers": (inside(bottom, half), half),
        "a pair's prompt once for twice, inference without the head": (apart(trial), side_by_side(trial)),
        "next shard tokenised while one is scored, whole pass": (inside(waiting, table), table),
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
