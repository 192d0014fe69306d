"""What a run begins with: its data and model opened, checked and described."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from prism.budget import Budget
from prism.config import SelectConfig
from prism.data import Encoder, Pool, Target, open_pool, open_target
from prism.errors import ConfigError
from prism.methods.baselines import BASELINES, Baseline
from prism.methods.recipe import Recipe
from prism.methods.table import find_method
from prism.model import Model, Places, find_model, load_model
from prism.model.load import choose_device
from prism.progress import Progress
from prism.run.checkpoints import Checkpoint, checkpoints_of
from prism.run.others import other_fingerprints, require_fitting
from prism.run.provenance import identity

SCORING = [n for n, f in SelectConfig.model_fields.items() if f.json_schema_extra["stage"] == "scoring"]  # type: ignore[index]


@dataclass(frozen=True)
class Job:
    """What a config asks for: found, but neither read nor loaded."""

    config: SelectConfig
    pool: Pool
    target: Target
    places: Places
    device: str
    method: Recipe | Baseline
    checkpoints: Sequence[Checkpoint] = ()

    def identity(self) -> dict[str, Any]:
        """All that the scores are a function of; reads every file once."""
        method = {"method": described(self.method), **other_fingerprints(self.config)}
        return identity(self.config, self.places, self.pool, self.target, self.device, method)

    @property
    def scored(self) -> SelectConfig:
        """The config that loads the model to score with, where that is one: at the only checkpoint, if one is named."""
        return (
            self.checkpoints[0].applied(self.config, self.places.tokenizer)
            if len(self.checkpoints) == 1
            else self.config
        )

    def require_data(self) -> None:
        """Read pool and target once.

        Raises:
            DataError: one of them has no row that can be used, or a bad one where the run stops at those.
            ConfigError: the budget is above the pool; tokens can only be counted later.
        """
        self.pool.require_rows("pool")
        if self.target.sources:
            self.target.require_rows("target")
        budget = Budget.parse(self.config.budget)
        if budget.unit == "samples":
            budget.resolve(len(self.pool), 0)


def open_job(config: SelectConfig, method: Recipe | Baseline | None = None) -> Job:
    """The job of a config whose places are absolute; raises PrismError where something is missing.

    Args:
        method: instead of the one that the config names.
    """
    method = method or find_method(config.method)
    checkpoints = _require_sense(config, method)
    paired = isinstance(method, Recipe) and method.objective.paired
    pool = open_pool(config.pool, columns=config.columns, on_bad_row=config.on_bad_row)
    target = open_target(config.target, columns=config.target_columns, on_bad_row=config.on_bad_row, paired=paired)
    places = find_model(
        config.model,
        config.adapter,
        tokenizer=config.tokenizer,
        revision=config.revision,
        allow_pickle=config.allow_pickle,
    )
    return Job(config, pool, target, places, str(choose_device(config.device)), method, checkpoints)


def _require_sense(config: SelectConfig, method: Recipe | Baseline) -> list[Checkpoint]:
    """The checkpoints to score at; raises ConfigError for options that the method has no use for."""
    require_fitting(config, method)
    if not config.target and not (isinstance(method, Baseline) and not method.needs_target):
        spared = ", ".join(name for name, baseline in BASELINES.items() if not baseline.needs_target)
        raise ConfigError(f"--target: is required by the method {method.name}; only {spared} do without")
    if isinstance(method, Recipe):
        if config.pair_scores and (reason := why_not_pairs(method)):
            raise ConfigError(f"--pair-scores has no meaning for the method {method.name}: {reason}")
        if config.engine == "forward" and (method.normalise == "cosine" or method.candidate_map != "identity"):
            what = "gradient norms" if method.normalise == "cosine" else "sample gradients"
            raise ConfigError(f"the method {method.name} needs {what}, which --engine forward can't give: leave it out")
        return checkpoints_of(config, method)
    return []


def why_not_pairs(method: Recipe | Baseline) -> str | None:
    """Why scores against single pairs don't make those of a method; None where they do."""
    if isinstance(method, Baseline):
        return "it uses no gradients"
    if method.target == "dpo":
        return "its pairs count by summed losses"
    if method.checkpoints == "all":
        return "it sums over checkpoints"
    if method.candidate_map != "identity":
        return f"the {method.candidate_map} map is not linear"
    if method.aggregate != "mean":
        return "it aggregates over subtasks"
    return None if method.plain else "it divides scores by what differs from row to row"


def described(method: Recipe | Baseline) -> dict[str, Any]:
    """What of a method its scores depend on: a recipe's fields, whatever it is called."""
    if isinstance(method, Recipe):
        return method.model_dump(exclude={"name", "about", "source"})
    return {"baseline": method.name}


def method_of(identity: Mapping[str, Any]) -> Recipe | Baseline:
    """The method of a run that was made before, as its manifest has it."""
    found = identity.get("method", {})
    return BASELINES[found["baseline"]] if "baseline" in found else Recipe(name="recipe", **found)


def completed(identity: Mapping[str, Any]) -> dict[str, Any]:
    """The identity of a run that was made before some option, or a field of methods, existed: with its default, which
    is what such a run did."""
    fields = {name: SelectConfig.model_fields[name].get_default() for name in SCORING}
    method = dict(identity.get("method", {}))
    if "baseline" not in method:
        method = described(Recipe(name="recipe")) | method
    return {**identity, "method": method, "option": {**fields, **identity.get("option", {})}}


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
        quantize=config.quantize,
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
