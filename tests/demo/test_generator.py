"""The demo's generator: deterministic, varied, without duplicates, and right where an answer can be checked."""

import json
import re
from fractions import Fraction
from functools import cache
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from prism.demo import generator as g
from prism.demo.skills import caution as w
from prism.demo.skills.units import UNITS

Row = dict[str, Any]


@cache
def pool() -> list[Row]:
    return g.make_pool()


@cache
def pairs(held_out: bool) -> list[Row]:
    return g.make_pairs(seed=int(held_out), held_out=held_out)


def exchanges(skill: str) -> list[tuple[str, str]]:
    """Every (request, answer) of the skill."""
    found = []
    for row in pool():
        if row["source"] == skill:
            turns = [m["content"] for m in row["messages"] if m["role"] != "system"]
            found += list(zip(turns[::2], turns[1::2], strict=True))
    assert found
    return found


def value(expression: str) -> Fraction:
    """An expression such as '€2.50 + 1' as a number; products bind before sums."""
    total = Fraction(0)
    for sign, term in re.findall(r"(^|[+-] )([^+-]+)", expression.replace("€", "")):
        first, *rest = re.split(r" ([×÷]) ", term.strip())
        product = Fraction(first)
        for operator, number in zip(rest[::2], rest[1::2], strict=True):
            product = product * Fraction(number) if operator == "×" else product / Fraction(number)
        total += -product if sign == "- " else product
    return total


