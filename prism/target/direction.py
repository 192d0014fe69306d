"""A direction: one tensor per chosen parameter, saying where the target behaviour lies."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from prism.errors import RunError
from prism.files import write_whole


@dataclass(frozen=True)
class Direction:
    """Parameter name → tensor of the parameter's shape, in float32 or wider, with what it was made from."""

    tensors: Mapping[str, torch.Tensor]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def norm(self) -> float:
        """Euclidean norm over all parameters."""
        return float(torch.stack([t.double().square().sum() for t in self.tensors.values()]).sum().sqrt())

    def is_finite(self) -> bool:
        return all(bool(t.isfinite().all()) for t in self.tensors.values())

    def save(self, path: Path) -> None:
        tensors = {name: t.detach().cpu().contiguous() for name, t in self.tensors.items()}
        write_whole(path, save(tensors, {"prism": json.dumps(dict(self.provenance), sort_keys=True)}))

    @classmethod
    def load(cls, path: Path) -> "Direction":
        """Raises RunError where the file is missing or damaged."""
        try:
            with safe_open(path, "pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                return cls(tensors, json.loads((file.metadata() or {}).get("prism", "{}")))
        except (OSError, SafetensorError, ValueError) as error:
            raise RunError(f"the direction {path} can't be read: {error}") from error


def save_directions(path: Path, directions: Mapping[str, Direction], fingerprint: str) -> None:
    """Write the directions of a target: one as `Direction.save` does, more with the group's number before each name."""
    if list(directions) == [""]:
        (only,) = directions.values()
        Direction(only.tensors, {**only.provenance, "fingerprint": fingerprint}).save(path)
        return
    tensors = {f"{i}:{name}": t for i, d in enumerate(directions.values()) for name, t in d.tensors.items()}
    groups = {name: dict(direction.provenance) for name, direction in directions.items()}
    Direction(tensors, {"groups": groups, "order": list(groups), "fingerprint": fingerprint}).save(path)


def load_directions(path: Path) -> dict[str, Direction]:
    """What `save_directions` wrote; raises RunError where the file is missing or damaged."""
    stored = Direction.load(path)
    if "groups" not in stored.provenance:
        return {"": stored}
    parts: dict[int, dict[str, torch.Tensor]] = {i: {} for i in range(len(stored.provenance["order"]))}
    for key, tensor in stored.tensors.items():
        number, _, name = key.partition(":")
        parts[int(number)][name] = tensor
    return {
        name: Direction(parts[i], stored.provenance["groups"][name])
        for i, name in enumerate(stored.provenance["order"])
    }
