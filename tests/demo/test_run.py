from pathlib import Path

import pytest

from prism.demo.run import run_demo


@pytest.mark.slow
def test_the_demo_prefers_what_prism_chose(tmp_path: Path) -> None:
    pytest.importorskip("trl")
    demo = run_demo(tmp_path / "demo")
    before, other, ours = (demo.preferences[name].mean for name in ("before", "random", "PRISM"))
    assert ours > other > before
    assert (demo.run.folder / "selected.jsonl").read_text().count("\n") == 100
    caution = demo.run.summary["selection"]["sources"]["caution"]
    assert caution > 2 * 0.065 * 100
