"""What is shown of a repair, in the terminal and as a document."""

from typing import Any

from prism.experiments.label_report import source_tables
from prism.experiments.tables import Table, figure


def tables(found: dict[str, Any]) -> list[Table]:
    """Ranking against labels, and behaviour before, after the breakage and after repair."""
    return [*_rankings(found), _behaviour(found), _changes(found)]


def remarks(found: dict[str, Any]) -> list[str]:
    """What should be known of the figures."""
    said = []
    for name, done in found["repairs"].items():
        if "dropped_rows" in done:
            how = "" if done["threshold"] is None else f", those scoring {done['threshold']:.4g} and above"
            said.append(f"{name}: {done['dropped_rows']:,} of {done['rows']:,} rows dropped{how} ({done['dropped']})")
        else:
            said.append(f"{name}: {done['picked_rows']:,} of {done['rows']:,} rows picked ({done['picked']})")
        said += done["notices"]
    if not found["held_out"]:
        said.append("measured on the target's own pairs: give --held-out for figures on others")
    else:
        said += found["overlap"]["notices"]
    base, broken = (found["behaviour"][name]["preference"]["value"] for name in ("base", "broken"))
    if broken <= base:
        said.append(
            f"the broken model prefers the unwanted side no more than the base does ({broken:.3f} against {base:.3f}): "
            "on these pairs there is no damage to repair"
        )
    said.append("each model was trained once: try other seeds before small differences are believed")
    return said


def markdown(found: dict[str, Any]) -> str:
    """The whole as a document."""
    head = (
        f"# Repair\n\nBase `{found['base']}`, broken: {found['broken']}; {found['direction']} repair by "
        f"`{found['method']}`, seed {found['seed']}. Preferences are for the unwanted behaviour: lower is better.\n\n"
    )
    body = "\n".join(table.markdown() for table in tables(found))
    return head + body + "\n" + "".join(f"- {remark}\n" for remark in remarks(found))


def _rankings(found: dict[str, Any]) -> list[Table]:
    rows = []
    for done in found["repairs"].values():
        if labels := done.get("labels"):
            counts, lost = labels["rows"], labels["benign_lost"]
            rows.append(
                [
                    done["at"],
                    f"{counts['harmful']:,} harmful, {counts['benign']:,} benign, {counts['unlabelled']:,} unlabelled",
                    figure(labels["auroc"]),
                    figure(labels["average_precision"]),
                    figure(labels["share_harmful"], ".1%"),
                    figure(labels["precision"], ".1%"),
                    figure(labels["recall"], ".1%"),
                    f"{lost['rows']:,} ({figure(lost['share_of_benign'], '.1%')})",
                ]
            )
    columns = (
        "ranked at", "rows", "AUROC", "average precision", "harmful in all", "in dropped", "recall", "benign lost",
    )  # fmt: skip
    by_source = source_tables({done["at"]: done["labels"] for done in found["repairs"].values() if done.get("labels")})
    return [Table("ranking against the labels", columns, rows), *by_source] if rows else []


def _behaviour(found: dict[str, Any]) -> Table:
    retain = any(b.get("retain") for b in found["behaviour"].values())
    rows = [
        [name, figure(b["preference"]), figure(b["won"]), figure(b["potential"]), *[_perplexity(b)] * retain]
        for name, b in found["behaviour"].items()
    ]
    columns = ("model", "mean preference", "pairs won", "K", *["retain perplexity"] * retain)
    return Table("behaviour: preference for the unwanted side", columns, rows)


def _perplexity(b: dict[str, Any]) -> str:
    return figure(b["retain"]["perplexity"], ".2f") if b.get("retain") else "–"


def _changes(found: dict[str, Any]) -> Table:
    rows = [
        [name, since, figure(c["difference"], "+.3f"), "–" if c["p"] is None else f"{c['p']:.2g}", f"{c['pairs']:,}"]
        for name, both in found["changes"].items()
        for since, c in both.items()
    ]
    return Table(
        "change in mean preference, paired", ("model", "since", "change", "p (t test over pairs)", "pairs"), rows
    )
