"""Near-duplicates against the similarity of every pair of rows, computed plainly."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prism.errors import ConfigError
from prism.selection import near_duplicates, select
from prism.selection.near_duplicates import shingles, similarity
from tests.selection.tables import make_gains, make_rows, make_scores

WORDS = [
    "the",
    "a",
    "river",
    "boat",
    "stone",
    "walks",
    "under",
    "over",
    "green",
    "old",
    "light",
    "seven",
    "boxes",
    "of",
    "paper",
    "song",
    "and",
    "winter",
]


def jaccard(a: str, b: str) -> float:
    """Over runs of three words of texts whose words are parted by single spaces."""

    def runs(text: str) -> set[tuple[str, ...]]:
        words = text.split()
        return {tuple(words[i : i + 3]) for i in range(max(1, len(words) - 2))}

    return len(runs(a) & runs(b)) / len(runs(a) | runs(b))


def texts(seed: int, families: int, copies: int) -> list[str]:
    draw = random.Random(seed)
    found = []
    for _ in range(families):
        words = [draw.choice(WORDS) for _ in range(60)]
        for _ in range(copies):
            changed = [draw.choice(WORDS) if draw.random() < 0.03 else word for word in words]
            found.append(" ".join(changed))
    draw.shuffle(found)
    return found


@pytest.mark.parametrize("ahead", [(4, 8), (1024, 1024)])
def test_the_best_placed_of_a_cluster(ahead: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "AHEAD", ahead)
    said = texts(1, 12, 5)
    rows = [{"id": f"{i:02}", "prompt": "q", "completion": text} for i, text in enumerate(said)]
    values = [random.Random(i).random() for i in range(60)]
    kept: list[int] = []
    for i in sorted(range(60), key=lambda i: -values[i]):
        if all(jaccard(f"q {said[i]}", f"q {said[j]}") < 0.7 for j in kept):
            kept.append(i)
    found = select(make_scores(rows, values), budget="100%", near_duplicates=0.7, keep_duplicates=True)
    assert found.places.tolist() == kept
    assert 12 <= len(kept) < 60
    assert f"({60 - len(kept)} similar by 0.7 or more to a better one" in found.notices[0]


def test_only_as_many_texts_are_read_as_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "AHEAD", (8, 16))
    scores = make_scores(make_rows([f"{i:03}" for i in range(200)]), [float(-i) for i in range(200)])
    asked: list[list[int]] = []
    pick = scores.pool.pick

    def picked(places: list[int]) -> Any:
        asked.append(places)
        return pick(places)

    monkeypatch.setattr(scores.pool, "pick", picked)
    assert len(select(scores, budget=10, near_duplicates=0.8)) == 10
    assert len(asked) == 2 and max(map(max, asked)) < 30


def test_similarity_is_jaccards_over_runs_of_three_words() -> None:
    a, b = "one two three four five", "one two three four six"
    assert similarity(shingles(a), shingles(b)) == pytest.approx(jaccard(a, b)) == 2 / 4


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("Yes.", "yes", 1.0),
        ("Yes", "No", 0.0),
        ("☀☀ 🦊🦊🦊", "☀☀ 🦊🦊🦊", 1.0),
        ("🦊", "☀", 0.0),
        ("ﬁne  CAFÉ", "fine cafe\u0301", 1.0),
        ("今日は天気がいいですね", "今日は天気がいいですよ", 8 / 10),
        ("", "", 1.0),
        ("\ud800 a b", "\ud800 a b", 1.0),
    ],
)
def test_short_and_foreign_texts(a: str, b: str, expected: float) -> None:
    assert similarity(shingles(a), shingles(b)) == pytest.approx(expected)


def test_the_system_turn_does_not_count() -> None:
    def row(name: str, answer: str) -> dict[str, Any]:
        turns = [("system", " ".join(WORDS * 9)), ("user", f"{name} asks"), ("assistant", answer)]
        return {"id": name, "messages": [{"role": r, "content": c} for r, c in turns]}

    rows = [row("a", "green boxes of paper"), row("b", "a song and winter light")]
    assert len(select(make_scores(rows, [1.0, 2]), budget="100%", near_duplicates=0.5)) == 2


def test_with_quotas_and_coverage(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "prompt": "q", "completion": "a song and winter light over stone", "source": "web"},
        {"id": "b", "prompt": "q", "completion": "a song and winter light over stone!", "source": "web"},
        {"id": "c", "prompt": "q", "completion": "seven boxes of paper", "source": "web"},
        {"id": "d", "prompt": "q", "completion": "under the green river boat", "source": "book"},
    ]
    values = [4.0, 3, 2, 1]
    gains = make_gains(tmp_path, list("abcd"), np.array([values]).T, np.zeros((4, 1)))
    for strategy in ("top", "round-robin", "coverage"):
        found = select(
            make_scores(rows, values), budget=3, near_duplicates=0.9, strategy=strategy, gains=lambda: gains,
            quotas=["book=1.."],
        )  # fmt: skip
        assert found.ids == ["a", "c", "d"]


@pytest.mark.parametrize("threshold", [0.0, 1.5, -1.0])
def test_what_is_no_threshold(threshold: float) -> None:
    with pytest.raises(ConfigError, match="is no similarity above 0"):
        select(make_scores(make_rows("a"), [1.0]), budget=1, near_duplicates=threshold)


def test_a_threshold_of_one_takes_only_what_is_the_same() -> None:
    rows = [
        {"id": i, "prompt": "q", "completion": c} for i, c in zip("abc", ["x y z w", "X y z  w.", "x y z"], strict=True)
    ]
    assert select(make_scores(rows, [3.0, 2, 1]), budget="100%", near_duplicates=1).ids == ["a", "c"]
