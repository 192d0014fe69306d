from collections.abc import Callable
from pathlib import Path

from prism.data import load_pool, load_target
from prism.evaluation.retain import retained_rows
from prism.training.overlap import find_overlap, find_overlaps
from tests.conftest import Rows

LONG = "The quick brown fox jumps over the lazy dog while seven small birds sing in the old apple tree by the river"
PAIRS = [
    {"id": "same", "prompt": "What is the capital of France?", "chosen": "Paris.", "rejected": "Rome."},
    {"id": "asked", "prompt": "Why is the sky so blue today?", "chosen": "Air scatters light.", "rejected": "Paint."},
    {"id": "part", "prompt": "Tell me.", "chosen": LONG, "rejected": "No."},
    {"id": "clean", "prompt": "Name a river in Spain.", "chosen": "The Ebro.", "rejected": "The Po."},
]


def test_exact_and_near_are_told_apart_from_chance() -> None:
    rows = load_pool(
        [
            {
                "id": "a",
                "prompt": "what is the CAPITAL of france",
                "completion": "Rome",
            },  # the rejected side counts too
            {"id": "b", "prompt": "Why is the sky so blue today?", "completion": "I don't know."},
            {"id": "c", "prompt": "A story?", "completion": f"Once, {LONG.upper()}, and so on."},
            {"id": "d", "prompt": "Tell me.", "completion": "The quick brown fox jumps over the lazy dog, they say."},
            {"id": "e", "prompt": "Tell me.", "completion": "The Ebro."},
        ]
    )
    found = find_overlap(rows, load_target(PAIRS))
    assert (found.pairs, found.exact, found.near) == (4, {"same": "a"}, {"asked": "b", "part": "c"})
    assert "holds 1 exactly and 2 nearly" in found.notice() and found.as_json()["exact"] == 1


def test_none_is_said_so() -> None:
    found = find_overlap(load_pool([{"prompt": "Hi", "completion": "Hello ☀"}]), load_target(PAIRS))
    assert not found.exact and not found.near
    assert found.notice() == "none of the 4 held-out pairs is in the data, exactly or nearly"


def test_scripts_without_spaces_are_compared_by_their_characters() -> None:
    said = "昨天我们在公园里看到了三只小猫和一只大狗它们一起玩得很开心"
    pairs = load_target(
        [
            {"id": "asked", "prompt": said, "chosen": "好的", "rejected": "不行"},
            {"id": "answered", "prompt": "讲个故事", "chosen": said, "rejected": "不行"},
            {"id": "clean", "prompt": "今天天气怎么样呢", "chosen": "很好", "rejected": "很差"},
        ]
    )
    rows = load_pool(
        [{"id": "a", "prompt": said, "completion": "是吗"}, {"id": "b", "prompt": "说吧", "completion": f"{said}。"}]
    )
    found = find_overlap(rows, pairs)
    assert not found.exact and found.near.keys() == {"asked", "answered"}


def test_several_sets_and_pairs_among_pairs(write_jsonl: Callable[[str, Rows], Path]) -> None:
    rows = load_pool([{"id": "a", "prompt": "Tell me.", "completion": LONG}, {"prompt": "Hi", "completion": "Ho"}])
    retained = load_pool([{"id": "kept", "prompt": "Hi.", "completion": "ho!"}, {"prompt": "Hm", "completion": "Ho"}])
    pairs, kept = find_overlaps(rows, [load_target(PAIRS), retained])
    assert pairs == find_overlap(rows, load_target(PAIRS)) and pairs.exact == {"part": "a"}
    assert kept.exact == {"kept": [row.id for row in rows][1]}
    assert "of 2 retain rows the data holds 1 exactly" in kept.notice("retain rows")
    texts = [{"text": f"It went so: {LONG}"}, {"text": "Another one."}]
    (inside,) = find_overlaps(rows, [retained_rows([str(write_jsonl("texts.jsonl", texts))], {})])
    assert inside.near == {"texts:1": "a"} and inside.pairs == 2
    turned = [{**PAIRS[3], "chosen": "The Po.", "rejected": "The Rhine.", "id": "mine"}]
    assert find_overlap(load_target(turned), load_target(PAIRS)).exact == {"clean": "mine"}
