"""`prism audit`: rank an SFT set by its pull towards a behaviour, and explain the worst rows. Nothing is changed."""

from pathlib import Path
from typing import Any

import numpy as np

from prism.data import open_pool
from prism.errors import PrismError
from prism.experiments.config import AuditConfig
from prism.experiments.label_report import source_tables
from prism.experiments.labels import Labels, against_labels, label_words, read_labels, require_labels
from prism.experiments.statistics import plain
from prism.experiments.tables import Table, figure, shortened
from prism.experiments.work import save_json, workplace
from prism.files import write_whole
from prism.progress import Progress, recorded
from prism.run.explain import explain_rows
from prism.run.pulls import Pulls
from prism.run.select import Run, run_select
from prism.scoring import quantiles

AGREE = 0.02  # parts that add up to a score but for this share of it explain it


def audit(config: AuditConfig, progress: Progress | None = None) -> dict[str, Any]:
    """Score the data against the target, and explain its `config.rows` worst rows: which target pairs pull them there,
    which tokens. The folder `config.out` gets `audit.json`, `audit.md`, and the run itself in `ranking/`.

    Raises:
        PrismError: with what is wrong and what to do.
    """
    progress = recorded(progress)
    with workplace(Path(config.out), "audit", config.seed) as folder:
        pool = open_pool(config.data, columns=config.columns, on_bad_row=config.on_bad_row)
        pool.require_rows("data")
        if config.label_column is not None:
            require_labels(pool, config.label_column)
        shown = min(config.rows, len(pool))
        run = run_select(config.ranking(out=str(folder / "ranking"), budget=str(shown)), progress)
        scores = run.selection.scores
        labels = read_labels(scores.pool, scores, config.label_column) if config.label_column else None
        rows = _worst(run, labels)
        explained, why = _explain(run, rows, config, progress)
        found: dict[str, Any] = plain(
            {
                "out": str(folder),
                "model": config.model,
                "rows": len(scores),
                "pairs": run.target.table.num_rows,
                "score": quantiles(scores.column("score")),
                "labels": labels and against_labels(scores, run.selection.places, labels, config.seed),
                "explained": why,
                "worst": explained,
                "notices": list(run.selection.notices),
            }
        )
        save_json(folder / "audit.json", found)
        write_whole(folder / "audit.md", markdown(found))
    return found


def _worst(run: Run, labels: Labels | None) -> list[dict[str, Any]]:
    scores, places = run.selection.scores, run.selection.places
    order = np.sort(scores.column("score")[np.isfinite(scores.column("score"))])
    words = label_words(labels, places.tolist())
    return [
        {
            "rank": mark["rank"],
            "id": row.id,
            "score": mark["score"],
            "above": float(np.searchsorted(order, mark["score"]) / len(order)),
            "label": word,
            "source": row.source,
            "file": row.file,
            "line": row.line,
            "prompt": shortened(str(row.messages[-2]["content"]), 300),
            "response": shortened(str(row.messages[-1]["content"]), 300),
        }
        for (row, mark), word in zip(run.selection.rows(), words, strict=True)
    ]


def _explain(
    run: Run, rows: list[dict[str, Any]], config: AuditConfig, progress: Progress
) -> tuple[list[dict[str, Any]], str]:
    """The rows with the pairs and tokens that make their scores, and a sentence on what these are; parts that do not
    add up to the scores, as for methods that map or normalise gradients, are not shown as if they did."""
    try:
        views, pulls = explain_rows(run.folder, [row["id"] for row in rows], progress, pulls=True)
    except PrismError as error:
        return rows, f"the rows are ranked but not explained: {error}"
    assert pulls is not None
    prompts = dict(zip(*(run.target.table.column(name).to_pylist() for name in ("id", "prompt")), strict=True))
    whole = np.array([row["score"] for row in rows])
    by_tokens = _adds_up(np.array([view["score"] for view in views]), whole)
    by_pairs = _adds_up(pulls.contributions.sum(1), whole)
    explained = [
        {
            **row,
            "pairs": _pairs(pulls, place, config.pairs, prompts) if by_pairs else [],
            "tokens": _tokens(view["tokens"], config.tokens) if by_tokens else [],
        }
        for place, (row, view) in enumerate(zip(rows, views, strict=True))
    ]
    parts = [name for name, ok in (("target pairs", by_pairs), ("tokens", by_tokens)) if ok]
    lost = [name for name, ok in (("target pairs", by_pairs), ("tokens", by_tokens)) if not ok]
    said = f"what {' and '.join(parts)} contribute adds up to the score" if parts else ""
    if lost:
        said += "; " * bool(parts) + f"scores of this method are no sums over {' or '.join(lost)}, so none are named"
    return explained, said


def _adds_up(parts: Any, whole: Any) -> bool:
    """Whether sums agree with the scores, measured by the largest of these."""
    return bool(np.all(np.isfinite(parts)) and np.abs(parts - whole).max() <= AGREE * np.abs(whole).max())


def _pairs(pulls: Pulls, place: int, count: int, prompts: dict[str, str]) -> list[dict[str, Any]]:
    values = pulls.contributions[place]
    best = np.argsort(-values, kind="stable")[:count]
    return [
        {"id": pulls.pairs[q], "contribution": float(values[q]), "prompt": shortened(prompts[pulls.pairs[q]], 120)}
        for q in best.tolist()
    ]


def _tokens(tokens: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    ranked = sorted(tokens, key=lambda token: -token["contribution"])[:count]
    return [{name: token[name] for name in ("place", "text", "contribution")} for token in ranked]


def tables(found: dict[str, Any], prompts: bool = False) -> list[Table]:
    """What is shown of an audit; prompts where there is room for them."""
    shown: list[Table] = []
    if labels := found["labels"]:
        counts = labels["rows"]
        shown.append(
            Table(
                "against the labels",
                ("harmful", "benign", "unlabelled", "AUROC", "average precision", "precision of the rows shown"),
                [
                    [
                        str(counts["harmful"]),
                        str(counts["benign"]),
                        str(counts["unlabelled"]),
                        figure(labels["auroc"]),
                        figure(labels["average_precision"]),
                        figure(labels["precision"]),
                    ]
                ],
            )
        )
        shown += source_tables({"this model": labels})
    labelled = bool(found["labels"])
    columns = ["rank", "row", *["label"] * labelled, "score", *["prompt"] * prompts, "response", "pairs", "tokens"]
    rows = []
    for row in found["worst"]:
        pairs = ", ".join(f"{pair['id']} {pair['contribution']:+.2g}" for pair in row.get("pairs", []))
        tokens = " ".join(repr(token["text"]) for token in row.get("tokens", []))
        rows.append(
            [
                str(row["rank"]),
                row["id"],
                *[row["label"] or "–"] * labelled,
                f"{row['score']:.3g}",
                *[shortened(row["prompt"], 80)] * prompts,
                shortened(row["response"], 80 if prompts else 40),
                pairs or "–",
                tokens or "–",
            ]
        )
    shown.append(Table(f"the {len(rows)} rows of {found['rows']:,} that pull hardest", columns, rows))
    return shown


def markdown(found: dict[str, Any]) -> str:
    """The same as a document."""
    head = f"# Audit\n\n{found['rows']:,} rows against {found['pairs']} target pairs at `{found['model']}`. "
    notes = "".join(f"- {notice}\n" for notice in found["notices"])
    body = "\n".join(table.markdown() for table in tables(found, prompts=True))
    return f"{head}{found['explained'][:1].upper()}{found['explained'][1:]}.\n\n{body}\n{notes}"
