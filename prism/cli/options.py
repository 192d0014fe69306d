"""Command-line options made from the fields of a config, so that the two can never differ."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import typer
import yaml
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


def with_options_of(
    config: type[BaseModel], argument: str | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command one option per field of `config`, plus `--config`; it is called with those that were given.

    The field `argument` may also be given without its flag; fields in `config.HIDDEN`, if it has such, get none.
    """
    fields = {n: f for n, f in config.model_fields.items() if n not in getattr(config, "HIDDEN", ())}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        def run(config: Path | None = None, **options: Any) -> None:
            bare = options.pop("bare", None)
            if argument is not None and bare:
                if options[argument]:
                    raise ConfigError(
                        f"{bare if isinstance(bare, str) else bare[0]!r} and --{argument}: give one of them"
                    )
                options[argument] = bare
            given = {name: v for name, v in options.items() if v is not None and v != []}
            command(config, {name: _value(name, fields[name].annotation, v) for name, v in given.items()})

        parameters = [
            inspect.Parameter(
                "config",
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=Annotated[Path | None, typer.Option(help="YAML file with any of these options.")],
            )
        ]
        if argument is not None:
            kind = _kind(fields[argument].annotation)
            word = typer.Argument(help=fields[argument].description, metavar=argument.upper(), show_default=False)
            parameters.append(
                inspect.Parameter(
                    "bare", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, word]
                )
            )
        for name, field in fields.items():
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
    return next((kind for kind in (bool, int, float) if kind in kinds), str)


def _shown(default: Any) -> Any:
    return str(default) if isinstance(default, str | int | float) and not isinstance(default, bool) else False


def _value(name: str, annotation: Any, value: Any) -> Any:
    if get_origin(annotation) is not dict:
        return value
    return _mapping(name, value) if get_args(annotation)[1] is str else _settings(name, value)


def _mapping(name: str, parts: list[str]) -> dict[str, str]:
    pairs = [pair.partition("=") for part in parts for pair in part.split(",")]
    if wrong := next((pair[0] for pair in pairs if not pair[1]), None):
        raise ConfigError(f"--{name.replace('_', '-')}: {wrong!r} is not field=column")
    return {field.strip(): column.strip() for field, _, column in pairs}


def _settings(name: str, words: list[str]) -> dict[str, Any]:
    """Words such as `key=value`, each value read as YAML reads it."""
    pairs = [word.partition("=") for word in words]
    if wrong := next(
        (word for word, (key, _, _) in zip(words, pairs, strict=True) if "=" not in word or not key), None
    ):
        raise ConfigError(f"--{name.replace('_', '-')}: {wrong!r} is not key=value")
    try:
        return {key.strip(): yaml.safe_load(value) for key, _, value in pairs}
    except yaml.YAMLError as error:
        raise ConfigError(f"--{name.replace('_', '-')}: {' '.join(str(error).split())}") from error
