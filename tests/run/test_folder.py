import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from prism.config import SelectConfig
from prism.errors import RunError
from prism.run.folder import RunFolder
from prism.run.select import run_select

A, B = "a" * 64, "b" * 64


def claimed(path: Path, identity: dict[str, object], *, worked: bool = True) -> None:
    folder = RunFolder(path)
    folder.check(identity)
    folder.claim({"created": "now"})
    if worked:
        (path / "target.parquet").touch()
    folder.close()


def refusal(path: Path, identity: dict[str, object], *but: str) -> str:
    folder = RunFolder(path)
    try:
        with pytest.raises(RunError) as caught:
            folder.check(identity, but=but)
    finally:
        folder.close()
    return str(caught.value)


def test_only_one_holder_in_a_process(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with pytest.raises(RunError, match="in use by another prism process"):
        RunFolder(tmp_path)
    folder.close()
    RunFolder(tmp_path).close()


def test_only_one_holder_among_processes(config: SelectConfig) -> None:
    hold = "import sys, prism.run.folder as f, pathlib; r = f.RunFolder(pathlib.Path(sys.argv[1])); print(flush=True); "
    other = subprocess.Popen(
        [sys.executable, "-c", hold + "sys.stdin.read()", config.out], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdin is not None and other.stdout is not None
    other.stdout.readline()
    with pytest.raises(RunError, match="in use by another prism process"):
        run_select(config)
    other.kill()
    other.wait()
    assert len(run_select(config).selection) == 3  # a lock dies with its process


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ({"model": A}, {"model": B}, "changed since: the contents of model."),
        ({"model": A}, {"model": A, "adapter": B}, "changed since: adapter (added)."),
        ({"model": A, "adapter": B}, {"model": A}, "changed since: adapter (gone)."),
        ({"pool": {"file 1 (a)": A}}, {"pool": {"file 1 (a)": B}}, "the contents of pool file 1 (a)."),
        (
            {"pool": {"file 1 (a)": A}},
            {"pool": {"file 1 (b)": A}},
            "pool file 1 (a) (gone); pool file 1 (b) (added).",
        ),
        ({"option": {"dtype": "auto"}}, {"option": {"dtype": "float32"}}, "option dtype: auto → float32."),
        ({"device": "cpu", "model": A}, {"device": "cuda", "model": B}, "device: cpu → cuda; the contents of model."),
    ],
)
def test_a_refusal_names_what_changed(
    tmp_path: Path, before: dict[str, object], after: dict[str, object], message: str
) -> None:
    claimed(tmp_path, before)
    said = refusal(tmp_path, after)
    assert message in said and "name a new --out" in said


def test_some_parts_may_change(tmp_path: Path) -> None:
    claimed(tmp_path, {"device": "cpu", "model": A})
    folder = RunFolder(tmp_path)
    folder.check({"device": "cpu", "model": A})
    fingerprint = folder.fingerprint
    folder.check({"device": "cuda", "model": A}, but=("device",))
    assert folder.fingerprint == fingerprint  # what is stored was made on the first machine
    folder.close()
    assert "the contents of model" in refusal(tmp_path, {"device": "cuda", "model": B}, "device")


def test_a_run_that_failed_early_does_not_block_its_folder(tmp_path: Path) -> None:
    claimed(tmp_path, {"model": A}, worked=False)
    claimed(tmp_path, {"model": B}, worked=False)
    assert json.loads((tmp_path / "manifest.json").read_text())["identity"] == {"model": B}


def test_a_folder_of_something_else_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "notes").touch()
    with pytest.raises(RunError, match=r"holds other files \(notes, …\)"):
        RunFolder(tmp_path)
    assert os.listdir(tmp_path) == ["notes"]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"identity": 3}', '{"identity": {}'])
def test_a_damaged_manifest_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(RunError, match="is damaged"):
        RunFolder(tmp_path)


def test_leftovers_of_a_killed_run_are_cleared(tmp_path: Path) -> None:
    claimed(tmp_path, {"model": A})
    (tmp_path / "scores").mkdir()
    leftovers = [tmp_path / ".summary.json.x.tmp", tmp_path / "scores" / ".shard-000000.parquet.y.tmp"]
    for leftover in leftovers:
        leftover.touch()
    RunFolder(tmp_path).close()
    assert not any(leftover.exists() for leftover in leftovers)


def test_closing_ends_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest-xdist can't send what pytest would capture
    folder = RunFolder(tmp_path)
    logging.getLogger("prism.some.part").info("inside \udcff")
    logging.getLogger("another.library").warning("careful")
    folder.close()
    logging.getLogger("prism").info("outside")
    log = (tmp_path / "run.log").read_text(encoding="utf-8")
    assert "inside" in log and "careful" in log and "outside" not in log


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object, **__: object) -> None:
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr("filelock.FileLock.acquire", no_locks)
    with pytest.raises(RunError, match="can't be written: FileSystem does not appear to support flock"):
        RunFolder(tmp_path)
