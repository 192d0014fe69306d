import itertools

import pytest

from prism.data import BadRows
from prism.data.aside import KEPT
from prism.errors import BadRow


def bad(number: int) -> BadRow:
    return BadRow("füle.jsonl", number, f"line\nbreak \ud800 {number}", None if number % 2 else str(number))


@pytest.mark.parametrize("count", [0, 1, KEPT, KEPT + 1, KEPT + 500])
def test_all_come_back_in_order(count: int) -> None:
    expected = [bad(n) for n in range(count)]
    rows = BadRows(expected)
    assert (len(rows), bool(rows)) == (count, count > 0)
    assert list(rows) == list(rows) == expected == list(BadRows(rows))


def test_they_can_be_read_while_more_are_added() -> None:
    rows = BadRows(map(bad, range(KEPT + 2)))
    reader = iter(rows)
    before = list(itertools.islice(reader, KEPT + 1))
    rows.append(bad(KEPT + 2))
    assert [*before, *reader] == list(rows) == [bad(n) for n in range(KEPT + 3)]


def test_by_number() -> None:
    rows = BadRows(map(bad, range(KEPT + 5)))
    assert [rows[i] for i in (0, 1, KEPT, KEPT + 4, -1, -KEPT - 5)] == [
        bad(n) for n in (0, 1, KEPT, KEPT + 4, KEPT + 4, 0)
    ]
    assert rows[KEPT - 1 : KEPT + 1] == [bad(KEPT - 1), bad(KEPT)]
    for wrong in (KEPT + 5, -KEPT - 6):
        with pytest.raises(IndexError):
            rows[wrong]
