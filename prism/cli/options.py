"""Command-line options made from the fields of a config, so that the two can never differ."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import typer
from pydantic import BaseModel
from typer.core import TyperCommand

from prism.errors import ConfigError


class ManyValues(TyperCommand):
    """A command whose list options take any number of values, as a shell expands `--pool data/*.jsonl`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        lists = {flag for parameter in self.params if getattr(parameter, "multiple", False) for flag in parameter.opts}
        spread: list[str] = []
        flag, first = "", False
        for word in args:
            if word.startswith("--"):
                flag, first = (word, True) if word in lists else ("", False)
            elif flag and not first:
                spread.append(flag)
            else:
                first = False
            spread.append(word)
        return list(super().parse_args(ctx, spread))


def with_options_of(config: type[BaseModel]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command one option per field of `config`, plus `--config`; it is called with those that were given."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        def run(config: Path | None = None, **options: Any) -> None:
            command(config, {name: _value(name, v) for name, v in options.items() if v is not None and v != []})

        parameters = [
            inspect.Parameter(
                "config",
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=Annotated[Path | None, typer.Option(help="YAML file with any of these options.")],
            )
        ]
        for name, field in config.model_fields.items():
            flag = (field.alias or name).replace("_", "-")
            kind = _kind(field.annotation)
            both = f"--{flag}/--no-{flag}" if kind is bool else f"--{flag}"
            option = typer.Option(both, help=field.description, show_default=_shown(field.default))
            parameters.append(
                inspect.Parameter(
                    name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
                )
            )
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        return run

    return decorate


def _kind(annotation: Any) -> Any:
    """What the command line reads for a field; pydantic checks the value afterwards."""
    kinds = {annotation, *get_args(annotation)}
    if get_origin(annotation) in (list, dict):
        return list[str]
    return next((kind for kind in (bool, int) if kind in kinds), str)


def _shown(default: Any) -> Any:
    return str(default) if isinstance(default, str | int) and not isinstance(default, bool) else False


def _value(name: str, value: Any) -> Any:
    return _mapping(name, value) if name.endswith("columns") else value


def _mapping(name: str, parts: list[str]) -> dict[str, str]:
    pairs = [pair.partition("=") for part in parts for pair in part.split(",")]
    if wrong := next((pair[0] for pair in pairs if not pair[1]), None):
        raise ConfigError(f"--{name.replace('_', '-')}: {wrong!r} is not field=column")
    return {field.strip(): column.strip() for field, _, column in pairs}
