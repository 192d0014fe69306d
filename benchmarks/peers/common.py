"""What the runners share: the command line, the model, batches, the clock around repeats, the result file."""

import argparse
import atexit
import json
import os
import platform
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from resident import resident
from torch.nn import functional as F
from workload import IGNORED, Sample, Workload, read_workload

Scores = npt.NDArray[np.float32]
PACKAGES = ("torch", "transformers", "peft", "numpy")


@dataclass(frozen=True)
class Peer:
    """A peer ready to score.

    `score` takes the samples and returns (seconds, scores in the same order). The rest says in words what it computes,
    between which two moments the clock runs, and how samples are batched.
    """

    score: Callable[[Sequence[Sample]], tuple[float, Scores]]
    computes: str
    clock: str
    batching: str
    settings: dict[str, Any] = field(default_factory=dict)


Prepare = Callable[[Workload, argparse.Namespace], Peer]


def parser(description: str | None) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("workload", type=Path)
    made.add_argument("--parameters", choices=("linear", "lora"), required=True)
    made.add_argument("--rows", type=int, help="the first rows of the workload only")
    made.add_argument("--repeats", type=int, default=1)
    made.add_argument("--warmup", type=int, default=32, help="rows scored before the clock is used")
    made.add_argument("--batch-tokens", type=int, default=8192, help="padded tokens per batch, where a peer allows it")
    made.add_argument("--out", type=Path, required=True, help="JSON; the scores go beside it as .npy")
    return made


def run(name: str, packages: Sequence[str], prepare: Prepare, args: argparse.Namespace) -> None:
    """Prepare, warm up, time, and write the result."""
    workload = read_workload(args.workload)
    samples = workload.samples[: args.rows]
    peer = prepare(workload, args)
    loaded = resident()
    if args.warmup:
        peer.score(spread(samples, args.warmup))
    passes = [peer.score(samples) for _ in range(args.repeats)]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    scores = args.out.with_suffix(".npy")
    np.save(scores, passes[-1][1])
    tokens = sum(len(s) for s in samples)
    seconds = statistics.median(taken for taken, _ in passes)
    described = asdict(peer)
    del described["score"]
    result = {
        "peer": name,
        "parameters": args.parameters,
        "workload": workload.about,
        "rows": len(samples),
        "tokens": tokens,
        "seconds": [round(taken, 4) for taken, _ in passes],
        "samples_per_second": round(len(samples) / seconds, 2),
        "tokens_per_second": round(tokens / seconds),
        **described,
        "scores": scores.name,
        "loaded_rss_mib": round(loaded),
        "peak_rss_mib": round(resident(peak=True)),
        "threads": torch.get_num_threads(),
        "wait_policy": os.environ.get("OMP_WAIT_POLICY"),
        "versions": {"python": platform.python_version(), **_versions((*packages, *PACKAGES))},
    }
    args.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps({key: result[key] for key in ("peer", "parameters", "rows", "seconds", "peak_rss_mib")}))


def _versions(packages: Iterable[str]) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def scratch(name: str) -> Path:
    """A folder that is gone when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def spread(samples: Sequence[Sample], count: int) -> list[Sample]:
    """About `count` samples of all lengths, the shortest and the longest among them."""
    ordered = sorted(samples, key=len)
    places = np.linspace(0, len(ordered) - 1, min(count, len(ordered)))
    return [ordered[int(place)] for place in places]


def load_network(workload: Workload, parameters: str, dtype: torch.dtype = torch.float32) -> Any:
    """The model, with the adapter on it for `lora`; in evaluation mode, nothing requires gradients."""
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(workload.model, dtype=dtype)
    network.config.use_cache = False
    if parameters == "lora":
        from peft import PeftModel

        network = PeftModel.from_pretrained(network, str(workload.adapter)).to(dtype)
    return network.eval().requires_grad_(False)


def linear_modules(network: Any, parameters: str) -> list[str]:
    """Names of the linear modules whose weights are scored: those of the decoder layers, or the LoRA factors."""
    factors = ("lora_A.default", "lora_B.default")
    return [
        name
        for name, module in network.named_modules()
        if isinstance(module, torch.nn.Linear)
        and (name.endswith(factors) if parameters == "lora" else ".layers." in f".{name}")
    ]


def plan(samples: Sequence[Sample], budget: int) -> list[list[int]]:
    """Indices by batch: sorted by length, each batch at most `budget` padded tokens."""
    order = sorted(range(len(samples)), key=lambda i: len(samples[i]))
    batches: list[list[int]] = []
    for index in order:
        if batches and (len(batches[-1]) + 1) * len(samples[index]) <= budget:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def collate(samples: Sequence[Sample]) -> dict[str, torch.Tensor]:
    """Padded on the right, with labels of -100; no attention mask is needed in a causal model."""
    width = max(len(s) for s in samples)
    ids = torch.zeros(len(samples), width, dtype=torch.long)
    labels = torch.full((len(samples), width), IGNORED, dtype=torch.long)
    for row, sample in enumerate(samples):
        ids[row, : len(sample)] = torch.tensor(sample.input_ids)
        labels[row, : len(sample)] = torch.tensor(sample.labels)
    return {"input_ids": ids, "labels": labels}


def summed_loss(network: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Cross-entropy summed over the response tokens of a batch."""
    logits = network(input_ids=batch["input_ids"], use_cache=False).logits[:, :-1]
    return F.cross_entropy(
        logits.flatten(0, 1), batch["labels"][:, 1:].flatten(), reduction="sum", ignore_index=IGNORED
    )
