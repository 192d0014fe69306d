"""The run folder: what a run was made from, and everything that it made."""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import filelock
import pyarrow as pa

from prism.circumstances import differences
from prism.errors import BadRow, RunError
from prism.files import write_whole
from prism.run.prepare import completed
from prism.scoring import Folder, PairScores
from prism.sealed import seal, unseal
from prism.selection import PairGains
from prism.target import MeasuredTarget
from prism.target.direction import load_directions, save_directions
from prism.target.measure import SCHEMA

HARMLESS = {".lock", "run.log"}  # what a run that ended before its manifest may leave behind
DIRECTION = "direction.safetensors"
PAIR_SCORES = "pairs.parquet"
CURVATURE = "curvature"
EARLIER = pa.schema([field for field in SCHEMA if field.name not in ("subtask", "rejected_from")])  # of older runs
FRUITS = ("target.parquet", "scores/*.parquet", "checkpoints/*/*.parquet")  # what a run has worked for


@dataclass(frozen=True)
class TargetFiles:
    """A measured target on disk: its table and its directions belong together, which a digest sees to."""

    path: Path
    fingerprint: str

    def load(self) -> MeasuredTarget | None:
        """None where it is not whole or of another run."""
        try:
            path, digest = self.path / "target.parquet", self._direction_digest()
            if found := unseal(path, SCHEMA, self.fingerprint, digest):
                table = found[0]
            elif found := unseal(path, EARLIER, self.fingerprint, digest):
                table = found[0]
                for name in SCHEMA.names[len(EARLIER) :]:
                    table = table.append_column(name, pa.array([""] * len(table), pa.string()))
            else:
                return None
            return MeasuredTarget(table, load_directions(self.path / DIRECTION), found[1])
        except (RunError, OSError):
            return None

    def save(self, target: MeasuredTarget) -> None:
        save_directions(self.path / DIRECTION, target.directions, self.fingerprint)
        path = self.path / "target.parquet"
        seal(path, target.table, target.rejected, self.fingerprint, self._direction_digest())

    def _direction_digest(self) -> str:
        with (self.path / DIRECTION).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


class RunFiles:
    """What lies in a run folder, which may not exist yet. Nothing is written.

    Raises:
        RunError: the place holds something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.manifest = self._read_manifest()
        except OSError as error:
            raise unwritable(path, error) from error

    @property
    def finished(self) -> bool:
        """Whether a run has come to its end here."""
        return self.manifest is not None and (self.path / "summary.json").exists()

    def _read_manifest(self) -> dict[str, Any] | None:
        """What the run here was made from; None where there is none, or it failed before it had anything to lose."""
        file = self.path / "manifest.json"
        if not file.exists():
            found = os.listdir(self.path) if os.path.lexists(self.path) else []
            if others := sorted(n for n in found if n not in HARMLESS and not n.endswith(".tmp")):
                raise RunError(f"{self.path} holds other files ({others[0]}, …) but no run of ours: name a new folder")
            return None
        try:
            manifest = json.loads(file.read_text(encoding="utf-8"))
            if not isinstance(manifest["identity"], dict):
                raise ValueError("no identity")
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(f"{file} is damaged ({error}): name a new folder") from error
        return dict(manifest) if any(any(self.path.glob(pattern)) for pattern in FRUITS) else None

    def check(self, identity: Mapping[str, Any], but: Collection[str] = ()) -> None:
        """Make sure that this folder is new, or holds the run of `identity`, whatever differs in the parts `but`.

        Raises:
            RunError: it holds a run of something else; the message names what differs.
        """
        if self.manifest is not None:
            before = self.manifest["identity"]
            identity = {**identity, **{part: before.get(part) for part in but}}
            if changes := differences(completed(before), completed(identity)):
                raise RunError(
                    f"{self.path} holds another run; changed since: {'; '.join(changes)}. "
                    "Undo the change to go on with it, or name a new --out"
                )
            identity = before
        self.identity = dict(identity)
        self.fingerprint = hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()

    def shards(self) -> Folder:
        return Folder(self.path / "scores", self.fingerprint)

    @property
    def pair_tiles(self) -> Path:
        """Where parts of the pair scores wait for the rest."""
        return self.path / "pairs"

    def has_pair_scores(self) -> bool:
        try:
            return bool(self.pair_scores())
        except RunError:
            return False

    def pair_scores(self) -> PairScores:
        """Raises RunError where there are none of this run."""
        return PairScores(self.path / PAIR_SCORES, self.fingerprint)

    def gains(self, measured: MeasuredTarget) -> Callable[[], PairGains]:
        """The pair scores with what is known of the pairs, read when they are asked for; raises as `pair_scores`."""
        return cache(lambda: PairGains.of(self.pair_scores(), measured.table))

    def load_target(self) -> MeasuredTarget | None:
        """The measured target, or None where it is not whole or of another run."""
        return TargetFiles(self.path, self.fingerprint).load()


class RunFolder(RunFiles):
    """One run's files, to read and to write. Only one process may hold them at a time; `close` lets go.

    Raises:
        RunError: the place can't be written, is in use, or holds something else.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)  # before anything is written, as the folder may not be ours
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = filelock.FileLock(path / ".lock")
            self._lock.acquire(timeout=0)
        except filelock.Timeout as error:
            raise RunError(f"{path} is in use by another prism process") from error
        except (OSError, NotImplementedError) as error:  # the second where a file system has no locks
            raise unwritable(path, error) from error
        try:
            self.manifest = self._read_manifest()
            for leftover in [
                *path.glob(".*.tmp"),
                *path.glob("scores/.*.tmp"),
                *path.glob("pairs/*/.*.tmp"),
                *path.glob("curvature/.*.tmp"),
                *path.glob("checkpoints/*/.*.tmp"),
                *path.glob("checkpoints/*/curvature/.*.tmp"),
                *path.glob("groups/.*.tmp"),
            ]:
                leftover.unlink()
            self._log = logging.FileHandler(path / "run.log", encoding="utf-8", errors="backslashreplace")
        except BaseException as error:
            self._lock.release()
            if isinstance(error, OSError):
                raise unwritable(path, error) from error
            raise
        self._log.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logging.getLogger().addHandler(self._log)  # warnings of other libraries are worth keeping too
        logging.getLogger("prism").setLevel(logging.INFO)

    def close(self) -> None:
        logging.getLogger().removeHandler(self._log)
        self._log.close()
        self._lock.release()

    def claim(self, circumstances: Mapping[str, Any]) -> None:
        """Write the manifest of a new run, with what is worth knowing about it."""
        if self.manifest is None:
            self.manifest = {**circumstances, "fingerprint": self.fingerprint, "identity": self.identity}
            write_whole(self.path / "manifest.json", json.dumps(self.manifest, indent=2) + "\n")

    def save_target(self, target: MeasuredTarget) -> None:
        TargetFiles(self.path, self.fingerprint).save(target)

    def save_rejected(self, rows: Iterable[BadRow]) -> None:
        write_whole(self.path / "rejected.jsonl", (json.dumps(row.as_json()).encode() + b"\n" for row in rows))


def unwritable(path: Path, error: Exception) -> RunError:
    reason = getattr(error, "strerror", None) or str(error)
    return RunError(f"the run folder {path} can't be written: {reason}")
