"""dattri-LLM's LESS: cosines of Adam's update for each sample with the query's gradient, at checkpoints of a training.

    .peers/dattri-llm/bin/python benchmarks/peers/dattri_less_run.py WORKLOAD CHECKPOINT... --rows 100 --out R/less.npy

Every checkpoint is a folder of transformers' Trainer: a LoRA on the workload's model, and optimizer.pt. Losses are
means over response tokens, nothing is projected. The scores are written as [checkpoints, rows].
"""

import argparse
import re
from pathlib import Path
from typing import Any

import common
import numpy as np
import torch
from dattri_llm import AttributionArguments, AttributionTask, HookManagerConfig
from dattri_llm.attribution.algorithm.less import LESSAttributor
from dattri_llm.gradient.optimizer_state import optimizer_from_state_dict
from workload import IGNORED, Workload, read_workload

Batch = dict[str, torch.Tensor]


def scores(workload: Workload, checkpoint: Path, rows: int) -> np.ndarray:
    """One sample at a time, since the hooks take a batch's loss for the sum of its samples' losses."""
    network = adapted(workload, checkpoint)
    state = torch.load(checkpoint / "optimizer.pt", weights_only=True)
    optimizer = optimizer_from_state_dict(network, state)
    factors = [f"^{re.escape(name)}$" for name in common.linear_modules(network, "lora")]
    arguments = AttributionArguments(
        output_dir=str(common.scratch("dattri-less")), per_device_train_batch_size=1, use_cpu=True
    )
    attributor = LESSAttributor(arguments, task=AttributionTask(mean_loss, network), optimizers=[optimizer])
    result = attributor.attribute(
        [item(workload.samples[i]) for i in range(rows)],
        [item(workload.query)],
        hook_config=HookManagerConfig(linear_io=factors),
    )
    found: np.ndarray = result.scores[:, 0].numpy()
    return found


def adapted(workload: Workload, checkpoint: Path) -> Any:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(workload.model, dtype=torch.float32)
    network.config.use_cache = False
    return PeftModel.from_pretrained(network, str(checkpoint), is_trainable=True).eval()


def item(sample: Any) -> Batch:
    return {key: value[0] for key, value in common.collate([sample]).items()}


def mean_loss(network: Any, batch: Batch) -> torch.Tensor:
    return common.summed_loss(network, batch) / (batch["labels"][:, 1:] != IGNORED).sum()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workload", type=Path)
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    workload = read_workload(args.workload)
    np.save(args.out, np.stack([scores(workload, checkpoint, args.rows) for checkpoint in args.checkpoints]))


if __name__ == "__main__":
    main()
