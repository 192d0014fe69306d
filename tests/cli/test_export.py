import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.command import prism, refusal
from tests.cli.conftest import Job


@pytest.fixture
def finished(job: Job) -> Job:
    assert job.select("--quiet").code == 0
    return job


def chosen(job: Job) -> list[Any]:
    return [json.loads(line)["messages"] for line in (job.out / "selected.jsonl").read_text("utf-8").splitlines()]


def test_trl_is_the_default(finished: Job) -> None:
    from datasets import load_from_disk

    outcome = prism("export", finished.out)
    assert (outcome.code, outcome.out, outcome.err) == (0, f"{finished.out}/export-trl\n", "")
    assert load_from_disk(str(finished.out / "export-trl"))["messages"][:] == chosen(finished)


def test_llamafactory(finished: Job, tmp_path: Path) -> None:
    assert prism("export", finished.out, "--format", "llamafactory", "--out", tmp_path / "lf").code == 0
    assert [row["messages"] for row in json.loads((tmp_path / "lf" / "prism.json").read_text("utf-8"))] == chosen(
        finished
    )
    assert json.loads((tmp_path / "lf" / "dataset_info.json").read_text())["prism"]["file_name"] == "prism.json"


def test_axolotl(finished: Job) -> None:
    assert prism("export", finished.out, "--format", "axolotl").code == 0
    folder = finished.out / "export-axolotl"
    entry = yaml.safe_load((folder / "dataset.yaml").read_text())["datasets"][0]
    rows = [json.loads(line) for line in Path(entry["path"]).read_text("utf-8").splitlines()]
    assert [row["messages"] for row in rows] == chosen(finished)


def test_it_follows_the_last_selection(finished: Job) -> None:
    finished.select("--quiet", budget="1", order="bottom")
    assert len(chosen(finished)) == 1
    prism("export", finished.out, "--format", "axolotl")
    assert len((finished.out / "export-axolotl" / "prism.jsonl").read_text("utf-8").splitlines()) == 1


def test_a_refused_selection_changes_nothing(finished: Job) -> None:
    before = chosen(finished)
    assert "above the pool" in finished.refused(budget="999")
    assert chosen(finished) == before
    prism("export", finished.out, "--format", "axolotl")
    assert len((finished.out / "export-axolotl" / "prism.jsonl").read_text("utf-8").splitlines()) == len(before)


def test_it_refuses(finished: Job, tmp_path: Path) -> None:
    assert "nowhere is not a run folder" in refusal("export", "nowhere")
    assert "format 'csv' is unknown; known are trl, llamafactory, axolotl" in refusal(
        "export", finished.out, "--format", "csv"
    )
    assert "can't be written" in refusal("export", finished.out, "--out", finished.pool / "x")
    prism("export", finished.out)
    assert "is not empty: name a new folder" in refusal("export", finished.out)
    finished.pool.write_text(finished.pool.read_text() + '{"prompt": "x", "completion": "y"}\n')
    assert "changed since: the contents of pool file 1 (pool.jsonl)" in refusal("export", finished.out)
    finished.pool.unlink()
    assert "pool.jsonl" in refusal("export", finished.out)


def test_an_unfinished_run_can_not_be_exported(job: Job) -> None:
    job.refused(parameters="zzz")
    assert f"is not finished: prism select --config {job.out}/config.yaml goes on" in refusal("export", job.out)
    job.select("--quiet")
    next((job.out / "scores").iterdir()).unlink()
    assert "is not finished" in refusal("export", job.out)
