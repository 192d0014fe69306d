"""Write a selection the way trainers read it: every format is one entry of `FORMATS`."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from prism.errors import ConfigError, RunError
from prism.files import write_whole
from prism.selection.select import Selection, json_line

Rows = Sequence[dict[str, Any]]


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
    rows = [
        {"id": row.id, "messages": [dict(m) for m in row.messages], "source": row.source, "score": mark["score"]}
        for row, mark in selection.rows()
    ]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise RunError(f"{folder} is not empty: name a new folder")
        FORMATS[format](rows, folder)
    except OSError as error:
        raise RunError(f"{folder} can't be written: {error}") from error
    return folder


def _trl(rows: Rows, folder: Path) -> None:
    from datasets import Dataset
    from datasets.utils.logging import disable_progress_bar, enable_progress_bar, is_progress_bar_enabled

    shown = is_progress_bar_enabled()
    disable_progress_bar()
    try:
        Dataset.from_list(list(rows)).save_to_disk(str(folder))
    finally:
        if shown:
            enable_progress_bar()


def _llamafactory(rows: Rows, folder: Path) -> None:
    write_whole(
        folder / "prism.json", json.dumps([{"messages": r["messages"]} for r in rows], ensure_ascii=False, indent=1)
    )
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
    write_whole(path, "".join(json_line({"messages": r["messages"]}) + "\n" for r in rows))
    entry = {"path": str(path.resolve()), "ds_type": "json", "type": "chat_template", "field_messages": "messages"}
    write_whole(folder / "dataset.yaml", yaml.safe_dump({"datasets": [entry]}, sort_keys=False))


FORMATS: dict[str, Callable[[Rows, Path], None]] = {"trl": _trl, "llamafactory": _llamafactory, "axolotl": _axolotl}
