"""Run the `prism` command inside the test's own process."""

import contextlib
import io
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from prism.cli.main import main


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


def prism(*words: str | Path) -> Outcome:
    """What `prism WORDS…` prints and returns; an exception that it lets through fails the test."""
    out, err = io.StringIO(), io.StringIO()
    argv = mock.patch.object(sys, "argv", ["prism", *map(str, words)])
    with argv, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = end.code
    assert code is None or isinstance(code, int)
    return Outcome(code or 0, out.getvalue(), err.getvalue())


def refusal(*words: str | Path) -> str:
    """The one line that a refused command says; nothing may reach stdout."""
    outcome = prism(*words)
    assert outcome.code in (1, 2), outcome
    assert outcome.out == ""
    assert "Traceback" not in outcome.err
    lines = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and outcome.err.endswith(lines[0] + "\n"), outcome.err
    return lines[0]
