"""Markdown of a throughput run: python benchmarks/report.py RESULTS.json"""

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

WEIGHTS = {"linear": "Full linear weights", "lora": "LoRA r = 16 on all linear layers"}
AIMS = {  # what the better engine, or the pass named, should reach: over which pass, times, for linear and for LoRA
    "one direction, better engine / training": ("best", "training", 3.5, 3.0),
    "one direction, better engine / training, sorted by length": ("best", "training-sorted", 1.7, 1.3),
    "one direction, better engine / best peer": ("best", "peer", 1.5, 1.2),
    "one direction, better engine / per-sample loop": ("best", "loop", 2.5, 2.5),
    "one direction, better engine / LESS's loop with projection": ("best", "less:less", 10.0, 10.0),
    "64 directions / training, sorted by length": ("backward-64", "training-sorted", 0.6, 1.0),
}
CPU_SECONDS = [
    "Other jobs ran on the machine, so seconds are those that the threads of a pass worked, not those on the wall (two "
    "threads that both work for a second count as two)."
]
Row = dict[str, Any]


def markdown(results: Row) -> str:
    about = results["about"]
    workload, machine = about["workload"], about["machine"]
    parts = [
        f"### {workload['model']}, float32, {machine['threads']} threads of {machine['processor']}",
        f"`{about['command']}`",
        f"{about['rows']:,} rows with {about['tokens']:,} tokens, drawn with seed {workload['seed']} from "
        f"{', '.join(workload['files'])}, at most {workload['max_length']} tokens, in the order of the draw; medians "
        f"of {about['repeats']} alternated repeats, slowest and fastest in brackets. A pass over fewer rows takes the "
        "first of the same random order, and ratios are those of samples per second. *Training* is what a trainer does "
        "per step, less the optimizer: forward and backward pass with transformers' own loss (and PEFT), padded "
        f"batches of 8 with attention mask. Our batches hold at most {about['batch_tokens']:,} padded tokens of shards "
        "of 512 rows. Batches are made inside the clock; loading, the query's gradient and the choice of an engine are "
        "outside. Scores are compared with per-sample autograd in float64 on the first "
        f"{about['checked_rows']} rows: Spearman's correlation, and the largest error over the largest score.",
        *CPU_SECONDS * (machine.get("clock") == "cpu"),
        f"{about['versions']}. {machine['system']}, {machine['memory_gib']} GiB, load {machine['load']} at the start.",
    ]
    for parameters, group in results["groups"].items():
        parts.append(f"#### {WEIGHTS[parameters]}")
        if "passes" not in group:
            parts.append("Not finished.")
            continue
        parts += [block for block in (_times(group), _aims(parameters, group), _tuning(group), _memory(group)) if block]
    return "\n\n".join(parts) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *([str(cell).replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _times(group: Row) -> str:
    rates = _rates(group)
    head = ["pass", "computes", "rows", "samples/s", "tokens/s", "/ training", "/ sorted", "Spearman", "largest error"]
    rows = []
    for row in group["passes"]:
        name, rate = row["pass"], rates.get(row["pass"])
        if rate is None:
            rows.append([name, row["computes"], row["rows"], row.get("problem", ""), *[""] * 5])
            continue
        spread = f" ({_short(row['slowest'])}–{_short(row['fastest'])})" if len(row["seconds"]) > 1 else " (once)"
        problem = f"; then {row['problem']}" if row.get("problem") else ""
        rows.append(
            [
                name,
                row["computes"],
                row["rows"],
                _short(rate) + spread + problem,
                f"{row['tokens_per_second']:,.0f}",
                *(_over(rate, rates.get(other)) for other in ("training", "training-sorted")),
                f"{row['spearman']:.4f}" if "spearman" in row else "",
                f"{row['largest_error']:.0e}" if "largest_error" in row else "",
            ]
        )
    return _table(head, rows)


def _rates(group: Row) -> dict[str, float]:
    return {row["pass"]: row["samples_per_second"] for row in group["passes"] if "samples_per_second" in row}


def _aims(parameters: str, group: Row) -> str:
    """The aims of the issue, beside what came out."""
    rates = _rates(group)
    engines = {key: rate for key, rate in rates.items() if key in ("backward-1", "forward-1")}
    peers = {key: rate for key, rate in rates.items() if ":" in key and not key.startswith("less")}
    below = {row["pass"]: row["below"] for row in group["passes"] if "below" in row and row["pass"] not in rates}
    named = dict(rates)
    said = {}
    if engines:
        said["best"] = max(engines, key=lambda key: engines[key])
        named["best"] = engines[said["best"]]
    if peers:
        said["peer"] = max(peers, key=lambda key: peers[key])
        named["peer"] = peers[said["peer"]]
    rows = []
    for text, (ours, theirs, *aims) in AIMS.items():
        aim = aims[parameters == "lora"]
        if ours in named and theirs in named:
            which = ", ".join(said[key] for key in (ours, theirs) if key in said)
            rows.append([text + (f" ({which})" if which else ""), f"≥ {aim}", *_held(named[ours] / named[theirs], aim)])
        elif ours in named and theirs in below:
            least = named[ours] / below[theirs]
            rows.append([f"{text} ({said[ours]})", f"≥ {aim}", f"above {least:.2f}", "yes" if least >= aim else "?"])
    if {"backward-1", "backward-1-norms"} <= set(rates):
        extra = rates["backward-1"] / rates["backward-1-norms"] - 1
        rows.append(["time that gradient norms add to the backward engine", "", f"{extra:+.0%}", ""])
    return _table(["aim", "", "measured", "held"], [*rows, *_memory_aims(group)])


def _held(value: float, aim: float) -> list[str]:
    return [f"{value:.2f}", "yes" if value >= aim else "no"]


def _memory_aims(group: Row) -> list[list[str]]:
    """What a user sees, choice of the engine included; and in brackets the pass alone."""
    found = {row["pass"]: row for row in group.get("memory", []) if "peak_mib" in row}
    rows = []
    for ours, theirs, aim in (
        ("backward-1", "training", 1.0),
        ("forward-1", "training", 1.0),
        ("forward-1", "inference", 1.3),
        ("forward-1", "inference-ours", 1.3),
    ):
        if ours not in found or theirs not in found:
            continue
        spared = 2 * found[ours]["chosen_mib"] if theirs != "training" else 0
        whole, alone = (
            (found[ours][key] - spared) / found[theirs][key] if key in found[ours] else None
            for key in ("peak_mib", "pass_mib")
        )
        less = " less direction and one copy of the parameters" if spared else ""
        measured = f"{whole:.2f}" + (f" ({alone:.2f})" if alone is not None else "")
        held = "yes" if whole is not None and whole <= aim else "no"
        rows.append([f"peak memory, {ours}{less} / {theirs} (the pass alone)", f"≤ {aim}", measured, held])
    return rows


def _tuning(group: Row) -> str:
    if not group.get("tuning"):
        return ""
    rows = [
        [
            row["variant"] + (" ←" if row.get("best") else ""),
            row["rows"],
            row.get("samples_per_second", row.get("problem")),
            f"{row['peak_rss_mib']:,}" if "peak_rss_mib" in row else "",
        ]
        for row in group["tuning"]
    ]
    head = ["peer:mode@padded tokens per batch", "rows", "samples/s, better of two", "process's peak, MiB"]
    return "How the peers were tuned; ← went on:\n\n" + _table(head, rows)


def _memory(group: Row) -> str:
    if not group.get("memory"):
        return ""
    base = next((row["peak_mib"] for row in group["memory"] if row["pass"] == "training" and "peak_mib" in row), None)
    rows = [
        [
            row["pass"],
            row.get("rows", ""),
            f"{row['peak_mib']:,.0f}" if "peak_mib" in row else row.get("problem"),
            f"{row['pass_mib']:,.0f}" if "pass_mib" in row else "",
            _over(row.get("peak_mib"), base),
        ]
        for row in group["memory"]
    ]
    note = (
        "Peak memory of each pass in a process of its own, beyond what was there when the model was loaded (a peer: "
        "when its runner was ready, the query's gradient included; bergson loads its model anew after that):"
    )
    return f"{note}\n\n" + _table(["pass", "rows", "peak, MiB", "of it the pass alone", "/ training"], rows)


def _short(rate: float) -> str:
    return f"{rate:.1f}" if rate >= 10 else f"{rate:.2f}" if rate >= 1 else f"{rate:.3f}"


def _over(rate: float | None, other: float | None) -> str:
    return f"{rate / other:.2f}" if rate and other else ""


if __name__ == "__main__":
    print(markdown(json.loads(Path(sys.argv[1]).read_text())))
