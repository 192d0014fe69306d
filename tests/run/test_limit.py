"""Memory that really runs out, by the system's own limit."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.conftest import DEMO_MODEL
from tests.run.test_select import contents

ROOM = 2500 << 20  # beside what the process has before the run

LIMITED = """
import re, resource, sys
from pathlib import Path
import torch, peft, transformers.models.llama.modeling_llama, prism.run.select, prism.cli.show
from prism.cli.main import main
size = int(re.search(r"VmSize:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) << 10
limit = size + int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
main()
"""


def select(out: Path, room: int, batch_tokens: int) -> dict[str, Any]:
    options = {
        "--model": DEMO_MODEL, "--pool": out.with_name("pool.jsonl"), "--target": out.with_name("pairs.jsonl"),
        "--out": out, "--dtype": "float32", "--batch-tokens": batch_tokens,
    }  # fmt: skip
    words = [str(word) for option in options.items() for word in option]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(room), "select", *words, "--json"],
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"},  # or malloc keeps what is freed
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not keep to RLIMIT_AS")
def test_a_run_goes_on_with_smaller_batches(tmp_path: Path) -> None:
    answer = "Once there was a dog that ran and ran. "
    rows = [{"prompt": f"Tell me a story ({n}).", "completion": answer * (5 + n % 30)} for n in range(96)]
    pairs = [{"prompt": f"Say {n}", "chosen": "Yes, I will. " * (3 + n % 7), "rejected": "No."} for n in range(64)]
    for name, data in (("pool", rows), ("pairs", pairs)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in data))
    summary = select(tmp_path / "tight", ROOM, 1_000_000)
    assert summary["rows"]["scored"] == 96 and summary["rows"]["too_long"] == 0
    assert "out of memory: batches of at most" in (tmp_path / "tight" / "run.log").read_text()
    select(tmp_path / "wide", 1 << 40, 8192)
    tight, wide = (pq.read_table(tmp_path / n / "scores")["score"].to_numpy() for n in ("tight", "wide"))
    assert np.abs(tight - wide).max() <= 1e-4 * np.abs(wide).max()
    assert "selected.jsonl" in contents(tmp_path / "tight")
