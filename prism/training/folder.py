"""The folder of a training: what it was made from, its checkpoints, and the model at the end."""

import json
import logging
import os
import shutil
import zipfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Self

import filelock
from safetensors import SafetensorError, safe_open

from prism.circumstances import differences
from prism.errors import ConfigError, RunError, TrainingError
from prism.files import write_whole

log = logging.getLogger("prism")
RECORD = "train.json"
HARMLESS = {".lock", "run.log"}


class TrainFolder:
    """One training's files, to be used in a `with` statement: only one process may hold them at a time.

    Raises:
        RunError: the place can't be written, is in use, or holds something else.
    """

    record_name = RECORD
    what = "training"

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._refuse_others()
            path.mkdir(parents=True, exist_ok=True)
            self._lock = filelock.FileLock(path / ".lock")
            self._lock.acquire(timeout=0)
        except filelock.Timeout as error:
            raise RunError(f"{path} is in use by another prism process") from error
        except (OSError, NotImplementedError) as error:
            raise RunError(f"{path} can't be written: {error}") from error
        try:
            self.record = read_record(path, self.record_name)
            self._log = logging.FileHandler(path / "run.log", encoding="utf-8", errors="backslashreplace")
        except BaseException:
            self._lock.release()
            raise
        self._log.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logging.getLogger().addHandler(self._log)
        logging.getLogger("prism").setLevel(logging.INFO)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Log what went wrong, with a traceback where it is not the user's to mend, and let go."""
        try:
            if isinstance(error, Exception):
                ours = isinstance(error, ConfigError | RunError | TrainingError)
                log.error("%s", error, exc_info=None if ours else error)
        finally:
            self.tokens.unlink(missing_ok=True)
            logging.getLogger().removeHandler(self._log)
            self._log.close()
            self._lock.release()

    @property
    def tokens(self) -> Path:
        """What is trained on, while it is."""
        return self.path / "tokens.arrow"

    def claim(self, identity: Mapping[str, Any], circumstances: Mapping[str, Any], but: Collection[str] = ()) -> None:
        """Make this the folder of the training `identity`, if it isn't that already; once it is finished, the parts
        `but` may differ.

        Raises:
            RunError: it holds a training of something else.
        """
        if self.record is not None and not self.finished and self.last_checkpoint() is None:
            self.record = None  # it was stopped before it had anything to lose
        if self.finished and self.record is not None:
            identity = {**identity, **{part: self.record["identity"].get(part) for part in but}}
        if self.record is not None and self.record["identity"] != identity:
            changed = differences(self.record["identity"], identity)
            raise RunError(
                f"{self.path} holds another {self.what}; changed since: {'; '.join(changed)}. "
                "Undo the change to go on with it, or name a new --out"
            )
        if self.record is None:
            self.write({"status": "running", **circumstances, "identity": identity})

    def write(self, record: Mapping[str, Any]) -> None:
        self.record = dict(record)
        write_whole(self.path / self.record_name, json.dumps(record, indent=2, allow_nan=False) + "\n")

    @property
    def finished(self) -> bool:
        return self.record is not None and self.record["status"] == "done"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def last_checkpoint(self) -> Path | None:
        """The latest checkpoint that is whole; later ones, which a kill left in pieces, are removed."""
        found = sorted(self.checkpoints.glob("checkpoint-*"), key=lambda path: -int(path.name.rpartition("-")[2]))
        for folder in found:
            if _whole(folder):
                return folder
            shutil.rmtree(folder)
        return None

    def save(self, write: Callable[[Path], None]) -> None:
        """Let `write` fill a folder, then move its files here, so that none is ever half written."""
        aside = self.path / ".model.tmp"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        write(aside)
        for path in sorted(aside.iterdir()):
            os.replace(path, self.path / path.name)
        aside.rmdir()

    def drop_checkpoints(self) -> None:
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def forget(self) -> None:
        """Give up a training that came to nothing: the folder is free for another one."""
        self.drop_checkpoints()
        (self.path / self.record_name).unlink(missing_ok=True)
        self.record = None

    def _refuse_others(self) -> None:
        found = os.listdir(self.path) if os.path.lexists(self.path) else []
        others = sorted(n for n in found if n not in HARMLESS and not n.endswith(".tmp"))
        leftovers = {"tokens.arrow", "rejected.jsonl", "config.yaml"}
        if self.record_name not in found and set(others) - leftovers:
            raise RunError(
                f"{self.path} holds other files ({others[0]}, …) but no {self.what} of ours: name a new folder"
            )


def read_record(folder: Path, name: str = RECORD) -> dict[str, Any] | None:
    """What `train.json` in a folder says; None where there is none. Raises RunError where it is damaged."""
    file = folder / name
    if not file.exists():
        return None
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(record["identity"], dict) or not isinstance(record["status"], str):
            raise ValueError("no identity")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{file} is damaged ({error}): name a new folder") from error
    return dict(record)


def trained_place(folder: Path) -> tuple[str, str | None]:
    """(model, adapter or None) to load what a finished training in `folder` made, wherever the folder lies now.

    Raises:
        RunError: there is no finished training.
    """
    record = read_record(folder)
    if record is None:
        raise RunError(f"{folder} is not the folder of a training: it has no {RECORD}")
    if record["status"] != "done":
        raise RunError(f"the training in {folder} is not finished: the same prism train command goes on with it")
    if record["full"]:
        return str(folder), None
    return record["base"]["model"], str(folder)


def base_place(folder: Path) -> tuple[str, str | None, str | None]:
    """(model, adapter or None, tokenizer where it has another) that a training in `folder` began with; raises
    RunError as `trained_place`."""
    trained_place(folder)
    record = read_record(folder)
    assert record is not None
    return record["base"]["model"], record["base"]["adapter"], record["base"].get("tokenizer")


def require_one_process() -> None:
    """Raises ConfigError under a launcher of several processes."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            "prism train is one process on one device: prism export hands the selection to trainers for several"
        )


def _whole(folder: Path) -> bool:
    """Whether a checkpoint was written to its end: the trainer's state is the last file of it."""
    try:
        json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
        for path in folder.glob("*.safetensors"):
            with safe_open(path, "pt") as file:
                file.keys()
    except (OSError, ValueError, SafetensorError):
        return False
    return any(folder.glob("*.safetensors")) and zipfile.is_zipfile(folder / "optimizer.pt")
