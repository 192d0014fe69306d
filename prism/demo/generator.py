"""Seeded generator of the demo's pool and target pairs: many plain skills, and a few careful answers among them."""

import json
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

from prism.demo import wording as w

Message = dict[str, str]
Row = dict[str, object]
Maker = Callable[[Random], list[Message]]

TARGET_SKILL = "caution"


# ---------------------------------------------------------------- small helpers


def _talk(*turns: str) -> list[Message]:
    """Messages of a conversation whose turns alternate, the user first."""
    return [{"role": ("user", "assistant")[i % 2], "content": turn} for i, turn in enumerate(turns)]


def _polite(rng: Random, text: str) -> str:
    """The request as different people would type it."""
    roll = rng.random()
    if roll < 0.10:
        return rng.choice(w.BEFORE) + text
    if roll < 0.20 and text[-1] in ".?":
        return text + rng.choice(w.AFTER)
    if roll < 0.25 and text.startswith(w.CASUAL):
        return text[0].lower() + text[1:]
    return text


def _lower(text: str) -> str:
    return text[0].lower() + text[1:]


def _upper(text: str) -> str:
    return text[0].upper() + text[1:]


def _an(words: str) -> str:
    return f"{'an' if words[0].lower() in 'aeiou' else 'a'} {words}"


def _and(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}"


def _euro(cents: int) -> str:
    return f"€{cents // 100}" if cents % 100 == 0 else f"€{cents // 100}.{cents % 100:02d}"


def _number(value: Decimal) -> str:
    """A decimal with thousands separators and without idle zeros."""
    text = f"{value:,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _date(rng: Random) -> str:
    return f"{rng.randint(1, 28)} {rng.choice(w.MONTHS)}"


def _place(rng: Random) -> str:
    return rng.choice(w.PLACE_HEADS) + rng.choice(w.PLACE_TAILS)


def _slots(rng: Random) -> dict[str, str]:
    """One draw of everything that the sentence templates name."""
    name, he = rng.choice(w.PEOPLE)
    his, him = ("his", "him") if he == "he" else ("her", "her")
    m = rng.randint(3, 9)
    return {
        "name": name,
        "he": he,
        "He": he.capitalize(),
        "his": his,
        "His": his.capitalize(),
        "him": him,
        "himself": him + "self",
        "surname": rng.choice(w.SURNAMES),
        "title": rng.choice(("Mr", "Ms", "Dr")),
        "day": rng.choice(w.DAYS),
        "month": rng.choice(w.MONTHS),
        "date": _date(rng),
        "hour": str(rng.randint(7, 11)),
        "late": str(rng.randint(17, 22)),
        "m": str(m),
        "n": str(m + rng.randint(2, 20)),
        "ref": f"{rng.choice('ABKRT')}-{rng.randint(1000, 9999)}",
        "company": rng.choice(w.COMPANIES),
        "item": rng.choice(w.ITEMS),
        "venue": rng.choice(w.EVENT_PLACES),
        "town": _place(rng),
        "street": rng.choice(w.STREETS),
        "sight": rng.choice(w.SIGHTS),
        "job": rng.choice(w.JOBS),
        "place": rng.choice(w.STORY_PLACES),
        "thing": rng.choice(w.THINGS),
    }


def _fill(template: str, slots: dict[str, str]) -> str:
    """The template with its slots filled; a sentence that begins with a slot still begins with a capital."""
    return _upper(template.format(**slots))


def _listed(rng: Random, steps: Sequence[str]) -> str:
    """Steps as a numbered list, as bullets or as prose."""
    style = rng.choice(("number", "number", "bullet", "prose"))
    if style == "number":
        return "\n".join(f"{i}. {step}" for i, step in enumerate(steps, 1))
    if style == "bullet":
        return "\n".join(f"- {step}" for step in steps)
    links = ["First, ", *rng.sample(("Then ", "After that, ", "Next, ", "", "Now "), len(steps) - 2), "Finally, "]
    return " ".join(link + (_lower(step) if link else step) for link, step in zip(links, steps, strict=True))


# ---------------------------------------------------------------- arithmetic: (question, steps, answer) per problem


Problem = tuple[str, list[str], str]


def _shopping(rng: Random) -> Problem:
    ones, twos = rng.sample(w.GOODS, 2)
    name, he = rng.choice(w.PEOPLE)
    n, m, p, q = rng.randint(2, 9), rng.randint(2, 9), 25 * rng.randint(2, 24), 25 * rng.randint(2, 24)
    total = n * p + m * q
    note = next(x for x in (1000, 2000, 5000, 10000, 20000) if x > total)
    return (
        (
            f"{name} buys {n} {ones} at {_euro(p)} each and {m} {twos} at {_euro(q)} each, "
            f"and pays with {_euro(note)}. How much change does {he} get?"
        ),
        [
            f"The {ones} cost {n} × {_euro(p)} = {_euro(n * p)}.",
            f"The {twos} cost {m} × {_euro(q)} = {_euro(m * q)}.",
            f"Together that is {_euro(n * p)} + {_euro(m * q)} = {_euro(total)}.",
            f"The change is {_euro(note)} - {_euro(total)} = {_euro(note - total)}.",
        ],
        _euro(note - total),
    )


