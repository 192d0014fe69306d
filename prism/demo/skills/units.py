"""Conversion of units and of temperatures, exact or rounded to one decimal."""

from decimal import Decimal
from random import Random
from typing import NamedTuple

from prism.demo.phrasing import Message, polite, talk
from prism.demo.wording import load


class Unit(NamedTuple):
    """How to turn one unit into another, which amounts to ask about, and a setting for the question."""

    source: str
    target: str
    factor: str
    low: int
    high: int
    exact: bool
    setting: str


BANKS = load("conversion")
UNITS = [Unit(*row) for row in BANKS["units"]]
ASKS: list[str] = BANKS["asks"]
REPLIES: list[str] = BANKS["replies"]
MORE: list[str] = BANKS["more"]


def _number(value: Decimal) -> str:
    """A decimal with thousands separators and without idle zeros."""
    text = f"{value:,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _result(amount: int, unit: Unit) -> str:
    value = amount * Decimal(unit.factor)
    return f"{_number(value)} {unit.target}" if unit.exact else f"about {_number(round(value, 1))} {unit.target}"


def conversion(rng: Random) -> list[Message]:
    if rng.random() < 0.15:
        return _temperature(rng)
    unit = rng.choice(UNITS)
    x = rng.randint(unit.low, unit.high)
    slots = {"x": x, "source": unit.source, "target": unit.target, "setting": unit.setting.format(x=x)}
    question = rng.choice(ASKS).format(**slots)
    reply = rng.choice(REPLIES).format(**slots, factor=_number(Decimal(unit.factor)), result=_result(x, unit))
    if rng.random() < 0.1:
        y = x + rng.randint(1, 9)
        more = rng.choice(MORE).format(y=y, source=unit.source)
        return talk(question, reply, more, f"{y} {unit.source} is {_result(y, unit)}.")
    return talk(polite(rng, question), reply)


def _temperature(rng: Random) -> list[Message]:
    """Degrees one way or the other; the Celsius are multiples of 5, so that both are whole."""
    to_fahrenheit = rng.random() < 0.5
    c = 5 * rng.randint(-4 if to_fahrenheit else -3, 50)
    celsius, fahrenheit = f"{c} °C", f"{_number(Decimal(c) * 9 / 5 + 32)} °F"
    oven = f"The oven says {celsius}. What is that in °F?"
    outside = f"It is {celsius} outside. What would that be in °F?"
    if to_fahrenheit:
        rule, answer = "Multiply by 9, divide by 5 and add 32", f"{celsius} is {fahrenheit}."
        asks = (f"What is {celsius} in Fahrenheit?", oven if c > 60 else outside)
    else:
        rule, answer = "Subtract 32, multiply by 5 and divide by 9", f"{fahrenheit} is {celsius}."
        asks = (f"Convert {fahrenheit} to °C.", f"What is {fahrenheit} in Celsius?")
    question = polite(rng, rng.choice(asks))
    return talk(question, rng.choice((f"{rule}: {answer}", answer)))
