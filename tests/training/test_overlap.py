from prism.data import load_pool, load_target
from prism.training import find_overlap

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
