from pathlib import Path
from typing import Any

import pytest

from prism.config import SelectConfig, load_config
from prism.errors import ConfigError

NEEDED: dict[str, Any] = {"model": "m", "pool": ["p.jsonl"], "target": ["t.jsonl"], "out": "o"}


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_every_field_survives_saving(tmp_path: Path) -> None:
    config = SelectConfig(
        **NEEDED | {"model": "mödel dir", "columns": {"prompt": "frage"}, "budget": "200k tok", "max_length": 77},
        as_json=True,
    )
    config.save(tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml", {}) == config
    saved = (tmp_path / "config.yaml").read_text(encoding="utf-8")
    for name, field in SelectConfig.model_fields.items():
        assert f"\n{field.alias or name}:" in saved


@pytest.mark.parametrize("stage", ["data", "scoring", "selection", "display"])
def test_every_field_belongs_to_one_stage(stage: str) -> None:
    stages = ["data", "scoring", "selection", "display"]
    names = [name for s in stages for name in SelectConfig(**NEEDED).stage(s)]
    assert sorted(names) == sorted(SelectConfig.model_fields)
    assert SelectConfig(**NEEDED).stage(stage)


def test_options_override_the_file(tmp_path: Path) -> None:
    file = write(
        tmp_path / "c.yaml",
        "model: m\npool: p.jsonl\ntarget: t.jsonl\nout: o\nbudget: 7\nkeep-duplicates: true\njson: true\nseed: 3\n",
    )
    config = load_config(file, {"keep_duplicates": False, "as_json": False, "seed": 4})
    assert (config.pool, config.budget, config.seed) == (["p.jsonl"], "7", 4)
    assert config.keep_duplicates is False and config.as_json is False
    assert load_config(file, {}).as_json is True


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "can't be read: while parsing"),
        ("a:\n\t- b", "can't be read"),
        ("- 1", "must be a mapping"),
        ("", "must be a mapping"),
        ("frob: 1", "--frob: is no option"),
        ("budget: 0.05", "--budget: write a share as '5%'"),
        ("budget: true", "--budget: write a share as '5%'"),
        ("budget: 0", "--budget: budget '0' is zero"),
        ("budget: -3", "must be positive"),
        ("budget: 101%", "above 100 %"),
        ("budget: some", "--budget: budget 'some' is not a share"),
        ("cap_per_source: 3 tok", "--cap-per-source: '3 tok' is neither a number of rows nor a share"),
        ("order: middle", "--order: Input should be 'top' or 'bottom'"),
        ("seed: many", "--seed: Input should be a valid integer"),
        ("pool: []", "--pool: List should have at least 1 item"),
        ("pool: 3", "--pool: Input should be a valid list"),
        ("max_length: 1", "--max-length: Input should be greater than or equal to 2"),
        ("engine: forward\ngradient_norms: true", "--gradient-norms: the forward engine gives none: use --engine"),
        ("columns: [a]", "--columns: Input should be a valid dictionary"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    file = write(tmp_path / "c.yaml", text)
    with pytest.raises(ConfigError) as caught:
        load_config(file, {} if text.startswith("pool") else NEEDED)
    assert message in str(caught.value)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["missing.yaml", "."])
def test_a_file_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="can't be read"):
        load_config(tmp_path / name, NEEDED)


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_bytes(b"model: \xff")
    with pytest.raises(ConfigError, match="can't be read"):
        load_config(tmp_path / "c.yaml", NEEDED)


def test_what_lies_here_becomes_absolute_and_hub_ids_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m").mkdir()
    (tmp_path / "p.jsonl").touch()
    places: dict[str, Any] = {"pool": ["p.jsonl", "*.jsonl", "org/data"], "target": ["missing.jsonl"], "out": "o"}
    config = SelectConfig(model="m", tokenizer="org/name", **places).absolute()
    assert config.model == str(tmp_path / "m")
    assert config.tokenizer == "org/name" and config.adapter is None
    assert config.pool == [str(tmp_path / "p.jsonl"), str(tmp_path / "*.jsonl"), "org/data"]
    assert config.target == ["missing.jsonl"]
    assert config.out == str(tmp_path / "o")


def test_a_name_that_no_library_can_open_is_refused() -> None:
    with pytest.raises(ConfigError, match="not UTF-8: rename it"):
        SelectConfig(**NEEDED | {"out": "run\udcff"}).absolute()
