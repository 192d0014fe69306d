"""Compact ids against the plain dictionaries that they stand for."""

import random

import pytest

from prism.data.rows import Ids, Numbers


class PlainIds:
    """The rule, spelled out with names and contents."""

    def __init__(self) -> None:
        self.contents: dict[str, str] = {}
        self.given: set[str] = set()

    def assign(self, own: str | None, content: str) -> str:
        name = base = content if own is None else own
        if base in self.contents and base not in self.given and self.contents[base] != content:
            raise ValueError(base)
        copy = 1
        while name in self.contents:
            copy += 1
            name = f"{base}#{copy}"
            self.given |= {name} - self.contents.keys()
        self.contents[name] = content
        return name


@pytest.mark.parametrize("seed", range(20))
def test_ids_are_those_of_the_rule(seed: int) -> None:
    draw = random.Random(seed)
    ids, plain = Ids(), PlainIds()
    contents = [f"{draw.getrandbits(64):016x}" for _ in range(6)]
    names = [None, "a", "b", "a#2", "a#2#2", "b#3", contents[0], f"{contents[1]}#2"]
    for _ in range(300):
        own, content = draw.choice(names), draw.choice(contents)
        try:
            expected = plain.assign(own, content)
        except ValueError:
            with pytest.raises(ValueError, match="was already used for a row with other contents"):
                ids.assign(own, content)
        else:
            assert ids.assign(own, content) == expected


@pytest.mark.parametrize("spread", [1, 64, 1 << 40])
def test_numbers_are_a_map(spread: int) -> None:
    draw = random.Random(spread)
    found = Numbers()
    expected: dict[int, int] = {}
    for _ in range(5000):
        key, value = draw.randrange(1, 2000) * spread, draw.getrandbits(64)
        assert found.get(key) == expected.get(key)
        found.set(key, value)
        expected[key] = value
    assert all(found.get(key) == value for key, value in expected.items())
    assert found.get(2000 * spread + 1) is None
