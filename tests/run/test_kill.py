import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from prism.config import SelectConfig
from prism.run.select import run_select
from tests.run.test_select import contents

ROWS = 2500


@pytest.fixture
def long_config(config: SelectConfig, tmp_path: Path) -> SelectConfig:
    rows = [{"prompt": f"What is {n} + 1?", "completion": f"{n + 1}, of course"} for n in range(ROWS)]
    pool = tmp_path / "long.jsonl"
    pool.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return config.model_copy(update={"pool": [str(pool)], "batch_tokens": 192, "budget": "1%"})


def start(config: SelectConfig, file: Path, **how: Any) -> subprocess.Popen[bytes]:
    config.save(file)
    return subprocess.Popen([sys.executable, "-m", "prism", "select", "--config", file, "--quiet"], **how)


def heeding_interrupts() -> None:
    """Tests that a shell put in the background ignore SIGINT, and so would what they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_for(shard: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while not shard.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)


def test_a_killed_run_goes_on_where_it_stopped(long_config: SelectConfig, tmp_path: Path) -> None:
    shards = Path(long_config.out) / "scores"
    process = start(long_config, tmp_path / "config.yaml")
    wait_for(shards / "shard-000001.parquet", process)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done = {p.name: (p.stat().st_mtime_ns, p.stat().st_ino) for p in shards.glob("*.parquet")}
    assert 2 <= len(done) < 5  # it was killed in the middle
    assert not (Path(long_config.out) / "summary.json").exists()

    run = run_select(long_config)
    reused = 512 * len(done)
    assert run.summary["rows"]["reused"] == reused
    assert f"reused the scores of {reused} rows" in (Path(long_config.out) / "run.log").read_text()
    for name, stamp in done.items():
        assert ((shards / name).stat().st_mtime_ns, (shards / name).stat().st_ino) == stamp  # not written again
    assert not list(Path(long_config.out).rglob("*.tmp"))

    undisturbed = run_select(long_config.model_copy(update={"out": str(tmp_path / "undisturbed")}))
    names = [f"scores/shard-{n:06d}.parquet" for n in range(5)] + ["selected.jsonl", "direction.safetensors"]
    first, second = contents(long_config.out), contents(undisturbed.folder)
    assert {n: first[n] for n in names} == {n: second[n] for n in names}
    assert sorted(os.listdir(shards)) == [n.removeprefix("scores/") for n in names[:5]]


def test_an_interrupted_run_says_how_to_go_on(long_config: SelectConfig, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    process = start(long_config, file, stderr=subprocess.PIPE, preexec_fn=heeding_interrupts)
    wait_for(Path(long_config.out) / "scores" / "shard-000000.parquet", process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert (process.returncode, said) == (130, b"stopped; the same command goes on where it stopped\n")
