"""What all skills write with: turns of talk, polite requests, drawn names and dates, slots and lists."""

from collections.abc import Sequence
from random import Random

from prism.demo.wording import load

Message = dict[str, str]

COMMON = load("common")
PEOPLE: list[tuple[str, str]] = list(COMMON["people"].items())  # (name, he or she)
SURNAMES: list[str] = COMMON["surnames"]
DAYS: list[str] = COMMON["days"]
MONTHS: list[str] = COMMON["months"]
ITEMS: list[str] = COMMON["items"]
SIGHTS: list[str] = COMMON["sights"]


def talk(*turns: str) -> list[Message]:
    """Messages of a conversation whose turns alternate, the user first."""
    return [{"role": ("user", "assistant")[i % 2], "content": turn} for i, turn in enumerate(turns)]


def polite(rng: Random, text: str) -> str:
    """The request as different people would type it."""
    roll = rng.random()
    if roll < 0.10:
        return f"{rng.choice(COMMON['before'])}{text}"
    if roll < 0.20 and text[-1] in ".?":
        return f"{text}{rng.choice(COMMON['after'])}"
    if roll < 0.25 and text.startswith(tuple(COMMON["casual"])):
        return lower(text)
    return text


def lower(text: str) -> str:
    return text[0].lower() + text[1:]


def upper(text: str) -> str:
    return text[0].upper() + text[1:]


def an(words: str) -> str:
    return f"{'an' if words[0].lower() in 'aeiou' else 'a'} {words}"


def together(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}"


def date(rng: Random) -> str:
    return f"{rng.randint(1, 28)} {rng.choice(MONTHS)}"


def place(rng: Random) -> str:
    """The name of a place that does not exist."""
    return f"{rng.choice(COMMON['place_heads'])}{rng.choice(COMMON['place_tails'])}"


def draw_slots(rng: Random) -> dict[str, str]:
    """One draw of everything that the sentence templates name."""
    name, he = rng.choice(PEOPLE)
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
        "surname": rng.choice(SURNAMES),
        "title": rng.choice(COMMON["titles"]),
        "day": rng.choice(DAYS),
        "month": rng.choice(MONTHS),
        "date": date(rng),
        "hour": str(rng.randint(7, 11)),
        "late": str(rng.randint(17, 22)),
        "m": str(m),
        "n": str(m + rng.randint(2, 20)),
        "ref": f"{rng.choice('ABKRT')}-{rng.randint(1000, 9999)}",
        "company": rng.choice(COMMON["companies"]),
        "item": rng.choice(ITEMS),
        "venue": rng.choice(COMMON["venues"]),
        "town": place(rng),
        "street": rng.choice(COMMON["streets"]),
        "sight": rng.choice(SIGHTS),
        "job": rng.choice(COMMON["jobs"]),
        "place": rng.choice(COMMON["settings"]),
        "thing": rng.choice(COMMON["things"]),
    }


def fill(template: str, slots: dict[str, str]) -> str:
    """The template with its slots filled; a sentence that begins with a slot still begins with a capital."""
    return upper(template.format(**slots))


def numbered(items: Sequence[str]) -> str:
    return "\n".join(f"{i}. {item}" for i, item in enumerate(items, 1))


def listed(rng: Random, steps: Sequence[str]) -> str:
    """Steps as a numbered list, as bullets or as prose."""
    style = rng.choice(("number", "number", "bullet", "prose"))
    if style == "number":
        return numbered(steps)
    if style == "bullet":
        return "\n".join(f"- {step}" for step in steps)
    links = ["First, ", *rng.sample(("Then ", "After that, ", "Next, ", "", "Now "), len(steps) - 2), "Finally, "]
    return " ".join(link + (lower(step) if link else step) for link, step in zip(links, steps, strict=True))
