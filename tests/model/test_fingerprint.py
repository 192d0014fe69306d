import shutil
from pathlib import Path

import pytest

from prism.model import find_model


def test_it_does_not_depend_on_the_place(model_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / "copy"
    shutil.copytree(model_folder, copy)
    (copy / "README.md").write_text("says nothing to the weights")
    assert find_model(copy).fingerprints() == find_model(model_folder).fingerprints()


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("model.safetensors", {"model"}),
        ("config.json", {"model"}),
        ("modeling_own.py", {"model"}),
        ("tokenizer.json", {"tokenizer"}),
        ("tokenizer_config.json", {"tokenizer", "template"}),
        ("chat_template.jinja", {"template"}),
    ],
)
def test_each_part_has_its_own(model_folder: Path, name: str, changed: set[str]) -> None:
    before = find_model(model_folder).fingerprints()
    with (model_folder / name).open("a") as file:
        file.write(" ")
    after = find_model(model_folder).fingerprints()
    assert {part for part in before if before[part] != after[part]} == changed
