"""What an experiment's data and target hold of what its models are measured on, said before anything is trained."""

from collections.abc import Iterable
from typing import Any

from prism.data import Pair, Row, Target
from prism.training.overlap import find_overlap, find_overlaps


def overlap_of(data: Iterable[Row], target: Target, held_out: Target, retain: Iterable[Row] | None) -> dict[str, Any]:
    """JSON-ready: of the held-out pairs in the data, with `target` (of those among the target's own pairs) and `retain`
    (of the retain rows in the data, None without them); each with its `notice`, and all of them in `notices`: that
    nothing is in the data, and whatever is somewhere."""
    sets: list[Iterable[Row | Pair]] = [held_out, *([] if retain is None else [retain])]
    in_data, *kept = find_overlaps(data, sets)
    in_target = find_overlap(target, held_out)
    found: dict[str, Any] = {
        **in_data.as_json(),
        "notice": in_data.notice(),
        "target": {**in_target.as_json(), "notice": in_target.notice(where="the target")},
        "retain": None,
    }
    notices = [found["notice"], *([found["target"]["notice"]] if in_target else [])]
    for overlap in kept:
        found["retain"] = {**overlap.as_json(), "notice": overlap.notice("retain rows")}
        notices += [found["retain"]["notice"]] if overlap else []
    return {**found, "notices": notices}