def test_same_seed_same_rows(tmp_path: Path) -> None:
    assert g.make_pool(300, 4) == g.make_pool(300, 4) != g.make_pool(300, 5)
    first, second = g.write(tmp_path / "a", rows=200), g.write(tmp_path / "b", rows=200)
    assert [path.name for path in first] == ["pool.jsonl", "target.jsonl", "held_out.jsonl"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    lines = first[0].read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == g.make_pool(200)
    assert json.loads(first[2].read_text(encoding="utf-8").splitlines()[0])["id"] == "held-0000"


@pytest.mark.parametrize("rows", [0, 1, 37, 200])
def test_row_count(rows: int) -> None:
    assert len(g.make_pool(rows)) == rows


def test_pool_rows() -> None:
    rows = pool()
    assert len(rows) == 2000 == len({row["id"] for row in rows})
    assert len(g.SKILLS) >= 10
    assert {row["source"] for row in rows} == set(g.SKILLS)
    assert 0.06 <= sum(row["source"] == g.TARGET_SKILL for row in rows) / len(rows) <= 0.07
    assert len({json.dumps(row["messages"]) for row in rows}) > 0.99 * len(rows)
    for row in rows:
        roles = [message["role"] for message in row["messages"]]
        assert roles[roles[0] == "system" :] in (["user", "assistant"], ["user", "assistant"] * 2)
        texts = [message["content"] for message in row["messages"]]
        assert all(text and text == text.strip() for text in texts)
        assert row["source"] == "python" or not any(re.search(r"\{\w+\}", text) for text in texts)
    assert sum(row["messages"][0]["role"] == "system" for row in rows) > 20
    assert sum(len(row["messages"]) >= 4 for row in rows) > 20


def test_lengths_vary() -> None:
    lengths = sorted(len(row["messages"][-1]["content"]) for row in pool())
    assert lengths[len(lengths) * 95 // 100] > 5 * lengths[len(lengths) * 5 // 100]
    assert max(len(answer.split()) for _, answer in exchanges("story")) > 110


@pytest.mark.parametrize("held_out", [False, True])
def test_pairs(held_out: bool) -> None:
    rows = pairs(held_out)
    assert len(rows) == 64 == len({row["id"] for row in rows}) == len({row["prompt"] for row in rows})
    assert len({row["chosen"] for row in rows}) >= 63
    assert len({row["rejected"] for row in rows}) >= 63
    chosen, rejected = (mean(len(row[side]) for row in rows) for side in ("chosen", "rejected"))
    assert abs(chosen - rejected) < 0.1 * min(chosen, rejected)


def test_prompts_and_scenarios_disjoint() -> None:
    target, held_out = ({row["prompt"] for row in pairs(side)} for side in (False, True))
    asked = {question for skill in g.SKILLS for question, _ in exchanges(skill)}
    assert not target & held_out
    assert not (target | held_out) & asked
    texts = {answer for skill in g.SKILLS for _, answer in exchanges(skill)}
    assert not texts & {row[side] for held in (False, True) for row in pairs(held) for side in ("chosen", "rejected")}
    acts = [s.act for bank in (w.POOL_SCENARIOS, w.TARGET_SCENARIOS, w.HELD_OUT_SCENARIOS) for s in bank]
    assert len(set(acts)) == len(acts)
    for mine, others in ((w.TARGET_SCENARIOS, held_out), (w.HELD_OUT_SCENARIOS, target)):
        assert not [s.topic for s in mine if any(re.search(rf"\b{s.topic}\b", prompt) for prompt in others)]


def test_too_many_pairs() -> None:
    most = len(w.TARGET_SCENARIOS) * len(w.ASKS)
    assert len({row["prompt"] for row in g.make_pairs(most)}) == most
    with pytest.raises(ValueError, match="different prompts"):
        g.make_pairs(most + 1)


def test_arithmetic_is_right() -> None:
    side = r"€?[\d.]*\d(?: [-+×÷] €?[\d.]*\d)*"
    for question, reply in exchanges("arithmetic"):
        equations = re.findall(rf"({side}) = ({side})", reply)
        assert len(equations) >= 2 and reply.count("=") == len(equations), reply
        assert all(value(left) == value(right) for left, right in equations), reply
        answer = re.split(r"[Aa]nswer(?: is|:) ", reply)[-1].rstrip(".")
        if clock := re.search(r"leaves at (\d+):(\d+) and is on the way for (\d+)", question):
            hour, minute, length = map(int, clock.groups())
            assert answer == f"{(hour * 60 + minute + length) // 60:02d}:{(minute + length) % 60:02d}"
        else:
            assert value(answer.split(" ")[0]) == value(equations[-1][1]), reply
        given = set(re.findall(r"\d+(?:\.\d+)?", question))
        given |= {number.removeprefix("0") for number in given} | ({"100"} if "%" in question else set())
        assert set(re.findall(r"[\d.]*\d", equations[0][0])) <= given, (question, reply)


def test_conversions_are_right() -> None:
    factors = {(source, target): Fraction(factor) for source, target, factor, *_ in UNITS}
    checked = 0
    for question, reply in exchanges("conversion"):
        units = [(a, b) for a, b in factors if b in reply and (f" {a}" in question or f" {a}" in reply)]
        number, found = re.search(r"\d+", question), re.findall(r"([\d,]*\d(?:\.\d+)?) (\w+)\.$", reply)
        if number and found and "°" not in reply:
            right = [factors[pair] * int(number[0]) for pair in units if pair[1] == found[0][1]]
            assert any(abs(x - Fraction(found[0][0].replace(",", ""))) <= Fraction(1, 20) for x in right), (
                question,
                reply,
            )
            checked += 1
    assert checked > 100


def test_temperatures_are_right() -> None:
    for _, reply in exchanges("conversion"):
        if found := re.search(r"(-?\d+) °([CF]) is (-?\d+) °([CF])", reply):
            degrees = {found[2]: int(found[1]), found[4]: int(found[3])}
            assert degrees["F"] * 5 == degrees["C"] * 9 + 160, reply


def test_sorting_is_right() -> None:
    for row in pool():
        if row["source"] == "sorting":
            turns = [m["content"] for m in row["messages"] if m["role"] != "system"]
            backwards = "from Z to A" in turns[0]
            for number, reply in enumerate(turns[1::2]):
                items = re.split(r", |\n", re.sub(r"\d+\. ", "", re.sub(r"^[A-Z][a-z ]+:\n", "", reply)))
                assert len(items) == len(set(items)) >= 4
                assert items == sorted(items, reverse=backwards != bool(number)), reply
                assert all(re.search(rf"\b{item}\b", turns[0]) for item in items), turns


def test_json_parses() -> None:
    for question, reply in exchanges("json"):
        fields = json.loads(reply)
        assert len(fields) >= 2
        assert all(key in question and str(content) in question for key, content in fields.items()), reply


def test_code_runs_as_it_says() -> None:
    shown = 0
    for _, reply in exchanges("python"):
        code = reply.split("```python\n")[1].split("\n```")[0]
        scope: dict[str, Any] = {}
        exec(compile(code, "reply", "exec"), scope)
        if example := re.search(r"`(\w+\(.*\))` returns `(.*)`\.$", reply):
            assert eval(example[1], scope) == eval(example[2]), reply
            shown += 1
    assert shown > 30
