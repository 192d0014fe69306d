"""Where the blocks of a fitted curvature are kept: in memory, or in a folder of safetensors, whole or not at all."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any, Protocol

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from prism.curvature.blocks import Block, block_of
from prism.errors import RunError
from prism.files import write_whole

INDEX = "curvature.json"


class BlockStore(Protocol):
    """Blocks by parameter, put in part by part."""

    @property
    def means(self) -> Mapping[str, float]:
        """Mean eigenvalue of each block that is there."""
        ...

    def put(self, blocks: Mapping[str, Block]) -> None: ...

    def blocks(self) -> Mapping[str, Block]: ...


class Memory:
    """Keeps blocks in memory: for a curvature without a run folder."""

    def __init__(self) -> None:
        self._blocks: dict[str, Block] = {}
        self.means: dict[str, float] = {}

    def put(self, blocks: Mapping[str, Block]) -> None:
        self._blocks |= blocks
        self.means |= {name: block.mean() for name, block in blocks.items()}

    def blocks(self) -> Mapping[str, Block]:
        return self._blocks


class Folder:
    """`curvature.json` says what was fitted, on what, and the sha256 of each `part-*.safetensors` beside it.

    Args:
        identity: all that the fit depends on. Parts of another fit are not seen, nor are damaged ones.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self.path = path
        identity = json.loads(json.dumps(identity))
        found = read_index(path)
        parts = found["parts"] if found is not None and found["identity"] == identity else {}
        intact = {name: part for name, part in parts.items() if _intact(path / name, part)}
        self._index: dict[str, Any] = {"identity": identity, "parts": intact}

    def put(self, blocks: Mapping[str, Block]) -> None:
        """Raises RunError where the folder can't be written."""
        tensors = {f"{kind} {name}": t for name, block in blocks.items() for kind, t in block.tensors().items()}
        parts = self._index["parts"]
        name = next(file for n in count() if (file := f"part-{n:04d}.safetensors") not in parts)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            data = save({key: t.detach().cpu().contiguous() for key, t in tensors.items()})
            write_whole(self.path / name, data)
            means = {parameter: block.mean() for parameter, block in blocks.items()}
            parts[name] = {"sha256": hashlib.sha256(data).hexdigest(), "means": means}
            write_whole(self.path / INDEX, json.dumps(self._index, indent=2) + "\n")
        except OSError as error:
            raise RunError(f"the curvature in {self.path} can't be written: {error.strerror or error}") from error

    @property
    def means(self) -> Mapping[str, float]:
        return _means(self._index)

    def blocks(self) -> Mapping[str, Block]:
        return StoredBlocks(self.path, self._index)


class StoredBlocks(Mapping[str, Block]):
    """Blocks read from disk one at a time, when they are asked for."""

    def __init__(self, path: Path, index: Mapping[str, Any]) -> None:
        self._path = path
        self._file = {name: file for file, part in index["parts"].items() for name in part["means"]}

    def __getitem__(self, name: str) -> Block:
        file = self._path / self._file[name]
        try:
            with safe_open(file, "pt") as part:
                keys = [key for key in part.keys() if key.partition(" ")[2] == name]  # noqa: SIM118
                return block_of({key.partition(" ")[0]: part.get_tensor(key) for key in keys})
        except (OSError, SafetensorError, TypeError) as error:
            raise RunError(f"the curvature {file} can't be read: {error}") from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._file)

    def __len__(self) -> int:
        return len(self._file)


def read_index(path: Path) -> dict[str, Any] | None:
    """What `curvature.json` in `path` says; None where there is none, or it is damaged."""
    try:
        found = json.loads((path / INDEX).read_text(encoding="utf-8"))
        whole = isinstance(found["identity"], dict) and all(
            part["sha256"] and part["means"] for part in found["parts"].values()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return found if whole else None


def read_finished(path: Path) -> tuple[dict[str, Any], Mapping[str, float], Mapping[str, Block]]:
    """(identity, means, blocks) of a finished fit in `path`.

    Raises:
        RunError: there is none, or it is damaged.
    """
    index = read_index(path)
    if index is None:
        raise RunError(f"{path} holds no fitted curvature ({INDEX} is missing or damaged)")
    missing = set(index["identity"]["parameters"]) - set(_means(index))
    if missing:
        raise RunError(f"the curvature in {path} is not finished: go on with the run that fits it")
    if damaged := next((name for name, part in index["parts"].items() if not _intact(path / name, part)), None):
        raise RunError(f"the curvature in {path} is damaged: {damaged} is not what was written")
    return index["identity"], _means(index), StoredBlocks(path, index)


def _means(index: Mapping[str, Any]) -> dict[str, float]:
    return {name: mean for part in index["parts"].values() for name, mean in part["means"].items()}


def _intact(file: Path, part: Mapping[str, Any]) -> bool:
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest() == str(part["sha256"])
    except OSError:
        return False
