"""Exports that trainers read."""

import json
from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml

from prism.errors import ConfigError, RunError
from prism.selection import FORMATS, Selection, export, select
from tests.selection.tables import make_scores

CHAT = [
    {"role": "system", "content": "s"},
    {"role": "user", "content": "q\u2028☀"},
    {"role": "assistant", "content": "a"},
    {"role": "user", "content": "more"},
    {"role": "assistant", "content": "b"},
]
ROWS: list[dict[str, Any]] = [
    {"id": "chat", "messages": [*CHAT, {"role": "user", "content": "unanswered"}], "source": "web", "odd": "\ud800"},
    {"id": "alpaca", "instruction": "i", "input": "x", "output": "o", "when": 5},
    {"id": "lost", "prompt": "q", "completion": "a"},
]
ALPACA = [{"role": "user", "content": "i\n\nx"}, {"role": "assistant", "content": "o"}]


@pytest.fixture
def selection() -> Selection:
    return select(make_scores(ROWS, [1.5, 2.5, 0]), budget=2)


def test_trl(selection: Selection, tmp_path: Path) -> None:
    folder = export(selection, tmp_path / "new" / "out")
    assert folder == tmp_path / "new" / "out"
    data = datasets.load_from_disk(str(folder))
    assert list(data) == [
        {"id": "alpaca", "messages": ALPACA, "source": "list", "score": 2.5},
        {"id": "chat", "messages": CHAT, "source": "web", "score": 1.5},
    ]


@pytest.mark.parametrize("shown", [True, False])
def test_trl_leaves_progress_bars_as_they_were(shown: bool, selection: Selection, tmp_path: Path) -> None:
    before = datasets.is_progress_bar_enabled()
    try:
        (datasets.enable_progress_bars if shown else datasets.disable_progress_bars)()
        export(selection, tmp_path / "out")
        assert datasets.is_progress_bar_enabled() == shown
    finally:
        (datasets.enable_progress_bars if before else datasets.disable_progress_bars)()


def test_llamafactory(selection: Selection, tmp_path: Path) -> None:
    export(selection, tmp_path, "llamafactory")
    entry = json.loads((tmp_path / "dataset_info.json").read_text())["prism"]
    assert entry["formatting"] == "sharegpt"
    rows = json.loads((tmp_path / entry["file_name"]).read_text(encoding="utf-8"))
    assert [row[entry["columns"]["messages"]] for row in rows] == [ALPACA, CHAT]
    tags = entry["tags"]
    assert {row["messages"][-1][tags["role_tag"]] for row in rows} == {tags["assistant_tag"]}
    assert rows[1]["messages"][0] == {tags["role_tag"]: tags["system_tag"], tags["content_tag"]: "s"}


def test_axolotl(selection: Selection, tmp_path: Path) -> None:
    export(selection, tmp_path, "axolotl")
    (entry,) = yaml.safe_load((tmp_path / "dataset.yaml").read_text())["datasets"]
    assert (entry["type"], entry["ds_type"]) == ("chat_template", "json")
    lines = Path(entry["path"]).read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)[entry["field_messages"]] for line in lines] == [ALPACA, CHAT]


@pytest.mark.parametrize("format", ["llamafactory", "axolotl"])
def test_datasets_reads_the_files(format: str, selection: Selection, tmp_path: Path) -> None:
    export(selection, tmp_path / "out", format)
    (file,) = (tmp_path / "out").glob("prism.json*")
    data = datasets.load_dataset("json", data_files=str(file), cache_dir=str(tmp_path / "cache"), split="train")
    assert list(data["messages"]) == [ALPACA, CHAT]


@pytest.mark.parametrize("format", FORMATS)
def test_never_over_other_files(format: str, selection: Selection, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(RunError, match="is not empty: name a new folder"):
        export(selection, tmp_path, format)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(RunError, match="can't be written"):
        export(selection, tmp_path / "mine.txt", format)


def test_unknown_format(selection: Selection, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="format 'csv' is unknown; known are trl, llamafactory, axolotl"):
        export(selection, tmp_path, "csv")
