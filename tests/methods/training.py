"""Checkpoints of a real training by transformers' Trainer, and what its optimizer held for each parameter."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainingArguments

from prism.data import Encoded

Held = dict[str, dict[str, torch.Tensor]]  # parameter name → what the optimizer held, with keys of torch's
STEPS = 6


class Keep(TrainerCallback):  # type: ignore[misc]
    """Keeps each parameter's state, found by the parameter itself, and the learning rate of every step."""

    def __init__(self) -> None:
        self.held: dict[int, Held] = {}
        self.rates: list[float] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.rates.append(kwargs["optimizer"].param_groups[0]["lr"])

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        optimizer = getattr(kwargs["optimizer"], "optimizer", kwargs["optimizer"])
        self.held[state.global_step] = {
            name: {k: torch.as_tensor(v).clone() for k, v in optimizer.state[p].items()}
            for name, p in kwargs["model"].named_parameters()
            if p in optimizer.state
        }


def train(network: Any, samples: list[Encoded], folder: Path, **options: Any) -> Keep:
    """Two samples a step; a checkpoint after half of the steps and after all."""
    keep = Keep()
    rows = [
        {
            "input_ids": torch.from_numpy(s.ids),
            "labels": torch.from_numpy(s.ids).where(torch.from_numpy(s.response), -100),
        }
        for s in samples
    ]

    def collate(found: list[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        pad = {"input_ids": 0, "labels": -100}
        return {
            key: torch.nn.utils.rnn.pad_sequence([row[key] for row in found], batch_first=True, padding_value=value)
            for key, value in pad.items()
        }

    arguments = {
        "max_steps": STEPS,
        "per_device_train_batch_size": 2,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "linear",
        "weight_decay": 0.01,
        "save_steps": STEPS // 2,
        "logging_steps": 1,
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "dataloader_pin_memory": False,
        **options,
    }
    trainer = Trainer(
        model=network,
        args=TrainingArguments(output_dir=str(folder), **arguments),
        train_dataset=rows,
        data_collator=collate,
        callbacks=[keep],
    )
    trainer.train()
    return keep
