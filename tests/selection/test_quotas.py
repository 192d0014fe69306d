"""Quotas against the best selection that they allow, found by trying every set of rows."""

import random
from collections import Counter
from itertools import combinations
from typing import Any

import pytest

from prism.budget import Quota
from prism.errors import ConfigError
from prism.selection import select
from tests.selection.tables import make_rows, make_scores

IDS = "abcdefghijkl"


@pytest.mark.parametrize("seed", range(15))
def test_no_allowed_selection_scores_higher(seed: int) -> None:
    draw = random.Random(seed)
    sources = [draw.choice("xyz") for _ in IDS]
    values = [draw.gauss(0, 1) for _ in IDS]
    have = Counter(sources)
    least = {s: draw.randint(0, min(2, have[s])) for s in "xyz"}
    most = {s: draw.randint(max(1, least[s]), 4) for s in "xyz"}
    budget = min(6, sum(min(most[s], have[s]) for s in "xyz"))
    rows = [{**row, "source": source} for row, source in zip(make_rows(IDS), sources, strict=True)]
    quotas = [f"{s}={least[s] or ''}..{most[s]}" for s in "xyz" if have[s]]
    found = select(make_scores(rows, values), budget=budget, quotas=quotas)

    def allowed(places: Any) -> bool:
        counts = Counter(sources[i] for i in places)
        return all(least[s] <= counts[s] <= most[s] for s in "xyz" if have[s])

    best = max(sum(values[i] for i in s) for s in combinations(range(len(IDS)), budget) if allowed(s))
    assert allowed(found.places) and len(found) == budget
    assert sum(values[i] for i in found.places) == pytest.approx(best)
    assert not found.notices


WEB = [*make_rows("abcd", source="web"), *make_rows("ef", source="book"), *make_rows("g", source="code")]
FALLING = [9.0, 8, 7, 6, 5, 4, 3]


@pytest.mark.parametrize(
    ("quotas", "expected"),
    [
        (["book=50%"], "abef"),
        (["book=25%.."], "abce"),
        (["web=..25%"], "aefg"),
        (["code=1", "book=1"], "abeg"),
        (["web=2..2"], "abef"),
    ],
)
def test_shares_of_the_budget(quotas: list[str], expected: str) -> None:
    assert "".join(select(make_scores(WEB, FALLING), budget=4, quotas=quotas).ids) == expected


def test_room_that_a_source_cannot_fill_goes_to_the_others() -> None:
    found = select(make_scores(WEB, FALLING), budget=6, quotas=["book=4.."])
    assert found.ids == ["a", "b", "e", "f", "c", "d"]
    assert found.notices == (
        "source book makes 2 of the 4 rows that its quota asks for at least: no other of its rows fits, or came up",
    )


def test_tokens() -> None:
    scores = make_scores(WEB, FALLING, tokens=[10, 10, 10, 10, 10, 10, 10])
    assert "".join(select(scores, budget="40 tok", quotas=["book=50%"]).ids) == "abef"
    assert "".join(select(scores, budget="40 tok", quotas=["book=20 tok.."]).ids) == "abef"
    with pytest.raises(ConfigError, match="the budget counts response tokens"):
        select(scores, budget="40 tok", quotas=["book=2"])


def test_with_a_cap_and_duplicates() -> None:
    rows = [*WEB, {**make_rows("e", source="book")[0], "id": "z"}]
    found = select(make_scores(rows, [*FALLING, 9]), budget=4, quotas=["book=2"], cap_per_source=2)
    assert sorted(found.ids) == ["a", "b", "f", "z"]


@pytest.mark.parametrize(
    ("quotas", "reason"),
    [
        (["paper=10%"], "the pool has no source 'paper'; it has web, book, code"),
        (["web=60%", "book=60%"], "ask for 4 rows at least, the budget has 4"),
        (["web=10%", "web=20%"], "has a quota already"),
        (["web"], "is not SOURCE=20%"),
        (["=10%"], "is not SOURCE=20%"),
        (["web=x"], "budget 'x' is not a share"),
        (["web=30%..20%"], "more at least than at most"),
        (["web=3 tok"], "the budget counts rows"),
    ],
)
def test_what_is_no_quota(quotas: list[str], reason: str) -> None:
    if "at least, the budget" in reason:
        quotas, reason = ["web=80%", "book=80%"], "ask for 6 rows at least, the budget has 4"
    with pytest.raises(ConfigError, match=reason):
        select(make_scores(WEB, FALLING), budget=4, quotas=quotas)


def test_names_may_hold_an_equals_sign() -> None:
    quota = Quota.parse("a=b=10%..")
    assert (quota.source, quota.most) == ("a=b", None)
