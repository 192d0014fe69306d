"""The `prism` command."""

import os
import sys
from typing import Annotated

import typer

from prism import __version__
from prism.cli import (
    audit,
    cascade,
    check,
    compare,
    demo,
    evaluate,
    explain,
    export,
    methods,
    pairs,
    repair,
    reweigh,
    select,
    task,
    train,
    verify,
    warmup,
)
from prism.cli.options import ManyValues
from prism.errors import PrismError, first_line

LEANER = "a narrower --dtype, fewer --parameters (lora), a shorter --max-length"

app = typer.Typer(
    help="Select fine-tuning data by its influence on a target behaviour.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("select", cls=ManyValues)(select.command)
app.command("export")(export.command)
app.command("methods")(methods.command)
app.command("check", cls=ManyValues)(check.command)
app.command("explain")(explain.command)
app.command("reweigh")(reweigh.command)
app.command("cascade", cls=ManyValues)(cascade.command)
app.command("pairs", cls=ManyValues)(pairs.command)
app.command("train", cls=ManyValues)(train.command)
app.command("evaluate", cls=ManyValues)(evaluate.command)
app.command("task")(task.command)
app.command("warmup", cls=ManyValues)(warmup.command)
app.command("audit", cls=ManyValues)(audit.command)
app.command("compare")(compare.command)
app.command("verify", cls=ManyValues)(verify.command)
app.command("repair", cls=ManyValues)(repair.command)
app.command("demo")(demo.command)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"prism {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Select fine-tuning data by its influence on a target behaviour."""


def main() -> None:
    """Entry point: what a user can mend ends as one message, and a stopped run as a hint how to go on."""
    for stream in (sys.stdout, sys.stderr):  # a terminal that can't show a character shows a question mark
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        code = app(standalone_mode=False, prog_name="prism")
        sys.stdout.flush()
    except PrismError as error:
        code = _say(f"error: {error}", 1)
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is left to fail at exit
        code = 141
    except OSError as error:
        code = _say(f"error: {error}", 1)
    except Exception as error:
        if usage := getattr(error, "format_message", None):  # typer's, for options that it can't read
            place = getattr(getattr(error, "ctx", None), "command_path", "prism")
            code = _say(f"error: {text.rstrip('.')} (see {place} --help)", 2) if (text := usage()) else 2
        elif _out_of_memory(error):
            code = _say(f"error: out of memory: {first_line(error)}\nless of it take {LEANER}", 1)
        else:
            hint = "this is a bug of ours; the run's log holds the details (run.log)"
            code = _say(f"error: {type(error).__name__}: {first_line(error)}\n{hint}", 70)
    if code == 130:
        _say("stopped; the same command goes on where it stopped", 130)
    sys.exit(code)


def _out_of_memory(error: Exception) -> bool:
    from prism.model.memory import out_of_memory

    return out_of_memory(error)


def _say(text: str, code: int) -> int:
    print(text, file=sys.stderr)
    return code
