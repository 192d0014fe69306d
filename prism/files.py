"""Files that are written whole or not at all."""

import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO


def write_whole(path: Path, data: bytes | str | Iterable[bytes]) -> None:
    """Write through a temporary file beside `path`, fsync, rename: a reader sees the old file or the new one."""
    data = data.encode() if isinstance(data, str) else data
    write_file_whole(path, lambda file: file.writelines([data] if isinstance(data, bytes) else data))


def write_file_whole(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    """The same for what `write` puts into an open file."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
