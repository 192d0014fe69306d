"""A folder of an experiment: whose it is, one process at a time, and steps that are not done twice."""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import filelock

from prism.circumstances import circumstances
from prism.errors import PrismError, RunError, first_line
from prism.experiments.statistics import plain
from prism.files import write_whole
from prism.progress import Progress

T = TypeVar("T")
MARKER = "experiment.json"
HARMLESS = {".lock", "run.log"}
log = logging.getLogger("prism")


@contextmanager
def workplace(folder: Path, command: str, seed: int) -> Iterator[Path]:
    """The folder of an experiment, for this process alone; `run.log` in it holds what happened.

    Raises:
        RunError: as `held`.
    """
    with held(folder, command, seed) as folder, logged(folder):
        yield folder


@contextmanager
def held(folder: Path, command: str, seed: int) -> Iterator[Path]:
    """The folder of an experiment, for this process alone.

    Raises:
        RunError: it can't be written, is in use, or holds something else.
    """
    folder = folder.expanduser().absolute()
    _refuse_others(folder, command)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / ".lock")
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise RunError(f"{folder} is in use by another prism process") from error
    except (OSError, NotImplementedError) as error:
        raise RunError(f"{folder} can't be written: {error}") from error
    try:
        if not (folder / MARKER).exists():
            save_json(folder / MARKER, {"experiment": command, **circumstances(seed)})
        yield folder
    finally:
        lock.release()


@contextmanager
def logged(folder: Path) -> Iterator[None]:
    """What happens meanwhile goes to `run.log` of the folder of an experiment."""
    handler = logging.FileHandler(folder / "run.log", encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.getLogger().addHandler(handler)
    logging.getLogger("prism").setLevel(logging.INFO)
    try:
        yield
    except Exception as error:
        log.error("%s", error, exc_info=not isinstance(error, PrismError))
        raise
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


def _refuse_others(folder: Path, command: str) -> None:
    try:
        found = os.listdir(folder) if os.path.lexists(folder) else []
        if MARKER in found:
            made_by = json.loads((folder / MARKER).read_text(encoding="utf-8"))["experiment"]
            if made_by != command:
                raise RunError(f"{folder} holds a prism {made_by}: name a new --out")
        elif others := sorted(n for n in found if n not in HARMLESS and not n.endswith(".tmp")):
            raise RunError(f"{folder} holds other files ({others[0]}, …) but no prism {command}: name a new --out")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{folder} can't be used: {error}") from error


@contextmanager
def in_turn(folder: Path, progress: Progress) -> Iterator[None]:
    """Make or use a folder that several experiments share, one process after another.

    Raises:
        RunError: its place can't be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder.with_name(f".{folder.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            progress.note(f"waiting for another prism process that is at {folder}")
            lock.acquire()
    except (OSError, NotImplementedError) as error:
        raise RunError(f"{folder} can't be written: {error}") from error
    try:
        yield
    finally:
        lock.release()


class Attempts:
    """Steps that several wait for, by their folders: one that failed is not tried again."""

    def __init__(self) -> None:
        self._failed: dict[Path, Exception] = {}

    def __call__(self, folder: Path, make: Callable[[], T]) -> T:
        """What `make` returns; raises what it raised before."""
        if folder in self._failed:
            raise self._failed[folder]
        try:
            return make()
        except Exception as error:
            self._failed[folder] = error
            raise


def failed(what: str, error: Exception, progress: Progress, then: str = "") -> str:
    """Say that a step failed and what becomes of it, and return why. Lets go of what the step held, such as a model."""
    why = str(error) if isinstance(error, PrismError) else f"{type(error).__name__}: {first_line(error)}"
    log.error("%s failed: %s", what, error, exc_info=not isinstance(error, PrismError))
    progress.note(f"{what} failed{then}: {why}")
    chain: BaseException | None = error
    while chain is not None:
        chain.__traceback__ = None
        chain = chain.__cause__ or chain.__context__
    return why


def once(path: Path, inputs: Mapping[str, Any], make: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """What `make` returned for these inputs: read from `path` where it was kept there, else made and kept.

    A file of other inputs, or a damaged one, is made anew.
    """
    key = digest(inputs)
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["inputs"] == key and kept["checksum"] == digest(kept["result"]):
            return dict(kept["result"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    result = plain(dict(make()))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_json(path, {"inputs": key, "checksum": digest(result), "result": result})
    return dict(result)


def kept(path: Path, inputs: Mapping[str, Any]) -> bool:
    """Whether `once` has the result of these inputs already."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return bool(found["inputs"] == digest(inputs) and found["checksum"] == digest(found["result"]))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def digest(value: Any) -> str:
    """sha256 of JSON-ready data."""
    return hashlib.sha256(json.dumps(plain(value), sort_keys=True).encode()).hexdigest()


def save_json(path: Path, value: Mapping[str, Any]) -> None:
    try:
        write_whole(path, json.dumps(plain(value), indent=2, allow_nan=False, ensure_ascii=False) + "\n")
    except OSError as error:
        raise RunError(f"{path} can't be written: {error}") from error
