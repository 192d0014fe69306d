"""Optimizer states on disk: found, read without running anything, refused where they hold no moments of Adam's."""

import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from prism.errors import ModelError, first_line

FILES = ("optimizer.pt", "optimizer.bin")  # of transformers' Trainer, and of accelerate for FSDP
DEEPSPEED = ("global_step*", "zero_to_fp32.py", "*_optim_states.pt")
PARTS = ("rank*optimizer*", "optimizer*rank*")
QUANTISED = ("qmap", "absmax", "new_max", "max1", "__bnb")
WRAPPERS = ("optimizer", "optimizer_state_dict", "optim", "optimizer_state")
MOMENTS = (("exp_avg", "exp_avg_sq"), ("state1", "state2"))  # torch's names, and those of bitsandbytes
FLAT = re.compile(r"(?:state|optim\.state|optimizer\.state)\.(.+)\.(step|exp_avg|exp_avg_sq|state1|state2)")
BY_NAME = "{'state': {parameter name: {'step', 'exp_avg', 'exp_avg_sq'}}, 'param_groups': [{'betas', 'eps', 'lr'}]}"


@dataclass(frozen=True)
class Entry:
    """The moments of one parameter, and how many steps made them."""

    first: torch.Tensor
    second: torch.Tensor
    step: int


@dataclass(frozen=True)
class State:
    """An optimizer's state. `groups`: keys of parameters, group by group, in the optimizer's order; `entries`: by key,
    which is a number or a name; parameters that never had a gradient have none."""

    path: Path
    groups: list[list[int | str]]
    entries: Mapping[int | str, Entry]
    betas: tuple[float, float]
    eps: float
    rate: float | None

    @property
    def named(self) -> bool:
        return any(isinstance(key, str) for key in self.entries)


def find_state(checkpoint: Path) -> Path:
    """The optimizer's file of a checkpoint folder, or of what is such a file itself.

    Raises:
        ModelError: there is none, or one of a form that can't be read, with what to do instead.
    """
    if checkpoint.is_file():
        return checkpoint
    if not checkpoint.is_dir():
        raise ModelError(f"the checkpoint {checkpoint} does not exist")
    for name in FILES:
        if (checkpoint / name).is_file():
            return checkpoint / name
    if any(any(checkpoint.glob(sign)) for sign in DEEPSPEED):
        raise ModelError(
            f"{checkpoint} holds DeepSpeed's shards of an optimizer, which only DeepSpeed can put together: warm up "
            f"without it (prism warmup), or save the moments by name, as {BY_NAME}, to {checkpoint / FILES[0]}"
        )
    if shards := next((path for path in sorted(checkpoint.glob("optimizer*")) if (path / ".metadata").exists()), None):
        raise ModelError(
            f"{checkpoint} holds the optimizer in shards ({shards.name}): join them with python -m "
            f"torch.distributed.checkpoint.format_utils dcp_to_torch {shards} {checkpoint / FILES[0]}, or train with "
            "FULL_STATE_DICT"
        )
    if parts := sorted(path.name for sign in PARTS for path in checkpoint.glob(sign)):
        raise ModelError(
            f"{checkpoint} holds the optimizer in parts of several processes ({parts[0]}): train with FULL_STATE_DICT"
        )
    raise ModelError(
        f"the checkpoint {checkpoint} holds no optimizer state ({' or '.join(FILES)}): train without "
        "save_only_model, or make checkpoints with prism warmup"
    )


def read_state(path: Path) -> State:
    """Raises ModelError where the file is damaged, needs pickle, or holds no Adam moments."""
    raw = _unwrapped(_read(path), path)
    state, groups = raw["state"], raw.get("param_groups") or [{}]
    if not isinstance(state, Mapping) or not all(isinstance(g, Mapping) for g in groups):
        raise ModelError(f"{path} is no optimizer state: {BY_NAME} is one")
    if not state:
        raise ModelError(f"{path} is an optimizer state before its first step: it has no moments yet")
    names = _with_names(groups)
    keys = [[names.get(key, key) for key in group] for group in _keys(groups, state)]
    found = {key: _entry(key, held, path) for key, held in state.items() if held != {}}
    entries = {names.get(key, key): entry for key, entry in found.items()}
    return State(path, keys, entries, *_settings(groups, path))


def _read(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path) or None)
    except Exception as error:
        if found := re.search(r"GLOBAL ([\w.]+)", str(error)):
            kind = found[1]
            hint = "it is quantised: use a plain AdamW" if "optim" in kind else "save tensors and numbers alone"
            raise ModelError(f"{path} holds objects of {kind}, which only pickle could load: {hint}") from error
        reason = first_line(error) if isinstance(error, OSError | RuntimeError) else "it is no file of torch.save"
        raise ModelError(f"the optimizer state {path} can't be read: {reason}") from error