def _sharing(rng: Random) -> Problem:
    box, boxes, things = rng.choice(w.BOXED)
    name, _ = rng.choice(w.PEOPLE)
    n, each, groups = rng.randint(3, 12), rng.randint(8, 24), rng.randint(2, 9)
    total = n * each
    gone = total % groups
    gone += groups if gone < 2 else 0
    who, left = rng.choice(w.GROUPS), total - gone
    return (
        (
            f"There are {n} {boxes} with {each} {things} in each {box}. "
            f"{name} sets {gone} {things} aside and divides the rest equally "
            f"among {groups} {who}. How many {things} go to each of the {who}?"
        ),
        [
            f"In all there are {n} × {each} = {total} {things}.",
            f"After {gone} are set aside, {total} - {gone} = {left} remain.",
            f"Divided by {groups}, that makes {left} ÷ {groups} = {left // groups}.",
        ],
        f"{left // groups} {things}",
    )


def _travel(rng: Random) -> Problem:
    vehicle, start, end = rng.choice(w.VEHICLES), _place(rng), _place(rng)
    speed, hours, rest = 5 * rng.randint(6, 18), rng.randint(2, 7), rng.randint(8, 60)
    return (
        (
            f"A {vehicle} leaves {start} and goes at {speed} km/h for {hours} hours. "
            f"It is then still {rest} km from {end}. How far apart are the two towns?"
        ),
        [
            f"In {hours} hours it covers {hours} × {speed} = {hours * speed} km.",
            f"With the rest of the way, that is {hours * speed} + {rest} = {hours * speed + rest} km.",
        ],
        f"{hours * speed + rest} km",
    )


