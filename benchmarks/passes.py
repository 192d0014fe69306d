"""The passes that run in this process: a trainer's, ours, and the bare per-sample loop.

All of them take the workload's token ids and make their batches inside the clock. Loading a model, the query's gradient
and the choice of an engine are outside; the latter's seconds are in the details.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from alternate import Floats, NotRun, Outcome, Pass
from peers.clock import now
from peers.resident import available
from peers.workload import IGNORED, Sample, Workload
from torch.nn import functional as F

import prism
from prism.data import Batch, Encoded, collate, plan_batches
from prism.model import Model, token_losses
from prism.model.parameters import choose_parameters
from prism.scoring import SHARD_ROWS, Chosen, choose_engine
from prism.scoring.backward import sample_gradients
from prism.scoring.choose import stacked
from prism.scoring.mapped import AdamMap, Moments, mapped_engine
from prism.scoring.scorer import Scorer
from prism.target import Direction

BATCH = 8  # rows of a trainer's batch
PROBES, WARM_UP, STATE_ROWS = 32, 32, 16
TRAINED = {"linear": "all linear weights of the decoder layers", "lora": "the LoRA factors"}
Scores = list[float] | None


class Bench:
    """One workload, one choice of parameters: the networks and the passes over them, each made on first use."""

    def __init__(
        self, workload: Workload, parameters: str, rows: int, batch_tokens: int, *, few: int, seed: int = 0
    ) -> None:
        self.workload, self.parameters, self.batch_tokens, self.seed = workload, parameters, batch_tokens, seed
        self.samples = workload.samples[:rows]
        self.few = min(few, len(self.samples))
        self._reasons: dict[str, dict[str, str]] = {}

    @cached_property
    def trainer(self) -> Any:
        """The network that a trainer has: transformers' and PEFT's own, nothing of ours in it."""
        from transformers import AutoModelForCausalLM

        network = AutoModelForCausalLM.from_pretrained(self.workload.model, dtype=torch.float32)
        network.config.use_cache = False
        if self.parameters == "lora":
            from peft import PeftModel

            network = PeftModel.from_pretrained(network, str(self.workload.adapter), is_trainable=True)
        return network

    @cached_property
    def model(self) -> Model:
        adapter = self.workload.adapter if self.parameters == "lora" else None
        return prism.load_model(
            self.workload.model, adapter=adapter, dtype="float32", parameters=self.parameters, device="cpu"
        )

    @property
    def direction_file(self) -> Path:
        return self.workload.folder / f"direction-{self.parameters}.safetensors"

    @property
    def direction(self) -> Direction:
        """The query's gradient, as the peers take it."""
        if not self.direction_file.exists():
            _, found = sample_gradients(self.model, collate([encoded(self.workload.query)]))
            Direction({name: found[name] for name in self.model.parameters}).save(self.direction_file)
        return Direction.load(self.direction_file)

    def keys(self) -> list[str]:
        """Names of the passes, in the order of the table."""
        every = ["training-all"] if self.parameters == "linear" else []
        return [
            "training",
            "training-sorted",
            *every,
            "inference",
            "inference-ours",
            "backward-1",
            "backward-1-norms",
            "forward-1",
            "backward-64",
            "backward-1000",
            "adam-1",
            "adam-64",
            "loop",
        ]

    def load(self, key: str) -> None:
        """Load the network that a pass needs."""
        _ = self.trainer if key in ("training", "training-sorted", "training-all", "inference", "loop") else self.model

    def make(self, key: str, *, warm: bool = True) -> Pass:
        """Raises NotRun where the pass does not apply, or there is no room for it."""
        few = key in ("loop", "backward-1000")
        samples = self.samples[: self.few] if few else self.samples
        start = time.perf_counter()
        computes, work = self._work(key)
        details = {"prepared_in_seconds": round(now() - start, 2), **self._reasons.get(key, {})}

        def run() -> Outcome:
            start = now()
            scores = work(samples)
            seconds = now() - start
            return Outcome(seconds, None if scores is None else np.asarray(scores, dtype=np.float64))

        if warm:
            work(spread(samples, WARM_UP))
        return Pass(key, computes, len(samples), sum(len(s) for s in samples), run, details=details)

    def _work(self, key: str) -> tuple[str, Callable[[Sequence[Sample]], Scores | Floats]]:
        if key.startswith("training"):
            return self._training(every=key == "training-all", by_length=key == "training-sorted")
        if key == "inference":
            return "forward pass and loss alone, on the batches of training", self._inference
        if key == "inference-ours":
            return "forward pass and loss alone, on our batches; logits of response tokens only", self._inference_ours
        if key == "loop":
            return "per-sample loop: forward and backward by sample, flat gradient times the query's", self._loop
        kind, count, *norms = key.split("-")
        return self._scoring(key, kind, int(count), bool(norms))

    # What a trainer does

    def _training(self, *, every: bool, by_length: bool) -> tuple[str, Callable[[Sequence[Sample]], Scores]]:
        def work(samples: Sequence[Sample]) -> None:
            network = self._ready(every)
            network.train()
            trained(network, in_eights(samples, by_length))

        what = "all weights, embeddings and output head too" if every else TRAINED[self.parameters]
        order = "sorted by length" if by_length else "in arrival order"
        return f"gradients of {what}; {order}", work

    def _inference(self, samples: Sequence[Sample]) -> None:
        network = self._ready(False)
        network.eval()
        with torch.no_grad():
            for batch in in_eights(samples, False):
                _ = network(**batch).loss

    def _loop(self, samples: Sequence[Sample]) -> Scores:
        network, direction = self._ready(False), self.direction
        network.eval()
        weights = {name: p for name, p in network.named_parameters() if p.requires_grad}
        query = torch.cat([direction.tensors[name].flatten() for name in weights])
        scores = []
        for sample in samples:
            ids, labels = torch.tensor([sample.input_ids]), torch.tensor(sample.labels)
            logits = network(input_ids=ids).logits[0, :-1]
            loss = F.cross_entropy(logits, labels[1:], reduction="sum", ignore_index=IGNORED)
            gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(weights.values()))])
            scores.append(float(gradient @ query))
        return scores

    def _ready(self, every: bool) -> Any:
        """The trainer's network, with gradients in all of its weights, or in the chosen ones."""
        for name, parameter in self.trainer.named_parameters():
            parameter.requires_grad_(every or name in self.names)
        return self.trainer

    @cached_property
    def names(self) -> set[str]:
        return set(choose_parameters(self.trainer, self.parameters))

    # What we do

    def _scoring(
        self, key: str, kind: str, count: int, norms: bool
    ) -> tuple[str, Callable[[Sequence[Sample]], Floats]]:
        chosen = self._adam(count) if kind == "adam" else self._chosen(kind, count, norms)
        self._reasons[key] = {"engine": chosen.engine.name, "why": chosen.why}
        if kind not in chosen.engine.name and kind != "adam":
            raise NotRun(f"the {kind} engine was not chosen: {chosen.why}")

        def work(samples: Sequence[Sample]) -> Floats:
            return scored(self.model, chosen, count, self.batch_tokens, samples)

        many = f"{count} directions (the query's gradient and random ones)" if count > 1 else "the query's gradient"
        extra = ", and gradient norms" if norms else ""
        if kind == "adam":
            extra = " of Adam's map of the mean loss's gradient, and its norms"
        return f"inner products with {many}{extra}: {chosen.engine.name} engine", work

    def _adam(self, count: int) -> Chosen:
        """LESS's scores: the state of Adam is that after steps on the first samples, which changes no cost."""
        optimizer = torch.optim.AdamW(self.model.parameters.values(), lr=0.0)
        for sample in self.samples[:STATE_ROWS]:
            _, found = sample_gradients(self.model, collate([encoded(sample)]))
            for name, parameter in self.model.parameters.items():
                parameter.grad = found[name] / sum(label != IGNORED for label in sample.labels[1:])
            optimizer.step()
        held = {name: optimizer.state[p] for name, p in self.model.parameters.items()}
        for parameter in self.model.parameters.values():
            parameter.grad = None
        first, second = ({n: s[key] for n, s in held.items()} for key in ("exp_avg", "exp_avg_sq"))
        moments = Moments(first, second, dict.fromkeys(held, STATE_ROWS), (0.9, 0.999), 1e-8, 1.0)
        v = stacked(self.model, self._directions(count))
        probes = [encoded(s) for s in self.samples[:PROBES]]
        return Chosen(*mapped_engine(self.model, v, AdamMap(moments), mean_loss=True, norms=True, probes=probes))

    def _chosen(self, kind: str, count: int, norms: bool) -> Chosen:
        step = max(1, len(self.samples) // PROBES)
        probes = [encoded(s) for s in self.samples[::step][:PROBES]]
        engine: Any = kind
        return choose_engine(self.model, self._directions(count), norms=norms, probes=probes, engine=engine)

    def _directions(self, count: int) -> list[Direction]:
        """The query's gradient, and random ones of its norm."""
        query = self.direction
        if count == 1:
            return [query]
        size = sum(p.numel() for p in self.model.parameters.values())
        need = 2 * count * size * 4  # ours, and the engine's copy of them
        if need > available():
            raise NotRun(f"{count} directions and a copy of them are {need >> 20:,} MiB, more than there is")
        made = torch.Generator().manual_seed(self.seed)
        scale = query.norm() / size**0.5
        several = {
            name: torch.empty(count, *t.shape).normal_(std=scale, generator=made) for name, t in query.tensors.items()
        }
        for name, t in query.tensors.items():
            several[name][0] = t
        return [Direction({name: t[k] for name, t in several.items()}) for k in range(count)]

    def _inference_ours(self, samples: Sequence[Sample]) -> None:
        ours = [encoded(s) for s in samples]
        with torch.no_grad():
            for first in range(0, len(ours), SHARD_ROWS):
                shard = ours[first : first + SHARD_ROWS]
                for indices in plan_batches([len(s) for s in shard], self.batch_tokens):
                    token_losses(self.model.network, collate([shard[i] for i in indices]))


def trained(network: Any, batches: Iterable[dict[str, torch.Tensor]]) -> None:
    for batch in batches:
        network(**batch).loss.backward()
        network.zero_grad()


def scored(model: Model, chosen: Chosen, directions: int, batch_tokens: int, samples: Sequence[Sample]) -> Floats:
    """Scores against the first direction, shard by shard, as a run makes them."""
    scorer = Scorer(model, chosen, directions, batch_tokens)
    ours = [encoded(s) for s in samples]
    shards = (ours[first : first + SHARD_ROWS] for first in range(0, len(ours), SHARD_ROWS))
    found: Floats = np.concatenate([scorer.score(shard, lambda *_: None).scores[:, 0] for shard in shards])
    return found


def encoded(sample: Sample) -> Encoded:
    return Encoded(np.array(sample.input_ids), np.array(sample.labels) != IGNORED)


def spread(samples: Sequence[Sample], count: int) -> list[Sample]:
    """About `count` samples of all lengths."""
    ordered = sorted(samples, key=len)
    return [ordered[int(place)] for place in np.linspace(0, len(ordered) - 1, min(count, len(ordered)))]


def in_eights(samples: Sequence[Sample], by_length: bool) -> Iterator[dict[str, torch.Tensor]]:
    """Batches as a trainer's collator makes them."""
    ordered = sorted(samples, key=len) if by_length else samples
    for first in range(0, len(ordered), BATCH):
        yield padded(ordered[first : first + BATCH])


def padded(samples: Sequence[Sample]) -> dict[str, torch.Tensor]:
    batch: Batch = collate([encoded(s) for s in samples])
    labels = torch.full_like(batch.ids, IGNORED)
    labels.view(-1)[batch.predictors + 1] = batch.labels
    return {"input_ids": batch.ids, "attention_mask": batch.mask, "labels": labels}
