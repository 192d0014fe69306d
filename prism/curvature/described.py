"""All that a fitted curvature is a function of, and whether it fits a model."""

import hashlib
from collections.abc import Mapping
from typing import Any

import torch

from prism.errors import RunError
from prism.model import Model

SAME = (
    "curvature",
    "model",
    "adapter",
    "attached",
    "weights",
    "parameters",
)  # without which a fit is of something else


def described(
    model: Model, curvature: str, files: Mapping[str, Any], pool: Mapping[str, Any], options: Mapping[str, Any]
) -> dict[str, Any]:
    """The identity of a fit, JSON-ready.

    Args:
        files: fingerprints of model, adapter, tokenizer and template; empty where they were not loaded from disk.
        pool: fingerprints of what the samples are drawn from.
        options: of the fit and of how rows are encoded.
    """
    identity: dict[str, Any] = {"curvature": curvature, **files}
    made_here = {n: p for n, p in model.parameters.items() if ".lora_" in n} if "adapter" not in files else {}
    if not files:
        identity["weights"] = _digest(model.parameters)
    elif made_here:
        identity["attached"] = _digest(made_here)
    return {
        **identity,
        "parameters": {name: list(p.shape) for name, p in model.parameters.items()},
        "dtype": model.kept,
        "pool": dict(pool),
        "option": dict(options),
    }


def require_same(here: Mapping[str, Any], there: Mapping[str, Any], where: str) -> None:
    """Raises RunError with the names of what differs where a fit `there` is not of the model `here`."""
    odd = [name for name in SAME if here.get(name) != there.get(name)]
    if not odd:
        return
    reasons = []
    for name in odd:
        if name == "curvature":
            reasons.append(f"it is {there.get(name)}, not {here[name]}")
        elif name == "parameters":
            mine, theirs = dict(here[name]), dict(there.get(name, {}))
            differ = [n for n in {**theirs, **mine} if mine.get(n) != theirs.get(n)]
            reasons.append(f"{len(differ)} parameters differ, such as {differ[0]}")
        else:
            reasons.append(f"another {'LoRA was attached' if name == 'attached' else name}")
    raise RunError(f"the curvature in {where} does not fit this run: {'; '.join(reasons)}")


def _digest(parameters: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name, parameter in parameters.items():
        digest.update(name.encode())
        digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
