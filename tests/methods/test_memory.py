"""Scoring without a run folder, at checkpoints of a model."""

import json
import shutil
from pathlib import Path

import pytest

import prism
from tests.conftest import Rows

CODE = """from transformers import LlamaConfig, LlamaForCausalLM

class OddConfig(LlamaConfig):
    model_type = "odd"

class OddForCausalLM(LlamaForCausalLM):
    config_class = OddConfig
"""


def test_a_checkpoint_is_loaded_as_its_model_was(
    model_folder: Path, tmp_path: Path, pool_rows: Rows, pair_rows: Rows
) -> None:
    """A model whose code lies in its folder needs the user's trust, which was given once."""
    odd = shutil.copytree(model_folder, tmp_path / "odd")
    config = json.loads((odd / "config.json").read_text(encoding="utf-8"))
    config |= {
        "model_type": "odd",
        "architectures": ["OddForCausalLM"],
        "auto_map": {"AutoConfig": "odd.OddConfig", "AutoModelForCausalLM": "odd.OddForCausalLM"},
    }
    (odd / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (odd / "odd.py").write_text(CODE, encoding="utf-8")
    pool, target = prism.load_pool(pool_rows), prism.load_target(pair_rows)
    model = prism.load_model(odd, trust_remote_code=True)
    there = prism.score(model, pool, target, checkpoints=[odd])
    plain = prism.score(prism.load_model(model_folder), pool, target)
    assert there.column("score") == pytest.approx(plain.column("score"), rel=1e-4, abs=1e-6)
