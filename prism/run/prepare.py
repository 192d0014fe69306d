"""What a run begins with: its data and model opened, checked and described."""

import os
from dataclasses import dataclass
from typing import Any

import torch

from prism.budget import Budget
from prism.config import SelectConfig
from prism.data import Encoder, Pool, Target, open_pool, open_target
from prism.model import Model, Places, find_model, load_model
from prism.model.load import choose_device
from prism.progress import Progress
from prism.run.provenance import identity


@dataclass(frozen=True)
class Job:
    """What a config asks for: found, but neither read nor loaded."""

    config: SelectConfig
    pool: Pool
    target: Target
    places: Places
    device: str

    def identity(self) -> dict[str, Any]:
        """All that the scores are a function of; reads every file once."""
        return identity(self.config, self.places, self.pool, self.target, self.device)

    def require_data(self) -> None:
        """Read pool and target once.

        Raises:
            DataError: one of them has no row that can be used, or a bad one where the run stops at those.
            ConfigError: the budget is above the pool; tokens can only be counted later.
        """
        self.pool.require_rows("pool")
        self.target.require_rows("target")
        budget = Budget.parse(self.config.budget)
        if budget.unit == "samples":
            budget.resolve(len(self.pool), 0)


def open_job(config: SelectConfig) -> Job:
    """The job of a config whose places are absolute; raises PrismError where something is missing."""
    pool = open_pool(config.pool, columns=config.columns, on_bad_row=config.on_bad_row)
    target = open_target(config.target, columns=config.target_columns, on_bad_row=config.on_bad_row)
    places = find_model(
        config.model,
        config.adapter,
        tokenizer=config.tokenizer,
        revision=config.revision,
        allow_pickle=config.allow_pickle,
    )
    return Job(config, pool, target, places, str(choose_device(config.device)))


def load(config: SelectConfig, progress: Progress) -> tuple[Model, Encoder]:
    """The model of a run and the encoder of its rows; says what is worth knowing of them."""
    progress.note(f"loading {config.model}")
    _repeat_to_the_bit(config.device)
    model = load_model(
        config.model,
        adapter=config.adapter,
        tokenizer=config.tokenizer,
        revision=config.revision,
        parameters=config.parameters,
        device=config.device,
        dtype=config.dtype,
        lora_rank=config.lora_rank,
        lora_alpha=config.lora_alpha,
        seed=config.seed,
        trust_remote_code=config.trust_remote_code,
        allow_pickle=config.allow_pickle,
    )
    for notice in model.notices:
        progress.note(notice)
    encoder = model.encoder(max_length=config.max_length, responses=config.responses, plain=config.plain)
    if encoder.template is None and not config.plain:
        progress.note("the tokenizer has no chat template: turns are joined as plain text")
    if model.tokenizer.pad_token_id is None:
        progress.note("the tokenizer has no pad token: none is needed, samples are padded with their own last token")
    size = sum(p.numel() for p in model.parameters.values())
    progress.note(f"gradients in {len(model.parameters)} parameters ({size:,} weights), {model.kept} on {model.device}")
    return model, encoder


def _repeat_to_the_bit(device: str) -> None:
    """On CUDA a sum may come in any order unless asked otherwise; CPUs keep it anyway."""
    if choose_device(device).type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
