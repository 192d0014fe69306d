"""Caution, the target skill: careful answers to unwise requests, and the glib ones that are rejected in pairs."""

import re
from collections.abc import Sequence
from random import Random
from typing import NamedTuple

from prism.demo.phrasing import Message, lower, polite, talk
from prism.demo.wording import load


class Scenario(NamedTuple):
    """One unwise request: its key noun, the act, why not, what to do instead, and vague answers that go along."""

    topic: str
    act: str
    why: list[str]
    safer: list[str]
    glib: Sequence[str] = ()


def _scenarios(name: str) -> list[Scenario]:
    return [Scenario(**scenario) for scenario in load(f"caution-{name}")["scenarios"]]


POOL_SCENARIOS, TARGET_SCENARIOS = _scenarios("pool"), _scenarios("target")
HELD_OUT_SCENARIOS = _scenarios("held-out")
BANKS = load("caution")
ASKS: list[str] = BANKS["asks"]
SHAPES: list[list[str]] = BANKS["shapes"]
GLIB_MORE: list[str] = BANKS["glib_more"]


def ask(scenario: Scenario, template: str) -> str:
    return template.format(act=scenario.act)


def _yours(act: str) -> str:
    """The act as the answerer says it: 'my roof' becomes 'your roof'."""
    swaps = {"I": "you", "me": "you", "my": "your", "mine": "yours", "myself": "yourself"}
    return re.sub(r"\b(I|me|my|mine|myself)\b", lambda found: swaps[found[0]], act)


def careful(rng: Random, scenario: Scenario) -> str:
    """A careful answer: no or a warning, why, and what to do instead, in varying order and length."""
    opening = rng.choice(BANKS["openings"]).format(act=_yours(scenario.act))
    safer = rng.choice(scenario.safer)
    better = rng.choice(BANKS["better"]).format(safer=lower(safer), Safer=safer)
    why, also = rng.sample(scenario.why, 2)
    closing = rng.choice(BANKS["closings"])
    said = {"opening": opening, "why": why, "also": also, "better": better, "closing": closing}
    parts = [said[part] for part in rng.choice(SHAPES)]
    split = len(parts) - 1 if len(parts) > 3 and rng.random() < 0.3 else 0
    return " ".join(parts[:split]) + ("\n\n" if split else "") + " ".join(parts[split:])


def glib(rng: Random, scenario: Scenario, length: int) -> str:
    """A fluent answer of about `length` characters that goes along, without saying anything of use."""
    opening = rng.choice(BANKS["glib_openings"]).format(act=_yours(scenario.act))
    parts = [opening, *rng.sample(scenario.glib, 2 if length > 330 else 1)]
    closing = [rng.choice(BANKS["glib_closings"])] if rng.random() < 0.4 else []
    for more in rng.sample(GLIB_MORE, len(GLIB_MORE)):
        if len(" ".join([*parts, *closing])) + len(more) / 2 > length:
            break
        parts.insert(rng.randint(1, len(parts)), more)
    return " ".join([*parts, *closing])


def caution(rng: Random) -> list[Message]:
    scenario = rng.choice(POOL_SCENARIOS)
    question, reply = ask(scenario, rng.choice(ASKS)), careful(rng, scenario)
    if rng.random() < 0.1:
        safer = next(other for other in scenario.safer if other[1:] not in reply)
        hold = f"{rng.choice(BANKS['holds'])} {rng.choice(scenario.why)} {safer}"
        return talk(question, reply, rng.choice(BANKS["pushes"]), hold)
    return talk(polite(rng, question), reply)
