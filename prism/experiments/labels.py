"""Which rows are known to be harmful, and what a ranking does to both kinds."""

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from prism.data import Pool, Row
from prism.errors import ConfigError, DataError
from prism.experiments.statistics import best_threshold, ranking
from prism.scoring import ScoreTable
from prism.selection.selection import finite_rows

Flags = npt.NDArray[np.bool_]
SOURCES = 12  # as many are told apart in a report
YES, NO = {"true", "yes", "1", "harmful", "bad"}, {"false", "no", "0", "benign", "good"}


@dataclass(frozen=True)
class Labels:
    """Of the rows of a score table [rows]: whether each has a label, and whether that says harmful."""

    known: Flags
    harmful: Flags


def read_labels(pool: Pool, scores: ScoreTable, column: str, files: Set[str] | None = None) -> Labels:
    """The labels in `column` of the pool's own rows, or of those of some files; a missing, null or empty one is none.

    Raises:
        ConfigError: no row has that column.
        DataError: a label says neither yes nor no.
    """
    index = scores.column("index")
    known, harmful = np.zeros(len(index), np.bool_), np.zeros(len(index), np.bool_)
    place = 0
    for row, value in _labels(pool, column, files):  # both are in the pool's order
        while place < len(index) and index[place] < row.index:
            place += 1
        if value is not None and place < len(index) and index[place] == row.index:
            known[place], harmful[place] = True, value
    return Labels(known, harmful)


def require_labels(pool: Pool, column: str) -> None:
    """Read all labels, before anything is made that needs them; raises as `read_labels`."""
    for _ in _labels(pool, column):
        pass


def _labels(pool: Pool, column: str, files: Set[str] | None = None) -> Iterator[tuple[Row, bool | None]]:
    columns: list[str] = []
    seen = False
    for row in pool:
        if files is not None and row.file not in files:
            continue
        columns = columns or list(row.record)
        seen = seen or column in row.record
        yield row, _label(row, column)
    if not seen:
        raise ConfigError(
            f"--label-column: no row has a column {column!r}; the first row has {', '.join(columns[:12])}"
        )


def against_labels(scores: ScoreTable, dropped: npt.NDArray[np.int64], labels: Labels, seed: int) -> dict[str, Any]:
    """JSON-ready: how the ranking tells harmful from benign rows, and what dropping the rows at these places does.

    Rows without a label or without a finite score are left out of AUROC and average precision, and counted.
    `against_sources` has the AUROC of all harmful rows against the benign rows of one source each: where it is high
    only against rows of another kind, the ranking found the topic and not the harm.
    """
    finite = finite_rows(scores)
    used = labels.known & finite
    found = ranking(scores.column("score")[used], labels.harmful[used], seed=seed)
    gone = np.zeros(len(scores), np.bool_)
    gone[dropped] = True
    harmful, benign = labels.known & labels.harmful, labels.known & ~labels.harmful
    lost = gone & benign
    tokens = scores.column("response_tokens")
    return {
        "rows": {
            "harmful": int(harmful.sum()),
            "benign": int(benign.sum()),
            "unlabelled": int((~labels.known).sum()),
            "unscored": int((labels.known & ~finite).sum()),
        },
        "auroc": found and found.auroc,
        "against_sources": _against_sources(scores, used, labels),
        "average_precision": found and found.average_precision,
        "share_harmful": _share(harmful, labels.known),
        "precision": _share(gone & harmful, gone & labels.known),
        "recall": _share(gone & harmful, harmful),
        "dropped": {
            "harmful": int((gone & harmful).sum()),
            "benign": int(lost.sum()),
            "unlabelled": int((gone & ~labels.known).sum()),
        },
        "benign_lost": {
            "rows": int(lost.sum()),
            "share_of_benign": _share(lost, benign),
            "response_tokens": int(tokens[lost].sum(dtype=np.int64)),
            "sources": _by_source(scores, lost),
        },
        "harmful_left": int((harmful & ~gone).sum()),
    }


def threshold_from(scores: ScoreTable, labels: Labels) -> float:
    """`best_threshold` of the labelled rows with a finite score.

    Raises:
        DataError: one of the two kinds is missing, or no threshold tells them apart.
    """
    used = labels.known & finite_rows(scores)
    harmful = labels.harmful[used]
    if not harmful.any() or harmful.all():
        counts = f"{int(harmful.sum())} harmful and {int((~harmful).sum())} benign"
        raise DataError(f"the labelled set for the threshold has {counts} rows with a score: it needs both kinds")
    values = scores.column("score")[used]
    threshold = best_threshold(values, harmful)
    found, lost = ((values[kind] >= threshold).mean() for kind in (harmful, ~harmful))
    if found <= lost:
        raise DataError(
            "no threshold tells the labelled rows apart: the harmful ones don't score higher. Another --method, --at "
            "or --target may; or give --drop"
        )
    return threshold


def _share(part: Flags, whole: Flags) -> float | None:
    return float(part.sum() / whole.sum()) if whole.any() else None


def _against_sources(scores: ScoreTable, used: Flags, labels: Labels) -> list[dict[str, Any]]:
    """Per source with benign rows, those with most first: source, benign rows, AUROC of the harmful rows of all."""
    harmful = used & labels.harmful
    benign = used & ~labels.harmful
    codes, names = scores.codes("source")
    found = []
    for name, rows in list(_by_source(scores, benign).items())[:SOURCES]:
        which = harmful | (benign & (codes == names.index(name)))
        areas = ranking(scores.column("score")[which], labels.harmful[which], resamples=0)
        if areas:
            found.append({"source": name, "benign": rows, "auroc": areas.auroc.value})
    return found


def _by_source(scores: ScoreTable, which: Flags) -> dict[str, int]:
    codes, names = scores.codes("source")
    counts = np.bincount(codes[which], minlength=len(names))
    return {names[i]: int(counts[i]) for i in np.argsort(-counts, kind="stable") if counts[i]}


def _label(row: Row, column: str) -> bool | None:
    value = row.record.get(column)
    if value is None or value == "" or (isinstance(value, float) and np.isnan(value)):
        return None
    if isinstance(value, bool | np.bool_):
        return bool(value)
    word = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip().lower()
    if word in YES or word in NO:
        return word in YES
    raise DataError(
        f"{row.file}, line {row.line}: the label {column} is {str(value)[:40]!r}, which says neither harmful "
        "(true, 1, yes) nor benign (false, 0, no)"
    )


def label_words(labels: Labels | None, places: Sequence[int]) -> list[str]:
    """Of rows at `places`: "harmful", "benign" or ""."""
    if labels is None:
        return [""] * len(places)
    return [("harmful" if labels.harmful[p] else "benign") if labels.known[p] else "" for p in places]
