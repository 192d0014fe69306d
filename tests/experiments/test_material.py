"""What experiments are made of: nothing leaks, noise hits as many pairs as it says."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TEXTS, Rows

SOURCE = Path(__file__).parents[2] / "benchmarks" / "experiments" / "material.py"


@pytest.fixture(scope="module")
def module() -> Any:
    spec = importlib.util.spec_from_file_location("material", SOURCE)
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.fixture
def data(tmp_path: Path) -> Path:
    def rows(name: str, count: int, **more: Any) -> Rows:
        return [
            {
                "id": f"{name}-{n}",
                "dataset": name,
                "messages": [
                    {"role": "user", "content": f"{TEXTS[n % 7][0]} {name if name != 'true' else 'false'} {n // 2}"},
                    {"role": "assistant", "content": f"{TEXTS[n % 7][1]} {name} {n}"},
                ],
                **more,
            }
            for n in range(count)
        ]

    files = {
        "pool/a.jsonl": rows("a", 30),
        "pool/alpaca_random9k.jsonl": rows("b", 500),
        "safety/safety_tuned_llamas_2483.jsonl": rows("safe", 420),
        "safety/truthfulqa_false_answers_sft.jsonl": rows("false", 60),
        "safety/truthfulqa_true_answers_sft.jsonl": rows("true", 60),
    }
    for name, found in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in found))
    return tmp_path


def asked(rows: Rows) -> set[str]:
    return {row["prompt"] if "prompt" in row else row["messages"][0]["content"] for row in rows}


def test_nothing_leaks(module: Any, data: Path, tmp_path: Path) -> None:
    material = module.Material(data, tmp_path / "out")
    pool = module.read(material.pool(100))
    assert len(pool) == 100 and sum(row["dataset"] == "safe" for row in pool) == 3
    target, held_out = (module.read(path) for path in material.target("safety", 20, 30))
    assert (len(target), len(held_out)) == (20, 30)
    safe = asked([row for row in pool if row["dataset"] == "safe"])
    assert not asked(target) & asked(held_out)
    assert not safe & (asked(target) | asked(held_out))
    mixture, target, held_out = (module.read(path) for path in material.mixture("false-answers", 20, 50, 8, 8))
    assert sum(row["harmful"] for row in mixture) == 10 and len(mixture) == 50
    harmful = asked([row for row in mixture if row["harmful"]])
    assert not harmful & asked(target) and not harmful & asked(held_out) and not asked(target) & asked(held_out)
    assert all(" true " in row["rejected"] and " false " in row["chosen"] for row in target + held_out)


def test_noise(module: Any) -> None:
    pairs = [{"id": str(n), "prompt": f"q{n}", "chosen": f"c{n}", "rejected": f"r{n}"} for n in range(20)]
    swapped = module.spoiled(pairs, "swap", 40)
    hit = [a != b for a, b in zip(pairs, swapped, strict=True)]
    assert sum(hit) == 8
    assert all(b["chosen"] == a["rejected"] for a, b, h in zip(pairs, swapped, hit, strict=True) if h)
    foreign = module.spoiled(pairs, "foreign", 40)
    own = [{b["chosen"][1:], b["rejected"][1:]} & {a["id"]} for a, b in zip(pairs, foreign, strict=True)]
    assert sum(not o for o in own) == 8


def test_missing_data(module: Any, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="--data"):
        module.Material(tmp_path, tmp_path / "out")
