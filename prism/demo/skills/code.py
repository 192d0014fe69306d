"""Code: JSON out of a sentence, and small Python functions with an example that holds."""

import json
from collections.abc import Callable
from math import factorial
from random import Random
from typing import Any, NamedTuple

from prism.demo.phrasing import Message, an, draw_slots, polite, talk, together
from prism.demo.wording import load

JSON = load("json")
FORMS: list[dict[str, Any]] = JSON["forms"]


def json_object(rng: Random) -> list[Message]:
    slots = draw_slots(rng)
    city, other = rng.sample(JSON["cities"], 2)
    age, year, price, n = rng.randint(2, 80), rng.randint(1950, 2023), rng.randint(3, 90), rng.randint(2, 12)
    facts: dict[str, str | int] = {
        **slots,
        "full": f"{slots['name']} {slots['surname']}",
        "city": city,
        "other": other,
        "adult": age + 18,
        "year": year,
        "price": price,
        "pages": price * 6,
        "n": n,
        "hours": f"{rng.randint(6, 21)}:{rng.choice(('00', '15', '30', '45'))}",
        "colour": rng.choice(JSON["colours"]),
        "product": rng.choice(JSON["products"]),
        "animal": rng.choice(JSON["animals"]),
        "pet": rng.choice(JSON["pets"]),
        "fur": (fur := rng.choice(JSON["furs"])),
        "a_fur": an(fur),
        "title": rng.choice(JSON["titles"]),
        "trade": (trade := rng.choice(JSON["trades"])),
        "a_trade": an(trade),
        "event": rng.choice(JSON["events"]),
        "sky": rng.choice(JSON["skies"]),
        "degrees": rng.randint(-9, 33),
    }
    form = rng.choice(FORMS)
    fields = {key: facts[slot] for key, slot in form["fields"].items()}
    keys = [key for key in fields if len(fields) < 4 or rng.random() < 0.8]
    keys = keys if len(keys) > 1 else list(fields)
    sentence = form["sentence"].format(**facts)
    question = rng.choice(JSON["asks"]).format(keys=together(keys), list=", ".join(keys), sentence=sentence)
    indent = 2 if rng.random() < 0.4 else None
    return talk(question, json.dumps({key: fields[key] for key in keys}, ensure_ascii=False, indent=indent))


class Function(NamedTuple):
    """A small function: what it does, names for it and its argument, its body, and arguments for examples."""

    task: str
    names: list[str]
    arguments: list[str]
    body: str
    examples: list[Any]


PYTHON = load("python")
FUNCTIONS = [Function(**function) for function in PYTHON["functions"]]
# What each function returns for argument a and number n, found in another way where there is one.
RETURNS: dict[str, Callable[[Any, int], object]] = {
    "multiples_of_NUM": lambda a, n: [x for x in a if x % n == 0],
    "sum_above": lambda a, n: sum(x for x in a if x > n),
    "long_words": lambda a, n: [x for x in a if len(x) > n],
    "chunks": lambda a, n: [a[i : i + n] for i in range(0, len(a), n)],
    "repeat": lambda a, n: " ".join([a] * n),
    "power": lambda a, n: a**n,
    "count_vowels": lambda a, n: sum(x in "aeiou" for x in a.lower()),
    "is_palindrome": lambda a, n: a.lower() == a.lower()[::-1],
    "reverse_words": lambda a, n: " ".join(a.split()[::-1]),
    "average": lambda a, n: sum(a) / len(a),
    "unique": lambda a, n: list(dict.fromkeys(a)),
    "factorial": lambda a, n: factorial(a),
    "is_leap_year": lambda a, n: a % 4 == 0 and (a % 100 != 0 or a % 400 == 0),
    "digit_sum": lambda a, n: sum(int(x) for x in str(a)),
    "word_counts": lambda a, n: {x: a.lower().split().count(x) for x in a.lower().split()},
    "running_totals": lambda a, n: [sum(a[: i + 1]) for i in range(len(a))],
    "format_minutes": lambda a, n: f"{a // 60} h {a % 60} min",
    "flatten": lambda a, n: [x for row in a for x in row],
    "invert": lambda a, n: {v: k for k, v in a.items()},
    "longest_word": lambda a, n: max(a.split(), key=len),
}


def python_function(rng: Random) -> list[Message]:
    function = rng.choice(FUNCTIONS)
    n, argument, example = rng.randint(2, 7), rng.choice(function.arguments), rng.choice(function.examples)
    templates = (function.task, rng.choice(function.names), function.body)
    task, name, body = (text.replace("NUM", str(n)).replace("ARG", argument) for text in templates)
    doc = [f'"""{_docline(task)}"""'] if rng.random() < 0.4 else []
    code = "\n".join([f"def {name}({argument}):", *(f"    {line}" for line in [*doc, *body.split("\n")])])
    question = rng.choice(PYTHON["asks"]).format(name=name, task=task, argument=argument)
    shown = f"`{name}({example!r})` returns `{RETURNS[function.names[0]](example, n)!r}`."
    after = rng.choice(PYTHON["after"]).format(shown=shown, task=task)
    before = rng.choice(PYTHON["before"])
    return talk(polite(rng, question), "\n\n".join(filter(None, (before, f"```python\n{code}\n```", after))))


def _docline(task: str) -> str:
    """A docstring in the imperative: 'returns the sum' becomes 'Return the sum.'"""
    verb, rest = task.split(" ", 1)
    verb = {"tells": "tell", "raises": "raise", "computes": "compute"}.get(verb, verb[:-1])
    return f"{verb.capitalize()} {rest.replace('but keeps', 'but keep')}."
