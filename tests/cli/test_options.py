import json
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import BaseModel, Field
from typer.testing import CliRunner

from prism.cli.options import ManyValues, with_options_of


class Toy(BaseModel):
    name: str = "x"
    count: int | None = 3
    deep: bool = False
    as_json: bool = Field(False, alias="json")
    files: list[str] = []
    columns: dict[str, str] = {}


@with_options_of(Toy)
def show(config: Path | None, given: dict[str, Any]) -> None:
    """Show what was given."""
    print(json.dumps([str(config) if config else None, given]))


app = typer.Typer()
app.command(cls=ManyValues)(show)


def given(*words: str) -> Any:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_nothing_given_is_nothing_passed_on() -> None:
    assert given() == [None, {}]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--name", "a"], {"name": "a"}),
        (["--name", ""], {"name": ""}),
        (["--name", "-5%"], {"name": "-5%"}),
        (["--count", "7"], {"count": 7}),
        (["--deep"], {"deep": True}),
        (["--no-deep"], {"deep": False}),
        (["--json"], {"as_json": True}),
        (["--files", "a"], {"files": ["a"]}),
        (["--files", "a", "b c", "--name", "n"], {"files": ["a", "b c"], "name": "n"}),
        (["--files", "a", "--files", "b", "c"], {"files": ["a", "b", "c"]}),
        (["--files=a", "--files", "b"], {"files": ["a", "b"]}),
        (["--columns", "a=b,c=d", "e=f"], {"columns": {"a": "b", "c": "d", "e": "f"}}),
    ],
)
def test_what_is_given_arrives_by_field(words: list[str], expected: dict[str, Any]) -> None:
    assert given(*words) == [None, expected]


def test_the_config_file_comes_apart() -> None:
    assert given("--config", "run.yaml", "--deep") == ["run.yaml", {"deep": True}]


def test_words_after_other_options_are_still_refused() -> None:
    assert CliRunner().invoke(app, ["--files", "a", "--name", "n", "stray"]).exit_code == 2
    assert CliRunner().invoke(app, ["--files"]).exit_code == 2


def test_a_column_without_a_name_is_refused() -> None:
    result = CliRunner().invoke(app, ["--columns", "a"])
    assert "--columns: 'a' is not field=column" in str(result.exception)
