"""Budgets as people write them."""

from decimal import Decimal

import pytest

from prism.budget import Budget
from prism.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("5%", "5", "share"),
        (" 0.1 % ", "0.1", "share"),
        ("100%", "100", "share"),
        (7, "7", "samples"),
        ("1000", "1000", "samples"),
        ("1,000", "1000", "samples"),
        ("10_000 rows", "10000", "samples"),
        ("1 sample", "1", "samples"),
        ("200k tok", "200000", "tokens"),
        ("200,000 tokens", "200000", "tokens"),
        ("1.5M tok", "1500000", "tokens"),
        ("300tok", "300", "tokens"),
    ],
)
def test_parse(text: str | int, amount: str, unit: str) -> None:
    assert Budget.parse(text) == Budget(Decimal(amount), unit)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text", ["", "many", "5 percent", "1.5", "1e3", "5%%", "k tok", ",5", "tok", "5k", None, True, 0.05]
)
def test_what_is_no_budget(text: object) -> None:
    with pytest.raises(ConfigError, match=r"is not a share .*, a number of samples .* or of response tokens"):
        Budget.parse(text)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0", "zero: nothing would be selected"),
        ("0.0%", "zero"),
        ("0k tok", "zero"),
        ("-5%", "a budget must be positive"),
        (-3, "a budget must be positive"),
        ("100.1%", "above 100 % of the pool"),
    ],
)
def test_out_of_range(text: str | int, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        Budget.parse(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5%", (10, 999)),
        ("0.01%", (1, 999)),
        ("100%", (200, 999)),
        ("29%", (58, 999)),
        ("200", (200, 999)),
        ("0.5k tok", (200, 500)),
        ("999 tok", (200, 999)),
    ],
)
def test_resolve(text: str, expected: tuple[int, int]) -> None:
    assert Budget.parse(text).resolve(200, 999) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("201", "budget 201 is above the pool's 200 samples"),
        ("1k tok", "1000 tok is above the pool's 999 response tokens"),
    ],
)
def test_above_the_pool(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        Budget.parse(text).resolve(200, 999)
