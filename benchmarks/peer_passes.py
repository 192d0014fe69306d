"""Passes of the peers, each a process in the peer's own environment, timed by its runner's own clock."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from alternate import NotRun, Outcome, Pass
from peers.workload import Workload

RUNNERS = Path(__file__).parent / "peers"
RUNNER = {"bergson": "bergson_run", "dattri-llm": "dattri_run", "kronfluence": "kronfluence_run", "less": "less_run"}
MODES: dict[str, dict[str, list[str]]] = {
    "bergson": {mode: ["--mode", mode] for mode in ("gradient", "tokens", "output")},
    "dattri-llm": {
        "instance": ["--mode", "instance"],
        "factorized": ["--mode", "instance", "--capture", "factorized"],
        "materialized": ["--mode", "instance", "--capture", "materialized"],
        "token": ["--mode", "token", "--capture", "factorized"],
    },
    "kronfluence": {"identity": []},
    "less": {
        "less": ["--mode", "less"],
        "unprojected": ["--mode", "less", "--dimension", "0"],
        "loop": ["--mode", "loop"],
    },
}
EXACT = ("bergson", "dattri-llm", "kronfluence")  # what a tuning run tries
FIRST_BUDGET, OTHER_BUDGETS = 2048, (1024, 8192)
LESS_ROWS = 16  # gradients that it projects together: fewer would cost as much
OWN_SCORES = ("less:less", "less:unprojected", "adam")  # not inner products of gradients: there is nothing to compare


@dataclass(frozen=True)
class Variant:
    """A peer, one of its modes, and the budget of its batches; written `peer:mode@tokens`."""

    peer: str
    mode: str
    tokens: int | None = None

    @classmethod
    def parse(cls, text: str) -> "Variant":
        """Raises ValueError where there is no such variant."""
        name, _, tokens = text.partition("@")
        peer, _, mode = name.partition(":")
        mode = mode or next(iter(MODES.get(peer, {"": []})))
        if mode not in MODES.get(peer, {}):
            known = ", ".join(f"{p}:{m}" for p, modes in MODES.items() for m in modes)
            raise ValueError(f"there is no {text}: write PEER:MODE@TOKENS, of {known}")
        return cls(peer, mode, int(tokens) if tokens else None)

    @property
    def name(self) -> str:
        return f"{self.peer}:{self.mode}"

    def __str__(self) -> str:
        return f"{self.name}@{self.tokens}" if self.tokens else self.name


@dataclass(frozen=True)
class Peers:
    """The peers' environments, one workload, and the seconds after which one of their processes is stopped."""

    environments: Path
    workload: Workload
    parameters: str
    limit: float

    def has(self, peer: str) -> bool:
        return self._python(peer).exists()

    def make(self, variant: Variant, rows: int) -> Pass:
        """Raises NotRun where the peer has no environment."""
        if not self.has(variant.peer):
            raise NotRun(f"{variant.peer} has no environment in {self.environments}")
        projected = variant.peer == "less" and variant.mode != "loop"
        rows = min(rows, LESS_ROWS) if projected else rows
        samples = self.workload.samples[:rows]
        once = variant.name == "less:less"

        def run() -> Outcome:
            result, scores = self.result(variant, rows)
            kept = ("computes", "clock", "batching", "settings", "versions", "loaded_rss_mib", "peak_rss_mib")
            details = {key: result[key] for key in kept if key != "computes" or variant.peer != "less"}
            return Outcome(result["seconds"][0], np.asarray(scores, dtype=np.float64), details)

        return Pass(str(variant), f"{variant.peer}: {_says(variant)}", len(samples), sum(map(len, samples)), run, once)

    def result(self, variant: Variant, rows: int, repeats: int = 1) -> tuple[dict[str, Any], Any]:
        """(what the runner wrote, its scores); raises NotRun where it fails, or takes too long."""
        with tempfile.TemporaryDirectory(prefix="peers-") as folder:
            out = Path(folder) / "result.json"
            words = [str(self.workload.folder), "--parameters", self.parameters, "--rows", str(rows)]
            words += ["--repeats", str(repeats), "--out", str(out), *MODES[variant.peer][variant.mode]]
            words += ["--batch-tokens", str(variant.tokens)] if variant.tokens else []
            command = [str(self._python(variant.peer)), str(RUNNERS / f"{RUNNER[variant.peer]}.py"), *words]
            environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"TQDM_DISABLE": "1"}
            try:
                done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=self.limit)
            except subprocess.TimeoutExpired:
                below = rows / self.limit
                raise NotRun(f"stopped after {self.limit:.0f} s: below {below:.3f} samples/s", below) from None
            if done.returncode:
                print(done.stderr[-3000:], file=sys.stderr)
                last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
                raise NotRun(f"failed: {last[:200]}")
            return json.loads(out.read_text()), np.load(out.with_suffix(".npy"))

    def tune(self, peer: str, rows: int) -> list[dict[str, Any]]:
        """Every mode of a peer on the first `rows` rows, then other budgets for the fastest; the fastest is `best`."""
        found = [self._tried(Variant(peer, mode, FIRST_BUDGET), rows) for mode in MODES[peer]]
        if "samples_per_second" in _fastest(found):
            mode = Variant.parse(_fastest(found)["variant"]).mode
            found += [self._tried(Variant(peer, mode, tokens), rows) for tokens in OTHER_BUDGETS]
            _fastest(found)["best"] = True
        return found

    def _tried(self, variant: Variant, rows: int) -> dict[str, Any]:
        """The better of two passes."""
        row: dict[str, Any] = {"variant": str(variant), "rows": rows}
        try:
            result, _ = self.result(variant, rows, repeats=2)
            row |= {"samples_per_second": round(rows / min(result["seconds"]), 3)}
            row |= {"peak_rss_mib": result["peak_rss_mib"]}
        except NotRun as reason:
            row |= {"problem": str(reason)}
        print(f"  tuning {variant}: {row.get('samples_per_second', row.get('problem'))}", file=sys.stderr, flush=True)
        return row

    def _python(self, peer: str) -> Path:
        return self.environments.absolute() / peer / "bin" / "python"


def _fastest(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return max(rows, key=lambda row: float(row.get("samples_per_second", 0)))


def _says(variant: Variant) -> str:
    if variant.peer != "less":
        return f"inner product with the query's gradient, exact, mode {variant.mode}"
    return {
        "less": "LESS's loop, Adam's map, random projection to 8,192 dimensions, cosine",
        "unprojected": "LESS's loop and Adam's map, cosine, without its projection",
        "loop": "LESS's loop alone, inner product with the query's gradient",
    }[variant.mode]