def _unwrapped(raw: Any, path: Path) -> dict[str, Any]:
    """As {"state": …, "param_groups": …}, whatever it was wrapped or flattened into."""
    for name in WRAPPERS:
        if isinstance(raw, Mapping) and "state" not in raw and isinstance(raw.get(name), Mapping):
            raw = raw[name]
    if isinstance(raw, Mapping) and "state" in raw:
        return dict(raw)
    if isinstance(raw, Mapping) and (flat := [(m, v) for k, v in raw.items() if (m := FLAT.fullmatch(str(k)))]):
        state: dict[str, dict[str, Any]] = {}
        for match, value in flat:
            state.setdefault(match[1], {})[match[2]] = value
        return {"state": state, "param_groups": [_flat_group(raw)]}
    found = f"its keys are {', '.join(map(str, list(raw)[:4]))}" if isinstance(raw, Mapping) else type(raw).__name__
    raise ModelError(f"{path} is no optimizer state ({found}): {BY_NAME} is one")


def _flat_group(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Settings from keys such as param_groups.NAME.lr, of which torch repeats one for each parameter."""
    group: dict[str, Any] = {}
    for key, value in raw.items():
        if "param_groups." in str(key):
            group.setdefault(str(key).rpartition(".")[2], value)
    return group


def _entry(key: int | str, held: Any, path: Path) -> Entry:
    keys = sorted(map(str, held)) if isinstance(held, Mapping) else [type(held).__name__]
    if (
        any(name.startswith(("qmap", "absmax", "new_max", "max1")) for name in keys)
        or "__bnb_optimizer_quant_state__" in keys
    ):
        raise ModelError(
            f"{path}: the moments of parameter {key} are quantised to 8 bits (bitsandbytes): train with a plain AdamW "
            "(optim=adamw_torch) or its 32-bit forms (paged_adamw_32bit)"
        )
    names = next((pair for pair in MOMENTS if all(name in keys for name in pair)), None)
    other = {"exp_inf": "Adamax", "mu_product": "NAdam", "max_exp_avg_sq": "AMSGrad"}
    kind = next((other[name] for name in keys if name in other), None)
    if names is None or kind:
        raise ModelError(
            f"{path} is no state of Adam or AdamW but {kind or 'of another optimizer'}: parameter {key} has "
            f"{', '.join(keys)}, not exp_avg and exp_avg_sq"
        )
    first, second = (held[name] for name in names)
    for tensor in (first, second):
        if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point() or type(tensor) is not torch.Tensor:
            raise ModelError(f"{path}: the moments of parameter {key} are no plain floating-point tensors")
    if first.shape != second.shape:
        raise ModelError(
            f"{path}: parameter {key} has moments of shapes {tuple(first.shape)} and {tuple(second.shape)}"
        )
    if "step" not in held:
        raise ModelError(f"{path} says of parameter {key} no step, which the bias correction needs")
    return Entry(first, second, int(held["step"]))


def _keys(groups: list[Mapping[str, Any]], state: Mapping[int | str, Any]) -> list[list[int | str]]:
    """By group; one group where none are told."""
    keys = [list(group.get("params", ())) for group in groups]
    return keys if any(keys) else [list(state)]


def _with_names(groups: list[Mapping[str, Any]]) -> dict[Any, int | str]:
    """Number → name, where torch was given names and kept them beside the numbers."""
    named = [zip(group.get("params", ()), group.get("param_names") or (), strict=False) for group in groups]
    return {key: str(name) for pairs in named for key, name in pairs}


def _settings(groups: list[Mapping[str, Any]], path: Path) -> tuple[tuple[float, float], float, float | None]:
    """betas, eps and the learning rate, of the first group that has them."""
    found: set[tuple[float, ...]] = set()
    for group in groups:
        if group.get("amsgrad"):
            raise ModelError(f"{path} is a state of AMSGrad: train with a plain AdamW")
        if "betas" in group and "eps" in group:
            found.add((*map(float, group["betas"]), float(group["eps"])))
    if len(found) > 1:
        raise ModelError(f"{path} has groups of parameters with different betas or eps: {sorted(found)}")
    if not found:
        raise ModelError(f"{path} does not say betas and eps (param_groups): {BY_NAME} does")
    b1, b2, eps = next(iter(found))
    rate = next((float(group["lr"]) for group in groups if group.get("lr") is not None), None)
    return (b1, b2), eps, rate