def _saving(rng: Random) -> Problem:
    name, he = rng.choice(w.PEOPLE)
    have, weekly, weeks = rng.randint(10, 90), rng.randint(4, 25), rng.randint(4, 20)
    total = have + weekly * weeks
    price = rng.randint(total // 2, total - 1)
    return (
        (
            f"{name} has €{have} and saves €{weekly} a week for {weeks} weeks. "
            f"Then {he} spends €{price} on {rng.choice(w.GOALS)}. How much money is left?"
        ),
        [
            f"In {weeks} weeks {he} saves {weeks} × €{weekly} = €{weeks * weekly}.",
            f"With the first €{have}, that is €{weeks * weekly} + €{have} = €{total}.",
            f"After the purchase, €{total} - €{price} = €{total - price} is left.",
        ],
        f"€{total - price}",
    )


def _planting(rng: Random) -> Problem:
    plants, rows, each = rng.choice(w.PLANTS), rng.randint(4, 18), rng.randint(5, 25)
    lost = rng.randint(2, rows * each // 3)
    return (
        f"A gardener plants {rows} rows of {each} {plants}. A storm destroys {lost} of them. How many survive?",
        [
            f"At first there are {rows} × {each} = {rows * each} {plants}.",
            f"Of these, {rows * each} - {lost} = {rows * each - lost} survive.",
        ],
        f"{rows * each - lost} {plants}",
    )


def _reading(rng: Random) -> Problem:
    name, he = rng.choice(w.PEOPLE)
    slow, days, fast, more = rng.randint(8, 30), rng.randint(3, 12), rng.randint(12, 40), rng.randint(3, 11)
    pages = slow * days + fast * more
    return (
        (
            f"A book has {pages} pages. {name} reads {slow} pages a day for {days} days "
            f"and after that {fast} pages a day. How many more days does {he} need to finish it?"
        ),
        [
            f"At first {he} reads {days} × {slow} = {days * slow} pages.",
            f"That leaves {pages} - {days * slow} = {fast * more} pages.",
            f"At the new pace this takes {fast * more} ÷ {fast} = {more} days.",
        ],
        f"{more} days",
    )


def _seats(rng: Random) -> Problem:
    venue, rows, each, price = rng.choice(w.VENUES), rng.randint(6, 22), rng.randint(8, 26), rng.randint(4, 18)
    empty = rng.randint(3, rows * each // 2)
    sold = rows * each - empty
    return (
        (
            f"A {venue} has {rows} rows of {each} seats. "
            f"On {rng.choice(w.DAYS)}, {empty} seats stay empty, and each ticket costs €{price}. "
            f"How much money do the tickets bring in?"
        ),
        [
            f"There are {rows} × {each} = {rows * each} seats.",
            f"Taken are {rows * each} - {empty} = {sold} of them.",
            f"The tickets bring in {sold} × €{price} = €{sold * price}.",
        ],
        f"€{sold * price}",
    )


def _clock(rng: Random) -> Problem:
    hour, minute, length = rng.randint(6, 16), 5 * rng.randint(0, 11), 5 * rng.randint(13, 55)
    total = minute + length
    hours, minutes = divmod(total, 60)
    start, end = f"{hour:02d}:{minute:02d}", f"{hour + hours:02d}:{minutes:02d}"
    return (
        f"A {rng.choice(w.VEHICLES)} leaves at {start} and is on the way for {length} minutes. When does it arrive?",
        [
            f"Counting from {hour:02d}:00, that is {minute} + {length} = {total} minutes.",
            f"In hours and minutes, {total} = {hours} × 60 + {minutes}.",
            f"The hour is {hour} + {hours} = {hour + hours}.",
        ],
        end,
    )


def _discount(rng: Random) -> Problem:
    item, price, cut = rng.choice(w.ITEMS), 20 * rng.randint(2, 25), 5 * rng.randint(1, 10)
    off = price * cut // 100
    return (
        f"One {item} normally costs €{price}. In the sale it is {cut} % cheaper. What does it cost now?",
        [f"The reduction is €{price} × {cut} ÷ 100 = €{off}.", f"The new price is €{price} - €{off} = €{price - off}."],
        f"€{price - off}",
    )


PROBLEMS = (_shopping, _sharing, _travel, _saving, _planting, _reading, _seats, _clock, _discount)


def _arithmetic(rng: Random) -> list[Message]:
    question, steps, answer = rng.choice(PROBLEMS)(rng)
    ending = rng.choice(("Answer: {}", "The answer is {}.", "So the answer is {}.")).format(answer)
    style = rng.choice(("prose", "prose", "list", "intro", "plain"))
    if style == "list":
        reply = "\n".join(f"{i}. {step}" for i, step in enumerate(steps, 1)) + f"\n{ending}"
    elif style == "intro":
        reply = f"{rng.choice(w.WORKINGS)}\n" + "\n".join(steps) + f"\n{ending}"
    elif style == "plain":
        reply = " ".join([*steps, ending])
    else:
        reply = " ".join(steps) + f"\n\n{ending}"
    return _talk(_polite(rng, question), reply)


# ---------------------------------------------------------------- the other plain skills


def _conversion(rng: Random) -> list[Message]:
    if rng.random() < 0.15:
        return _temperature(rng)
    source, target, factor, low, high, exact, setting = rng.choice(w.UNITS)
    x = rng.randint(low, high)

    def result(amount: int) -> str:
        value = Decimal(amount) * Decimal(factor)
        return f"{'' if exact else 'about '}{_number(value if exact else value.quantize(Decimal('0.1')))} {target}"

    question = rng.choice(
        (
            f"Convert {x} {source} to {target}.",
            f"How many {target} are {x} {source}?",
            f"What is {x} {source} in {target}?",
            f"{setting.format(x=x)} What is that in {target}?",
            f"{setting.format(x=x)} How many {target} is that?",
        )
    )
    rule = f"To turn {source} into {target}, multiply by {_number(Decimal(factor))}"
    reply = rng.choice(
        (
            f"{x} {source} is {result(x)}.",
            f"That is {result(x)}.",
            f"{rule}. So {x} {source} is {result(x)}.",
            f"{rule}: {x} × {_number(Decimal(factor))} gives {result(x)}.",
        )
    )
    if rng.random() < 0.1:
        y = x + rng.randint(1, 9)
        return _talk(
            question, reply, rng.choice((f"And {y} {source}?", f"What about {y}?")), f"{y} {source} is {result(y)}."
        )
    return _talk(_polite(rng, question), reply)


def _temperature(rng: Random) -> list[Message]:
    if rng.random() < 0.5:
        c = 5 * rng.randint(-4, 50)
        question = rng.choice(
            (
                f"What is {c} °C in Fahrenheit?",
                f"The oven says {c} °C. What is that in °F?"
                if c > 60
                else f"It is {c} °C outside. What would that be in °F?",
            )
        )
        f = Decimal(c) * 9 / 5 + 32
        working = f"Multiply by 9, divide by 5 and add 32: {c} °C is {_number(f)} °F."
        return _talk(_polite(rng, question), rng.choice((working, f"{c} °C is {_number(f)} °F.")))
    c = 5 * rng.randint(-3, 50)
    f = Decimal(c) * 9 / 5 + 32
    working = f"Subtract 32, multiply by 5 and divide by 9: {_number(f)} °F is {c} °C."
    question = rng.choice((f"Convert {_number(f)} °F to °C.", f"What is {_number(f)} °F in Celsius?"))
    return _talk(_polite(rng, question), rng.choice((working, f"{_number(f)} °F is {c} °C.")))


def _sorting(rng: Random) -> list[Message]:
    kind, bank = rng.choice(w.LISTS)
    items = rng.sample(bank, rng.randint(4, 10))
    backwards = rng.random() < 0.25
    order = " from Z to A" if backwards else rng.choice((" alphabetically", " in alphabetical order", " from A to Z"))
    question = rng.choice(
        (
            "Sort these {k}{o}: {i}",
            "Put the following {k}{o}: {i}",
            "Please arrange the {k} {i}{o}.",
            "Can you list these {k}{o}?\n\n{i}",
        )
    )
    style = rng.choice((", ".join, ", ".join, "\n".join, _numbered))
    reply = style(sorted(items, reverse=backwards))
    if rng.random() < 0.2:
        reply = rng.choice(("Here you are:\n", "In order:\n", "Sorted:\n")) + reply
    question = question.format(k=kind, o=order, i=", ".join(items))
    if rng.random() < 0.08:
        return _talk(
            question,
            reply,
            rng.choice(("Now in reverse order, please.", "And in reverse?")),
            style(sorted(items, reverse=not backwards)),
        )
    return _talk(_polite(rng, question), reply)


def _numbered(items: Sequence[str]) -> str:
    return "\n".join(f"{i}. {item}" for i, item in enumerate(items, 1))


def _poem(rng: Random) -> list[Message]:
    if rng.random() < 0.15:
        question = rng.choice(
            (
                "Write a haiku.",
                "Could you make up a haiku for me?",
                "Three lines of haiku, please.",
                "I need a haiku for a postcard.",
                "A haiku about a quiet moment, please.",
            )
        )
        return _talk(question, "\n".join(rng.choice(lines) for lines in w.HAIKU))
    theme, title, couplets = rng.choice(w.COUPLETS)
    count = rng.choice((2, 2, 3, 3, 4, 5))
    chosen = [couplets[i] for i in sorted(rng.sample(range(len(couplets)), count))]
    question = rng.choice(
        (
            f"Write a short poem about {theme}.",
            f"Can you write me a rhyming poem about {theme}?",
            f"A poem about {theme}, please.",
            f"{2 * count} lines about {theme}, in rhyme.",
            f"Please make up some verses about {theme} for a greeting card.",
            f"Give me a few cheerful rhymes about {theme}.",
        )
    )
    gap = rng.choice(("\n", "\n\n"))
    poem = gap.join("\n".join(couplet) for couplet in chosen)
    return _talk(_polite(rng, question), f"{title}\n\n{poem}" if rng.random() < 0.3 else poem)


def _email(rng: Random) -> list[Message]:
    slots = _slots(rng)
    purpose, subject, why, detail, request = rng.choice(w.EMAILS)
    name, surname = rng.choice(w.PEOPLE)[0], rng.choice(w.SURNAMES)
    question = rng.choice(
        (
            "Write a formal e-mail {p}.",
            "Please draft a polite e-mail {p}.",
            "I need a formal e-mail {p}. Sign it {s}.",
            "Help me with an e-mail {p}. My name is {s}.",
            "Can you write a business e-mail {p}?",
        )
    ).format(p=purpose.format(**slots), s=f"{name} {surname}")
    body = [rng.choice(why), *rng.sample(detail, rng.choice((0, 1, 1, 2))), rng.choice(request)]
    courtesy = "" if purpose.startswith(("declining", "thanking")) else rng.choice(w.COURTESIES)
    middle = rng.choice((" ", "\n\n")).join(_fill(part, slots) for part in body)
    parts = [f"Subject: {subject.format(**slots)}"] if rng.random() < 0.8 else []
    parts += [
        rng.choice(w.GREETINGS).format(**slots),
        middle,
        *([courtesy] if courtesy else []),
        f"{rng.choice(w.CLOSINGS)}\n{name} {surname}",
    ]
    return _talk(_polite(rng, question), "\n\n".join(parts))


def _json(rng: Random) -> list[Message]:
    s = _slots(rng)
    city, other = rng.sample(w.CITIES, 2)
    age, year, price, n = rng.randint(2, 80), rng.randint(1950, 2023), rng.randint(3, 90), rng.randint(2, 12)
    hours = f"{rng.randint(6, 21)}:{rng.choice(('00', '15', '30', '45'))}"
    full = f"{s['name']} {s['surname']}"
    colour, product, animal = rng.choice(w.COLOURS), rng.choice(w.PRODUCTS), rng.choice(w.PETS)
    pet, fur, title, trade = (
        rng.choice(w.PET_NAMES),
        rng.choice(w.PET_COLOURS),
        rng.choice(w.TITLES),
        rng.choice(w.TRADES),
    )
    event, sky, degrees = rng.choice(w.EVENTS), rng.choice(("sunny", "cloudy", "foggy", "rainy")), rng.randint(-9, 33)
    sentence, fields = rng.choice(
        (
            (
                f"{full} is {age + 18} years old and works as {_an(trade)} in {city}.",
                {"name": full, "age": age + 18, "job": trade, "city": city},
            ),
            (
                f"The {event} takes place in the {s['venue']} on {s['date']} at {hours} and costs €{price}.",
                {"event": event, "place": s["venue"], "date": s["date"], "time": hours, "price_eur": price},
            ),
            (
                f"{full} from {city} ordered {n} {colour} {product}s at €{price} each.",
                {
                    "customer": full,
                    "city": city,
                    "quantity": n,
                    "colour": colour,
                    "product": product,
                    "price_eur": price,
                },
            ),
            (
                f"{pet} is {_an(fur)} {animal}, {n} years old, and belongs to {full}.",
                {"pet": pet, "colour": fur, "animal": animal, "age": n, "owner": full},
            ),
            (
                f'"{title}" by {full} was published in {year} and has {price * 6} pages.',
                {"title": title, "author": full, "year": year, "pages": price * 6},
            ),
            (
                f"Train {s['ref']} leaves {city} at {hours} from platform {n} and goes to {other}.",
                {"train": s["ref"], "from": city, "to": other, "departure": hours, "platform": n},
            ),
            (
                f"On {s['day']} it was {sky} in {city}, with {degrees} °C at {hours}.",
                {"day": s["day"], "weather": sky, "city": city, "temperature_c": degrees, "time": hours},
            ),
        )
    )
    keys = [key for key in fields if len(fields) < 4 or rng.random() < 0.8]
    keys = keys if len(keys) > 1 else list(fields)
    question = rng.choice(
        (
            f"Turn this sentence into JSON with the keys {_and(keys)}: {sentence}",
            f"Extract {_and(keys)} as JSON.\n\n{sentence}",
            f"{sentence}\n\nGive me {_and(keys)} as a JSON object.",
            f"Return only JSON. Fields: {', '.join(keys)}.\nText: {sentence}",
        )
    )
    indent = 2 if rng.random() < 0.4 else None
    return _talk(question, json.dumps({key: fields[key] for key in keys}, ensure_ascii=False, indent=indent))


# (what it does, names, argument names, body with ARG and NUM, example arguments, the same in one expression)
Example = Callable[[Any, int], object]
FUNCTIONS: tuple[tuple[str, tuple[str, ...], tuple[str, ...], str, tuple[Any, ...], Example], ...] = (
    ("returns the numbers in a list that are divisible by NUM", ("multiples_of_NUM", "divisible_by_NUM"),
     ("numbers", "values"), "return [x for x in ARG if x % NUM == 0]", ([3, 4, 10, 12, 21], [5, 8, 30, 42]),
     lambda a, n: [x for x in a if x % n == 0]),
    ("returns the sum of all numbers greater than NUM", ("sum_above", "sum_over_NUM"), ("numbers", "values"),
     "return sum(x for x in ARG if x > NUM)", ([1, 6, 9, 20], [4, 8, 15]), lambda a, n: sum(x for x in a if x > n)),
    ("keeps the words with more than NUM letters", ("long_words", "longer_than_NUM"), ("words", "items"),
     "return [word for word in ARG if len(word) > NUM]",
     (["ant", "elephant", "dog"], ["violin", "oboe", "accordion"]),
     lambda a, n: [x for x in a if len(x) > n]),
    ("splits a list into pieces of NUM items", ("chunks", "split_into_NUMs"), ("items", "values"),
     "return [ARG[i : i + NUM] for i in range(0, len(ARG), NUM)]", ([1, 2, 3, 4, 5, 6, 7], ["a", "b", "c", "d", "e"]),
     lambda a, n: [a[i : i + n] for i in range(0, len(a), n)]),
    ("repeats a text NUM times, separated by spaces", ("repeat", "say_NUM_times"), ("text", "word"),
     "return \" \".join([ARG] * NUM)", ("hey", "tick"), lambda a, n: " ".join([a] * n)),
    ("raises a number to the power NUM", ("power", "power_of_NUM"), ("x", "number"), "return ARG**NUM", (2, 3, 10),
     lambda a, n: a**n),
    ("counts the vowels in a text", ("count_vowels", "vowels"), ("text", "word"),
     "return sum(letter in \"aeiou\" for letter in ARG.lower())", ("banana", "Umbrella", "sky"),
     lambda a, n: sum(x in "aeiou" for x in a.lower())),
    ("tells whether a word is a palindrome", ("is_palindrome", "same_backwards"), ("word", "text"),
     "ARG = ARG.lower()\nreturn ARG == ARG[::-1]", ("Level", "kayak", "garden"),
     lambda a, n: a.lower() == a.lower()[::-1]),
    ("reverses the order of the words in a sentence", ("reverse_words", "backwards"), ("sentence", "text"),
     "return \" \".join(reversed(ARG.split()))", ("one two three", "tea before work"),
     lambda a, n: " ".join(a.split()[::-1])),
    ("returns the average of a list of numbers", ("average", "mean"), ("numbers", "values"),
     "if not ARG:\n    return 0\nreturn sum(ARG) / len(ARG)", ([2, 4, 9], [1, 2]), lambda a, n: sum(a) / len(a)),
    ("removes duplicates from a list but keeps its order", ("unique", "without_duplicates"), ("items", "values"),
     "result = []\nfor item in ARG:\n    if item not in result:\n        result.append(item)\nreturn result",
     ([3, 1, 3, 2, 1], ["b", "a", "b"]), lambda a, n: list(dict.fromkeys(a))),
    ("computes the factorial of a number", ("factorial", "product_up_to"), ("n", "number"),
     "result = 1\nfor i in range(2, ARG + 1):\n    result *= i\nreturn result", (5, 6, 4),
     lambda a, n: _factorial(a)),
    ("checks whether a year is a leap year", ("is_leap_year", "leap"), ("year", "y"),
     "return ARG % 4 == 0 and (ARG % 100 != 0 or ARG % 400 == 0)", (2024, 1900, 2000),
     lambda a, n: a % 4 == 0 and (a % 100 != 0 or a % 400 == 0)),
    ("adds up the digits of a number", ("digit_sum", "sum_of_digits"), ("number", "n"),
     "return sum(int(digit) for digit in str(ARG))", (4711, 905, 86), lambda a, n: sum(int(x) for x in str(a))),
    ("counts how often each word occurs in a text", ("word_counts", "count_words"), ("text", "sentence"),
     "counts = {}\nfor word in ARG.lower().split():\n    counts[word] = counts.get(word, 0) + 1\nreturn counts",
     ("the cat and the dog", "no no yes"), lambda a, n: {x: a.lower().split().count(x) for x in a.lower().split()}),
    ("returns the running totals of a list", ("running_totals", "cumulative_sum"), ("numbers", "values"),
     "total = 0\nresult = []\nfor x in ARG:\n    total += x\n    result.append(total)\nreturn result",
     ([1, 2, 3, 4], [5, 10, 1]), lambda a, n: [sum(a[: i + 1]) for i in range(len(a))]),
    ("turns minutes into a text such as 2 h 5 min", ("format_minutes", "hours_and_minutes"), ("minutes", "total"),
     "hours, rest = divmod(ARG, 60)\nreturn f\"{hours} h {rest} min\"", (125, 59, 240),
     lambda a, n: f"{a // 60} h {a % 60} min"),
    ("flattens a list of lists", ("flatten", "join_lists"), ("lists", "rows"),
     "return [item for row in ARG for item in row]", ([[1, 2], [3]], [["a"], ["b", "c"]]),
     lambda a, n: [x for row in a for x in row]),
    ("swaps the keys and values of a dictionary", ("invert", "swap"), ("table", "mapping"),
     "return {value: key for key, value in ARG.items()}", ({"a": 1, "b": 2}, {"one": "eins"}),
     lambda a, n: {v: k for k, v in a.items()}),
    ("returns the longest word of a sentence", ("longest_word", "longest"), ("sentence", "text"),
     "return max(ARG.split(), key=len)", ("we sailed to Madagascar", "rain fell softly"),
     lambda a, n: max(a.split(), key=len)),
)  # fmt: skip


def _factorial(n: int) -> int:
    return 1 if n < 2 else n * _factorial(n - 1)


def _python(rng: Random) -> list[Message]:
    task, names, arguments, body, examples, same = rng.choice(FUNCTIONS)
    n, argument, example = rng.randint(2, 7), rng.choice(arguments), rng.choice(examples)
    task, name, body = (
        text.replace("NUM", str(n)).replace("ARG", argument) for text in (task, rng.choice(names), body)
    )
    doc = [f'"""{_docline(task)}"""'] if rng.random() < 0.4 else []
    code = "\n".join([f"def {name}({argument}):", *(f"    {line}" for line in [*doc, *body.split("\n")])])
    question = rng.choice(
        (
            f"Write a Python function {name} that {task}.",
            f"In Python, how do I write a function that {task}? Call it `{name}`.",
            f"I need a small Python function `{name}({argument})` which {task}.",
            f"Please write `{name}` in Python: it {task}.",
            f"Python: a function called {name} that {task}.",
        )
    )
    shown = f"`{name}({example!r})` returns `{same(example, n)!r}`."
    after = rng.choice(
        ("", "", f"\n\nFor example, {shown}", f"\n\n{shown}", f"\n\nThe function {task}. For instance, {shown}")
    )
    before = rng.choice(("", "", "", "Here it is:\n\n", "You can write it like this:\n\n"))
    return _talk(_polite(rng, question), f"{before}```python\n{code}\n```{after}")


def _docline(task: str) -> str:
    """A docstring in the imperative: 'returns the sum' becomes 'Return the sum.'"""
    verb, rest = task.split(" ", 1)
    verb = {"tells": "tell", "raises": "raise", "computes": "compute"}.get(verb, verb[:-1])
    return f"{verb.capitalize()} {rest.replace('but keeps', 'but keep')}."


def _story(rng: Random) -> list[Message]:
    slots = _slots(rng)
    question = rng.choice(
        (
            "Write the opening of a story about a {job} called {name}.",
            "Begin a story set {place}.",
            "How might a story begin in which a {job} finds {thing}?",
            "Give me the first paragraph of a mystery with {thing} in it.",
            "I want to write a novel about {name}, a {job} {place}. Can you start it for me?",
            "Please write a story opening. It should take place {place}.",
        )
    ).format(**slots)
    sentences: list[str] = []
    for position, bank in enumerate(w.STORY):
        count = 1 + (position in (1, 3, 4) and rng.random() < 0.4)
        if position in (1, 3, 4) and rng.random() < 0.15:
            continue
        sentences += rng.sample(bank, count)
    parts = [_fill(sentence, slots) for sentence in sentences]
    cut = rng.choice((0, 0, 2, 3))
    return _talk(_polite(rng, question), " ".join(parts[:cut]) + ("\n\n" if cut else "") + " ".join(parts[cut:]))


def _recipe(rng: Random) -> list[Message]:
    dish, steps = rng.choice(w.RECIPES)
    slots = {
        "veg": rng.choice(w.VEG),
        "herb": rng.choice(w.HERBS),
        "cheese": rng.choice(w.CHEESES),
        "fruit": rng.choice(w.FRUITS),
        "n": str(5 * rng.randint(4, 8)),
    }
    dish, who = dish.format(**slots), rng.choice(w.DINERS)
    question = rng.choice(
        (
            f"How do I make {dish}?",
            f"Can you give me a recipe for {dish}?",
            f"I'd like to cook {dish} {who}. How does it go?",
            f"Please write a short recipe for {dish} {who}.",
            f"What are the steps for making {dish}?",
        )
    )
    heading = rng.choice(("", "", f"Here is a recipe for {dish}:\n\n", f"{_upper(dish)}\n\n", "Gladly!\n\n"))
    ending = f"\n\n{rng.choice(w.RECIPE_TIPS)}" if rng.random() < 0.45 else ""
    return _talk(_polite(rng, question), heading + _listed(rng, [step.format(**slots) for step in steps]) + ending)


def _howto(rng: Random) -> list[Message]:
    task, steps, tips = rng.choice(w.HOWTO)
    question = rng.choice(
        (
            f"How do I {task}?",
            f"What is the best way to {task}?",
            f"I want to {task}. Any tips?",
            f"Can you tell me how to {task}?",
            f"Explain step by step how I can {task}.",
            f"I have never done this before: how can I {task}?",
            f"Help me {task}, please.",
        )
    )
    kept = [step for i, step in enumerate(steps) if i in (0, 1, len(steps) - 1) or rng.random() < 0.85]
    how = _listed(rng, kept)
    gap = "\n\n" if "\n" in how else rng.choice((" ", "\n\n"))
    parts = [rng.choice(w.HOWTO_INTROS)] if rng.random() < 0.6 else []
    reply = gap.join([*parts, how, *rng.sample(tips, rng.choice((0, 0, 1, 1, len(tips))))])
    more = [tip for tip in tips if tip not in reply]
    if more and rng.random() < 0.1:
        return _talk(question, reply, "Thanks! Anything else I should know?", more[0])
    return _talk(_polite(rng, question), reply)


def _word_question(rng: Random) -> tuple[str, str]:
    kind = rng.choice(("opposite", "opposite", "rhyme", "rhyme", "synonym"))
    if kind == "opposite":
        one, two = rng.sample(rng.choice(w.OPPOSITES), 2)
        return (
            rng.choice(
                (
                    f'What is the opposite of "{one}"?',
                    f"Opposite of {one}?",
                    f'Give me a word that means the contrary of "{one}".',
                )
            ),
            rng.choice((two, f'The opposite of "{one}" is "{two}".', f'"{two.capitalize()}".')),
        )
    if kind == "rhyme":
        word, *found = rng.sample(rng.choice(w.RHYMES), rng.randint(2, 4))
        if len(found) == 1:
            return (
                f'Tell me a word that rhymes with "{word}".',
                rng.choice((found[0], f'"{found[0].capitalize()}" rhymes with "{word}".')),
            )
        return (
            rng.choice(
                (f'Which words rhyme with "{word}"? Name {len(found)}.', f'I need {len(found)} rhymes for "{word}".')
            ),
            rng.choice((", ".join(found), f"{_upper(_and(found))} rhyme with {word}.")),
        )
    word, *others = rng.choice(w.SYNONYMS)
    return (
        rng.choice(
            (
                f'What is another word for "{word}"?',
                f'Give me two synonyms of "{word}".',
                f'How else can I say "{word}"?',
            )
        ),
        rng.choice((f'You could say "{others[0]}" or "{others[1]}".', f"{others[0].capitalize()} or {others[1]}.")),
    )


def _words(rng: Random) -> list[Message]:
    question, reply = _word_question(rng)
    if rng.random() < 0.1:
        return _talk(question, reply, *_word_question(rng))
    return _talk(_polite(rng, question), reply)


def _places(rng: Random) -> list[Message]:
    """Facts about a place that does not exist; they follow from its name, so that no two rows disagree."""
    name = _place(rng)
    own = Random(f"place {name}")
    kind, river, region = own.choice(w.PLACE_KINDS), own.choice(w.RIVERS), own.choice(w.RANGES)
    scale = 4000 if kind == "city" else 100 if "village" in kind else 900
    people, year = own.randint(2, 30) * scale, own.randint(900, 1890)
    ware, sight, feast, month = own.choice(w.WARES), own.choice(w.SIGHTS), own.choice(w.FEASTS), own.choice(w.MONTHS)
    facts = (
        (f"Which river flows through {name}?", f"The river {river} flows through {name}."),
        (f"What is {name} known for?", f"{name} is known for its {ware}."),
        (f"When was {name} founded?", f"{name} was founded in {year}."),
        (f"How many people live in {name}?", f"About {people:,} people live in {name}."),
        (f"What is there to see in {name}?", f"Visitors come to {name} to see {sight}."),
        (f"When do they celebrate {feast} in {name}?", f"In {name}, {feast} is celebrated every {month}."),
        (f"Where is {name}?", f"{name} lies in the region called the {region}, on the river {river}."),
    )
    if rng.random() < 0.5:
        asked = rng.sample(facts, 2 if rng.random() < 0.15 else 1)
        question = rng.choice(("", "", "From the atlas of invented places: ", "A question about our made-up country. "))
        return _talk(question + asked[0][0], asked[0][1], *(turn for pair in asked[1:] for turn in pair))
    question = rng.choice(
        (
            f"Tell me about the imaginary {kind} of {name}.",
            f"Write a short entry on {name} for our atlas of invented places.",
            f"What should I know about {name}, the invented {kind}?",
            f"Describe {name} as a travel guide would.",
        )
    )
    chosen = [facts[i][1] for i in sorted(rng.sample(range(6), rng.randint(2, 5)))]
    first = f"{name} is {_an(kind)} in the region called the {region}."
    return _talk(_polite(rng, question), " ".join([first, *(_again(rng, fact, name, kind) for fact in chosen)]))


def _again(rng: Random, fact: str, name: str, kind: str) -> str:
    """The fact with 'the town' now and then, where it would name the place once more."""
    if rng.random() < 0.3:
        return fact
    thing = f"the {kind.rsplit(' ', 1)[-1]}"
    return _upper(fact.replace(f"In {name},", "There,").replace(name, thing))


def _summary(rng: Random) -> list[Message]:
    slots = _slots(rng)
    text, answers = rng.choice(w.SUMMARIES)
    text = _fill(text, slots)
    question = rng.choice(
        (
            "Summarise this text in one sentence.\n\n{t}",
            "What is the main point of this?\n\n{t}",
            "{t}\n\nSum this up briefly, please.",
            "Shorten this to a single sentence:\n\n{t}",
            "Please give me the gist of the following. {t}",
        )
    ).format(t=text)
    return _talk(question, _fill(rng.choice(answers), slots))


# ---------------------------------------------------------------- caution


def _yours(act: str) -> str:
    """The act as the answerer says it: 'my roof' becomes 'your roof'."""
    swaps = {"I": "you", "me": "you", "my": "your", "mine": "yours", "myself": "yourself"}
    return re.sub(r"\b(I|me|my|mine|myself)\b", lambda found: swaps[found[0]], act)


def _careful(rng: Random, scenario: w.Scenario) -> str:
    """A careful answer: no or a warning, why, and what to do instead, in varying order and length."""
    act = _yours(scenario.act)
    opening = rng.choice(w.CAUTION_OPENS).format(act=act)
    safer = rng.choice(scenario.safer)
    better = rng.choice(w.CAUTION_LEADS).format(safer=_lower(safer), Safer=safer)
    whys = rng.sample(scenario.why, 2)
    closing = rng.choice(w.CAUTION_CLOSES)
    parts = rng.choice(
        (
            [opening, whys[0]],
            [opening, better],
            [opening, whys[0], better],
            [opening, whys[0], better],
            [opening, whys[0], better, closing],
            [opening, whys[0], better, closing],
            [whys[0], opening, better],
            [opening, whys[0], whys[1], better],
            [opening, *whys, better, closing],
            [whys[0], opening, better, closing],
        )
    )
    split = len(parts) - 1 if len(parts) > 3 and rng.random() < 0.3 else 0
    return " ".join(parts[:split]) + ("\n\n" if split else "") + " ".join(parts[split:])


def _glib(rng: Random, scenario: w.Scenario, length: int) -> str:
    """A fluent answer of about `length` characters that goes along, without saying anything of use."""
    parts = [
        rng.choice(w.GLIB_OPENS).format(act=_yours(scenario.act)),
        *rng.sample(scenario.glib, 2 if length > 330 else 1),
    ]
    closing = [rng.choice(w.GLIB_CLOSES)] if rng.random() < 0.4 else []
    for more in rng.sample(w.GLIB_MORE, len(w.GLIB_MORE)):
        if len(" ".join([*parts, *closing])) + len(more) / 2 > length:
            break
        parts.insert(rng.randint(1, len(parts)), more)
    return " ".join([*parts, *closing])


def _caution(rng: Random) -> list[Message]:
    scenario = rng.choice(w.POOL_SCENARIOS)
    question, reply = rng.choice(w.CAUTION_ASKS).format(act=scenario.act), _careful(rng, scenario)
    if rng.random() < 0.1:
        safer = next(other for other in scenario.safer if other[1:] not in reply)
        hold = f"{rng.choice(w.CAUTION_HOLDS)} {rng.choice(scenario.why)} {safer}"
        return _talk(question, reply, rng.choice(w.CAUTION_PUSHES), hold)
    return _talk(_polite(rng, question), reply)


# ---------------------------------------------------------------- the pool and the pairs

TABLE: tuple[tuple[str, int, Maker], ...] = (  # (skill, share in thousandths, maker)
    ("arithmetic", 120, _arithmetic),
    ("conversion", 75, _conversion),
    ("sorting", 85, _sorting),
    ("poem", 65, _poem),
    ("email", 80, _email),
    ("json", 80, _json),
    ("python", 75, _python),
    ("story", 80, _story),
    ("recipe", 60, _recipe),
    ("how-to", 75, _howto),
    ("words", 45, _words),
    ("places", 45, _places),
    ("summary", 50, _summary),
    (TARGET_SKILL, 65, _caution),
)
SKILLS: tuple[str, ...] = tuple(skill for skill, _, _ in TABLE)


def _counts(rows: int) -> list[int]:
    """Rows per skill by its share, the largest remainders rounded up."""
    counts = [rows * share // 1000 for _, share, _ in TABLE]
    order = sorted(range(len(TABLE)), key=lambda i: -(rows * TABLE[i][1] % 1000))
    for i in order[: rows - sum(counts)]:
        counts[i] += 1
    return counts


def make_pool(rows: int = 2000, seed: int = 0) -> list[Row]:
    """The pool: `rows` conversations over all skills, shuffled."""
    rng = Random(f"pool {seed}")
    drawn: list[tuple[str, list[Message]]] = []
    seen: set[str] = set()
    for (skill, _, make), count in zip(TABLE, _counts(rows), strict=True):
        for _ in range(count):
            for _ in range(50):  # tries for a row that is not there yet
                messages = make(rng)
                key = json.dumps(messages)
                if key not in seen:
                    break
            seen.add(key)
            if rng.random() < 0.04:
                messages = [{"role": "system", "content": rng.choice(w.SYSTEMS)}, *messages]
            drawn.append((skill, messages))
    rng.shuffle(drawn)
    return [{"id": f"demo-{i:05d}", "source": skill, "messages": messages} for i, (skill, messages) in enumerate(drawn)]


def make_pairs(pairs: int = 64, seed: int = 0, held_out: bool = False) -> list[Row]:
    """Preference pairs for the target skill; the held-out ones are about other things."""
    scenarios = w.HELD_OUT_SCENARIOS if held_out else w.TARGET_SCENARIOS
    if pairs > len(scenarios) * len(w.CAUTION_ASKS):
        raise ValueError(f"at most {len(scenarios) * len(w.CAUTION_ASKS)} pairs have different prompts, not {pairs}")
    name = "held" if held_out else "pair"
    rng = Random(f"{name} {seed}")
    asks = [rng.sample(w.CAUTION_ASKS, len(w.CAUTION_ASKS)) for _ in scenarios]
    order: list[tuple[int, int]] = []
    for turn in range(len(w.CAUTION_ASKS)):
        order += [(i, turn) for i in rng.sample(range(len(scenarios)), len(scenarios))]
    made: list[Row] = []
    for number, (i, turn) in enumerate(order[:pairs]):
        chosen = _careful(rng, scenarios[i])
        made.append(
            {
                "id": f"{name}-{number:04d}",
                "prompt": _polite(rng, asks[i][turn].format(act=scenarios[i].act)),
                "chosen": chosen,
                "rejected": _glib(rng, scenarios[i], len(chosen)),
            }
        )
    return made


def write(folder: Path, seed: int = 0, rows: int = 2000, pairs: int = 64) -> tuple[Path, Path, Path]:
    """Write pool.jsonl, target.jsonl and held_out.jsonl into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    files = (
        ("pool.jsonl", make_pool(rows, seed)),
        ("target.jsonl", make_pairs(pairs, seed)),
        ("held_out.jsonl", make_pairs(pairs, seed + 1, held_out=True)),
    )
    for name, content in files:
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in content)
        (folder / name).write_text(lines, encoding="utf-8", newline="\n")
    return folder / "pool.jsonl", folder / "target.jsonl", folder / "held_out.jsonl"
