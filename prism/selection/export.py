"""Write a selection the way trainers read it: every format is one entry of `FORMATS`."""

import json
from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from prism.data import Row
from prism.errors import ConfigError, RunError
from prism.files import write_whole
from prism.selection.selection import Mark, Selection, json_line

Rows = Iterator[dict[str, Any]]
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
        ("source", pa.string()),
        ("score", pa.float64()),
    ]
)


def export(selection: Selection, out: str | Path, format: str = "trl") -> Path:
    """Write the chosen rows as messages, best first, into the new or empty folder `out`.

    Args:
        format: `"trl"`: a saved `datasets` folder; `"llamafactory"`: `prism.json` with its `dataset_info.json`;
            `"axolotl"`: `prism.jsonl` with a `dataset.yaml` to paste into a config.

    Raises:
        ConfigError: an unknown format.
        RunError: `out` holds files already, or can't be written.
    """
    if format not in FORMATS:
        raise ConfigError(f"format {format!r} is unknown; known are {', '.join(FORMATS)}")
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise RunError(f"{folder} is not empty: name a new folder")
        FORMATS[format](map(json.loads, selection.texts(_plain_row, folder)), folder)
    except OSError as error:
        raise RunError(f"{folder} can't be written: {error}") from error
    return folder


def _plain_row(row: Row, mark: Mark) -> str:
    return json.dumps({"id": row.id, "messages": row.messages, "source": row.source, "score": mark["score"]})


def _trl(rows: Rows, folder: Path) -> None:
    from datasets import Dataset
    from datasets.utils.logging import disable_progress_bar, enable_progress_bar, is_progress_bar_enabled

    shown = is_progress_bar_enabled()
    disable_progress_bar()
    try:
        parts = [pa.RecordBatch.from_pylist(part, SCHEMA) for part in iter(lambda: list(islice(rows, 1000)), [])]
        Dataset(pa.Table.from_batches(parts, SCHEMA)).save_to_disk(str(folder))
    finally:
        if shown:
            enable_progress_bar()


def _llamafactory(rows: Rows, folder: Path) -> None:
    parts = (json.dumps({"messages": row["messages"]}, ensure_ascii=False).encode() for row in rows)
    separated = (b",\n" + part if number else part for number, part in enumerate(parts))
    write_whole(folder / "prism.json", chain((b"[\n",), separated, (b"\n]\n",)))
    tags = {
        "role_tag": "role",
        "content_tag": "content",
        "user_tag": "user",
        "assistant_tag": "assistant",
        "observation_tag": "tool",
        "system_tag": "system",
    }
    info = {
        "prism": {
            "file_name": "prism.json",
            "formatting": "sharegpt",
            "columns": {"messages": "messages"},
            "tags": tags,
        }
    }
    write_whole(folder / "dataset_info.json", json.dumps(info, indent=2) + "\n")


def _axolotl(rows: Rows, folder: Path) -> None:
    path = folder / "prism.jsonl"
    write_whole(path, (json_line({"messages": row["messages"]}).encode() + b"\n" for row in rows))
    entry = {"path": str(path.resolve()), "ds_type": "json", "type": "chat_template", "field_messages": "messages"}
    write_whole(folder / "dataset.yaml", yaml.safe_dump({"datasets": [entry]}, sort_keys=False))


FORMATS: dict[str, Callable[[Rows, Path], None]] = {"trl": _trl, "llamafactory": _llamafactory, "axolotl": _axolotl}
