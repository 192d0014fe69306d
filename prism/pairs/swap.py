"""y- is another item's answer of the same form: as long, and of the same type."""

import random
import re
from collections.abc import Iterator

from prism.data.forms import pool_messages
from prism.data.rows import Messages
from prism.pairs.config import PairsConfig
from prism.pairs.items import Draft, Item, Reading

NEAR = 8  # neighbours in length on each side that may lend their answer
TYPES = (
    ("number", re.compile(r"[-+$€£]?\d[\d,.]*\s*%?")),
    ("option", re.compile(r"\(?[A-Za-z][).:]?(\s+.{0,200})?", re.DOTALL)),
    ("yes or no", re.compile(r"(yes|no|true|false)[.!]?", re.IGNORECASE)),
)


def form_of(answer: str) -> str:
    """The type of an answer: a number, a lettered option, yes or no, code, a phrase, or text."""
    text = answer.strip()
    if TYPES[2][1].fullmatch(text):
        return "yes or no"
    if TYPES[0][1].fullmatch(text):
        return "number"
    if re.fullmatch(r"\(?[A-Za-z][).:]?", text) or re.match(r"(\([A-Za-z]\)|[A-Z][).:])\s", text):
        return "option"
    if "```" in text or re.search(r"^\s*(def |class |import |#include|SELECT )", text, re.MULTILINE):
        return "code"
    return "phrase" if len(text.split()) <= 6 and "\n" not in text else "text"


def swap_pairs(config: PairsConfig, reading: Reading) -> Iterator[Draft]:
    """Each item's answer against that of one of its nearest in length among the items of its type; never the same
    answer, nor one that was given to the same prompt."""
    draw = random.Random(config.seed)
    items: list[tuple[Item, Messages, bool, str]] = []
    for item, (messages, strings) in reading.each(lambda item: (item, pool_messages(item.record, item.columns))):
        items.append((item, messages[:-1], strings, str(messages[-1]["content"])))
    forms: dict[str, list[int]] = {}
    for place, (*_, answer) in enumerate(items):
        forms.setdefault(form_of(answer), []).append(place)
    lender: dict[int, int] = {}
    for places in forms.values():
        places.sort(key=lambda place: (len(items[place][3]), place))
        for rank, place in enumerate(places):
            near = _nearest(items, places, rank)
            if near:
                lender[place] = draw.choice(near)
    for place, (item, prompt, strings, answer) in enumerate(items):
        if place not in lender:
            reading.drop(item.bad(f"no other item has a different answer of its form ({form_of(answer)})"))
            continue
        yield Draft(item, prompt, answer, items[lender[place]][3], "another item's answer", strings)


def _nearest(items: list[tuple[Item, Messages, bool, str]], places: list[int], rank: int) -> list[int]:
    """The nearest on each side that may lend their answer to the item at `rank`."""
    _, prompt, _, answer = items[places[rank]]

    def usable(other: int) -> bool:
        return _plain(items[other][3]) != _plain(answer) and items[other][1] != prompt

    found: list[int] = []
    for side in (range(rank - 1, -1, -1), range(rank + 1, len(places))):
        mine: list[int] = []
        for other in side:
            if usable(places[other]):
                mine.append(places[other])
            if len(mine) == NEAR:
                break
        found += mine
    return found


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(".!")
