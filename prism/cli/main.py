"""The `prism` command."""

import sys

import typer

from prism.cli import export, select
from prism.errors import PrismError, first_line

app = typer.Typer(
    help="Select fine-tuning data by its influence on a target behaviour.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("select")(select.command)
app.command("export")(export.command)


def main() -> None:
    """Entry point: what a user can mend ends as one message, and a stopped run as a hint how to go on."""
    try:
        app()
    except PrismError as error:
        sys.exit(_say(f"error: {error}", 1))
    except KeyboardInterrupt:
        sys.exit(_say("stopped; the same command goes on where it stopped", 130))
    except BrokenPipeError:
        sys.exit(141)
    except OSError as error:
        sys.exit(_say(f"error: {error}", 1))
    except Exception as error:
        hint = "this is a bug of ours; the run's log holds the details (run.log)"
        sys.exit(_say(f"error: {type(error).__name__}: {first_line(error)}\n{hint}", 70))


def _say(text: str, code: int) -> int:
    print(text, file=sys.stderr)
    return code
