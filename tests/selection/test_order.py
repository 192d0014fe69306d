import os
import random
from pathlib import Path

import pytest

from prism.selection.order import in_order


@pytest.mark.parametrize("count", [0, 1, 500])
def test_parts_leave_in_order(count: int, tmp_path: Path) -> None:
    draw = random.Random(count)
    parts = [(place, os.urandom(draw.randrange(50))) for place in range(count)]
    shuffled = draw.sample(parts, count)
    assert list(in_order(iter(shuffled), count, tmp_path)) == [part for _, part in parts]
    assert not list(tmp_path.iterdir())
