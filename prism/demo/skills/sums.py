"""Arithmetic: word problems with their working, right by construction."""

from random import Random

from prism.demo.phrasing import DAYS, ITEMS, PEOPLE, Message, numbered, place, polite, talk
from prism.demo.wording import load

BANKS = load("arithmetic")
GOODS: list[str] = BANKS["goods"]
BOXED: list[tuple[str, str, str]] = BANKS["boxed"]  # (a box, boxes, of things)
GROUPS: list[str] = BANKS["groups"]
VEHICLES: list[str] = BANKS["vehicles"]
GOALS: list[str] = BANKS["goals"]
PLANTS: list[str] = BANKS["plants"]
VENUES: list[str] = BANKS["venues"]
WORKINGS: list[str] = BANKS["workings"]
ENDINGS: list[str] = BANKS["endings"]

Problem = tuple[str, list[str], str]  # question, steps, answer


def _euro(cents: int) -> str:
    return f"€{cents // 100}" if cents % 100 == 0 else f"€{cents // 100}.{cents % 100:02d}"


def _shopping(rng: Random) -> Problem:
    ones, twos = rng.sample(GOODS, 2)
    name, he = rng.choice(PEOPLE)
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
    box, boxes, things = rng.choice(BOXED)
    name, _ = rng.choice(PEOPLE)
    n, each, groups = rng.randint(3, 12), rng.randint(8, 24), rng.randint(2, 9)
    total = n * each
    gone = total % groups
    gone += groups if gone < 2 else 0
    who, left = rng.choice(GROUPS), total - gone
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
    vehicle, start, end = rng.choice(VEHICLES), place(rng), place(rng)
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
    name, he = rng.choice(PEOPLE)
    have, weekly, weeks = rng.randint(10, 90), rng.randint(4, 25), rng.randint(4, 20)
    total = have + weekly * weeks
    price = rng.randint(total // 2, total - 1)
    return (
        (
            f"{name} has €{have} and saves €{weekly} a week for {weeks} weeks. "
            f"Then {he} spends €{price} on {rng.choice(GOALS)}. How much money is left?"
        ),
        [
            f"In {weeks} weeks {he} saves {weeks} × €{weekly} = €{weeks * weekly}.",
            f"With the first €{have}, that is €{weeks * weekly} + €{have} = €{total}.",
            f"After the purchase, €{total} - €{price} = €{total - price} is left.",
        ],
        f"€{total - price}",
    )


def _planting(rng: Random) -> Problem:
    plants, rows, each = rng.choice(PLANTS), rng.randint(4, 18), rng.randint(5, 25)
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
    name, he = rng.choice(PEOPLE)
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
    venue, rows, each, price = rng.choice(VENUES), rng.randint(6, 22), rng.randint(8, 26), rng.randint(4, 18)
    empty = rng.randint(3, rows * each // 2)
    sold = rows * each - empty
    return (
        (
            f"A {venue} has {rows} rows of {each} seats. "
            f"On {rng.choice(DAYS)}, {empty} seats stay empty, and each ticket costs €{price}. "
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
        f"A {rng.choice(VEHICLES)} leaves at {start} and is on the way for {length} minutes. When does it arrive?",
        [
            f"Counting from {hour:02d}:00, that is {minute} + {length} = {total} minutes.",
            f"In hours and minutes, {total} = {hours} × 60 + {minutes}.",
            f"The hour is {hour} + {hours} = {hour + hours}.",
        ],
        end,
    )


def _discount(rng: Random) -> Problem:
    item, price, cut = rng.choice(ITEMS), 20 * rng.randint(2, 25), 5 * rng.randint(1, 10)
    off = price * cut // 100
    return (
        f"One {item} normally costs €{price}. In the sale it is {cut} % cheaper. What does it cost now?",
        [f"The reduction is €{price} × {cut} ÷ 100 = €{off}.", f"The new price is €{price} - €{off} = €{price - off}."],
        f"€{price - off}",
    )


PROBLEMS = (_shopping, _sharing, _travel, _saving, _planting, _reading, _seats, _clock, _discount)


def arithmetic(rng: Random) -> list[Message]:
    question, steps, answer = rng.choice(PROBLEMS)(rng)
    ending = rng.choice(ENDINGS).format(answer=answer)
    style = rng.choice(("prose", "prose", "list", "intro", "plain"))
    if style == "list":
        reply = f"{numbered(steps)}\n{ending}"
    elif style == "intro":
        reply = "\n".join([rng.choice(WORKINGS), *steps, ending])
    elif style == "plain":
        reply = " ".join([*steps, ending])
    else:
        reply = " ".join(steps) + f"\n\n{ending}"
    return talk(polite(rng, question), reply)
