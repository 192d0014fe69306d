"""What is shown of a comparison: tables by budget, differences, what is significant, costs and honest notes."""

from typing import Any

from prism.experiments.experiment import by_tokens
from prism.experiments.tables import Table, figure

VERDICTS = ("better", "better over seeds only", "better over pairs only", "not told apart", "worse over pairs only",
            "worse over seeds only", "worse", "no seed in common")  # fmt: skip


def tables(found: dict[str, Any], brief: bool = False) -> list[Table]:
    """Figures of each method, then differences to each reference, at equal samples and at equal tokens; costs."""
    shown = []
    for title, budgets in _kinds(found):
        shown += [_figures(found, budget, f"{title}: {budget}", brief) for budget in budgets]
    shown += [_differences(found, against) for against in dict.fromkeys(d["against"] for d in found["differences"])]
    if found["costs"]:
        shown.append(_costs(found))
    if found["failures"]:
        rows = [[failure["cell"], failure["why"]] for failure in found["failures"]]
        shown.append(Table("cells that failed", ("cell", "why"), rows))
    return shown


def statements(found: dict[str, Any]) -> list[str]:
    """Per budget and reference, which methods were better, which were worse, and which can't be told apart."""
    said = []
    groups = dict.fromkeys((d["budget"], d["against"]) for d in found["differences"])
    for budget, against in groups:
        rows = [d for d in found["differences"] if (d["budget"], d["against"]) == (budget, against)]
        parts = []
        for verdict in VERDICTS:
            names = [_named(d) for d in rows if d["verdict"] == verdict]
            if names:
                parts.append(f"{verdict}: {', '.join(names)}")
        said.append(f"at {budget}, against {against}: {'; '.join(parts)}")
    return said


def _named(difference: dict[str, Any]) -> str:
    value = _value(difference["by_seed"])
    return f"{difference['method']}" + ("" if value is None else f" ({figure(value, '+.3f')})")


def notes(found: dict[str, Any]) -> list[str]:
    """What should be known of the figures."""
    seeds = found["seeds"]
    kinds = [title for title, budgets in _kinds(found) if budgets]
    said = [
        f"seeds ({', '.join(map(str, seeds))}) change the order of training rows, a LoRA's first weights, the draw "
        "of random and dsir, and the warm-up of methods that have one; scores of the others are the same for all",
        "intervals of means are Student's t over seeds; by-pair intervals are bootstraps of the held-out pairs, each "
        "averaged over seeds",
        "better and worse: both paired tests (t over seeds, t over held-out pairs) at 5 % after Holm's correction over "
        "the methods of a budget; with few seeds the first can rarely say so",
        "all trainings have the same epochs, so that more rows are more steps",
        *_measured(found),
        *found["overlap"]["notices"],
    ]
    if kinds == ["same number of samples"]:
        said.append("budgets are in samples only: methods that choose long rows train on more tokens")
    if len(seeds) < 3:
        said.append(f"{len(seeds)} seed{'s' * (len(seeds) > 1)}: too few for a statement about other trainings")
    if together := [name for name, cost in found["costs"].items() if cost.get("together")]:
        said.append(
            f"{', '.join(together)} were scored in passes for several methods or targets, which count in full in each "
            "one's seconds"
        )
    if resumed := [name for name, cost in found["costs"].items() if cost["reused_rows"]]:
        said.append(f"some rows of {', '.join(resumed)} had been scored before, which its seconds leave out")
    there = {m["method"] for m in found["methods"]}
    said += [f"there is no result of {name} to compare with" for name in found["against"] if name not in there]
    return said


def _measured(found: dict[str, Any]) -> list[str]:
    """How many of the held-out pairs the figures are of."""
    held_out, least = found["overlap"]["pairs"], min((m["pairs"] for m in found["methods"]), default=None)
    if least is None or least == held_out:
        return [f"figures are of {held_out} held-out pairs"]
    return [
        f"figures are of {least} of {held_out} held-out pairs: the others can't be used, or have no finite loss "
        "(evaluation/evaluate_rejected.jsonl in a cell's folder, and run.log)"
    ]


def markdown(found: dict[str, Any]) -> str:
    """The whole as a document."""
    head = (
        f"# Comparison: {found['name']}\n\nBase `{found['base']}`; {found['cells']} cells, {found['failed']} failed. "
        "Mean preference on held-out pairs is what counts; K and mean log pi are its other readings.\n\n"
    )
    pictures = "".join(f"![{name}]({name}.svg)\n\n" for name in found["figures"])
    body = "\n".join(table.markdown() for table in tables(found))
    what = "".join(f"- {s[:1].upper()}{s[1:]}.\n" for s in statements(found))
    known = "".join(f"- {s[:1].upper()}{s[1:]}.\n" for s in notes(found))
    return f"{head}## What it says\n\n{what}\n{pictures}## Figures\n\n{body}\n## What to know\n\n{known}"


def _kinds(found: dict[str, Any]) -> list[tuple[str, list[str]]]:
    budgets = list(dict.fromkeys(m["budget"] for m in found["methods"] if m["budget"]))
    return [
        ("same number of samples", [b for b in budgets if not by_tokens(b)]),
        ("same number of response tokens", [b for b in budgets if by_tokens(b)]),
    ]


def _figures(found: dict[str, Any], budget: str, title: str, brief: bool) -> Table:
    rows = [m for m in found["methods"] if m["budget"] in (budget, "")]
    rows.sort(key=lambda m: (m["budget"] != "", -(m["preference"]["value"] or 0)))
    retain = any(m["retain_perplexity"] for m in rows)
    columns = ["method", "rows", "tokens", "mean preference", "won", *([] if brief else ["K", "mean log pi"])]
    columns += ["retain perplexity"] * retain
    lines = [
        [
            m["method"],
            f"{m['rows']:,.0f}",
            f"{m['response_tokens']:,.0f}",
            figure(m["preference"]),
            figure(_value(m["won"]), ".0%"),
            *([] if brief else [figure(m["potential"]), figure(m["log_preference"])]),
            *[figure(_value(m["retain_perplexity"]) if brief else m["retain_perplexity"], ".1f")] * retain,
        ]
        for m in rows
    ]
    return Table(title, columns, lines)


def _differences(found: dict[str, Any], against: str) -> Table:
    rows = [
        [
            d["budget"],
            d["method"],
            figure(d["by_seed"], "+.3f"),
            figure(d["by_pair"], "+.3f"),
            figure(d["p_seeds_holm"], ".2g"),
            figure(d["p_pairs_holm"], ".2g"),
            d["verdict"],
        ]
        for d in found["differences"]
        if d["against"] == against
    ]
    columns = ("budget", "method", "by seed", "by pair", "p (seeds)", "p (pairs)", "verdict")
    return Table(f"difference to {against} in mean preference, paired", columns, rows)


def _costs(found: dict[str, Any]) -> Table:
    rows = [[name, f"{cost['seconds']:,.1f}", f"{cost['tokens']:,}"] for name, cost in found["costs"].items()]
    return Table("what scores cost", ("method", "seconds", "tokens through the model"), rows)


def _value(interval: dict[str, Any] | None) -> float | None:
    return None if interval is None else interval["value"]
