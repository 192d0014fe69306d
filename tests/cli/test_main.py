import subprocess
import sys
from pathlib import Path

import pytest

import prism as package
from prism.config import SelectConfig
from tests.cli.command import prism, refusal
from tests.cli.conftest import Job


def test_the_help_lists_every_option() -> None:
    outcome = subprocess.run(
        [sys.executable, "-m", "prism", "select", "--help"], capture_output=True, text=True, env={"COLUMNS": "200"}
    )
    assert outcome.returncode == 0
    for name, field in SelectConfig.model_fields.items():
        assert f"--{(field.alias or name).replace('_', '-')}" in outcome.stdout


def test_starting_up_does_not_wait_for_torch() -> None:
    check = "import sys, prism.cli.main; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0


def test_the_version_is_the_package_s() -> None:
    assert prism("--version").out == f"prism {package.__version__}\n"


def test_no_command_shows_the_help() -> None:
    outcome = prism()
    assert "Usage: prism" in outcome.out and "select" in outcome.out
    assert outcome.err == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sellect"], "No such command 'sellect'"),
        (["--frobnicate"], "No such option: --frobnicate"),
        (["select", "--frobnicate"], "No such option: --frobnicate"),
        (["select", "--seed", "many"], "--seed"),
        (["select", "--seed"], "--seed"),
        (["select", "stray"], "stray"),
        (["select"], "--model: is required; --pool: is required; --out: is required"),
        (["export"], "Missing argument"),
    ],
)
def test_a_usage_error_is_one_line(words: list[str], message: str) -> None:
    assert message in refusal(*words)


def test_a_bug_is_one_message_and_its_traceback_is_in_the_log(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr("prism.run.select.score_pool", broken)
    outcome = job.select("--quiet")
    assert outcome.code == 70
    assert outcome.err.startswith("error: RuntimeError: first line\n") and "run.log" in outcome.err
    assert "Traceback" not in outcome.err and "second line" not in outcome.err
    log = (job.out / "run.log").read_text()
    assert "Traceback" in log and "second line" in log


def test_an_interrupt_says_how_to_go_on(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("prism.run.select.score_pool", interrupted)
    outcome = job.select("--quiet")
    assert outcome.code == 130
    assert outcome.err == "stopped; the same command goes on where it stopped\n"
    monkeypatch.undo()
    assert job.select("--quiet").code == 0


def test_a_terminal_without_unicode(job: Job) -> None:
    job.select("--quiet")
    words = [sys.executable, "-m", "prism", *job.words()]
    environment = {"PYTHONIOENCODING": "ascii", "COLUMNS": "40", "PATH": "/usr/bin", "OMP_WAIT_POLICY": "PASSIVE"}
    outcome = subprocess.run(words, capture_output=True, env=environment)
    assert outcome.returncode == 0, outcome.stderr
    assert b"first-order gain" in outcome.stdout


def test_a_reader_that_leaves_early_is_no_error(job: Job) -> None:
    job.select("--quiet")
    words = [sys.executable, "-m", "prism", *job.words("--json")]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() != 0


def test_the_module_is_the_command(tmp_path: Path) -> None:
    outcome = subprocess.run([sys.executable, "-m", "prism", "export", tmp_path], capture_output=True, text=True)
    assert outcome.returncode == 1
    assert outcome.stderr == f"error: {tmp_path} is not a run folder: prism select makes one\n"
