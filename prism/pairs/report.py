"""What is worth knowing of pairs before anything is scored against them."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from prism.pairs.items import Draft

TELLING = 0.7  # AUC of the length from which it is worth a warning
SHORTEST = 3  # characters of an answer that is looked for in the prompt: shorter ones are there by chance
SHOWN = 20


def report(pairs: Sequence[tuple[str, Draft]]) -> dict[str, Any]:
    """JSON-ready: how many pairs by source of y- and by subtask, how well length tells the two sides apart, and the
    pairs whose prompt holds the answer."""
    sources = Counter(draft.rejected_from for _, draft in pairs)
    subtasks = Counter(draft.item.subtask for _, draft in pairs if draft.item.subtask)
    inside = [(name, _within(d.chosen, d), _within(d.rejected, d)) for name, d in pairs]
    leaks = [name for name, chosen, rejected in inside if chosen and not rejected]
    return {
        "pairs": len(pairs),
        "rejected_from": dict(sources.most_common()),
        "subtasks": dict(subtasks.most_common()),
        "length": {
            "all": length_figures(d for _, d in pairs),
            **{source: length_figures(d for _, d in pairs if d.rejected_from == source) for source in sources},
        },
        "leaks": {"pairs": len(leaks), "ids": leaks[:SHOWN]},
        "both_in_prompt": sum(chosen and rejected for _, chosen, rejected in inside),
    }


def length_figures(drafts: Iterable[Draft]) -> dict[str, float]:
    """How well length alone tells chosen from rejected: `auc`, the probability that a random chosen answer is longer
    than a random rejected one (Mann and Whitney 1947; ties count half), the share of pairs whose chosen one is the
    `longer`, and the mean characters of each side."""
    lengths = np.array([(len(d.chosen), len(d.rejected)) for d in drafts], dtype=np.int64).reshape(-1, 2)
    chosen, rejected = lengths.T
    if not len(lengths):
        return {}
    ordered = np.sort(rejected)
    below, upto = (np.searchsorted(ordered, chosen, side=side) for side in ("left", "right"))
    auc = float((below + upto).mean() / 2 / len(ordered))
    longer = float(((chosen > rejected) + 0.5 * (chosen == rejected)).mean())
    return {"auc": auc, "longer": longer, "chosen": float(chosen.mean()), "rejected": float(rejected.mean())}


def warnings(found: dict[str, Any]) -> list[str]:
    """What should be mended before the pairs are used."""
    notices = []
    for source, figures in found["length"].items():
        alone = source == "all" and len(found["rejected_from"]) == 1  # which tells it under its name
        if alone or max(figures["auc"], 1 - figures["auc"], figures["longer"], 1 - figures["longer"]) < TELLING:
            continue
        of = "" if source == "all" else f" ({source})"
        side = "longer" if figures["auc"] + figures["longer"] >= 1 else "shorter"
        notices.append(
            f"length alone tells chosen from rejected{of}: chosen tends to be {side} (AUC {figures['auc']:.2f}, "
            f"longer in {figures['longer']:.0%} of the pairs), so what is selected may follow length"
        )
    if found["leaks"]["pairs"]:
        some = ", ".join(found["leaks"]["ids"][:5])
        notices.append(f"{found['leaks']['pairs']} prompts hold the chosen answer, but not the rejected one: {some}")
    return notices


def _within(answer: str, draft: Draft) -> bool:
    """Whether the prompt holds an answer, as words of its own."""
    said = _words(answer)
    if len(said) < SHORTEST:
        return False
    return f" {said} " in f" {_words(' '.join(str(m['content']) for m in draft.prompt))} "


def _words(text: str) -> str:
    return " ".join("".join(c if c.isalnum() else " " for c in text.casefold()).split())
