"""Texts: poems, formal e-mails, openings of stories and summaries."""

from random import Random
from typing import NamedTuple

from prism.demo.phrasing import PEOPLE, SURNAMES, Message, draw_slots, fill, polite, talk
from prism.demo.wording import load


class Poem(NamedTuple):
    theme: str
    title: str
    couplets: list[str]


class Email(NamedTuple):
    """What one asks for, and wordings of each part; one that declines or thanks needs no further courtesy."""

    purpose: str
    subject: str
    why: list[str]
    detail: list[str]
    request: list[str]
    courteous: bool = True


POEM, EMAIL, STORY, SUMMARY = load("poem"), load("email"), load("story"), load("summary")
POEMS = [Poem(**poem) for poem in POEM["poems"]]
HAIKU: list[list[str]] = POEM["haiku"]
EMAILS = [Email(**email) for email in EMAIL["emails"]]
SENTENCES: dict[str, list[str]] = STORY["sentences"]
TEXTS: list[tuple[str, list[str]]] = [(text["text"], text["summaries"]) for text in SUMMARY["texts"]]


def poem(rng: Random) -> list[Message]:
    if rng.random() < 0.15:
        return talk(rng.choice(POEM["haiku_asks"]), "\n".join(rng.choice(lines) for lines in HAIKU))
    theme, title, couplets = rng.choice(POEMS)
    count = rng.choice((2, 2, 3, 3, 4, 5))
    chosen = [couplets[i] for i in sorted(rng.sample(range(len(couplets)), count))]
    question = rng.choice(POEM["asks"]).format(theme=theme, lines=2 * count)
    verses = rng.choice(("\n", "\n\n")).join(chosen)
    return talk(polite(rng, question), f"{title}\n\n{verses}" if rng.random() < 0.3 else verses)


def email(rng: Random) -> list[Message]:
    slots = draw_slots(rng)
    mail = rng.choice(EMAILS)
    sender = f"{rng.choice(PEOPLE)[0]} {rng.choice(SURNAMES)}"
    question = rng.choice(EMAIL["asks"]).format(purpose=mail.purpose.format(**slots), sender=sender)
    body = [rng.choice(mail.why), *rng.sample(mail.detail, rng.choice((0, 1, 1, 2))), rng.choice(mail.request)]
    courtesy = rng.choice(EMAIL["courtesies"]) if mail.courteous else ""
    middle = rng.choice((" ", "\n\n")).join(fill(part, slots) for part in body)
    subject = f"Subject: {mail.subject.format(**slots)}" if rng.random() < 0.8 else ""
    greeting = rng.choice(EMAIL["greetings"]).format(**slots)
    closing = f"{rng.choice(EMAIL['closings'])}\n{sender}"
    return talk(polite(rng, question), "\n\n".join(filter(None, (subject, greeting, middle, courtesy, closing))))


def story(rng: Random) -> list[Message]:
    slots = draw_slots(rng)
    question = rng.choice(STORY["asks"]).format(**slots)
    parts: list[str] = []
    for position, bank in SENTENCES.items():
        count, wanted = 1, True
        if position in ("habits", "riddle", "reaction"):  # these may be told at length, or not at all
            count, wanted = 1 + (rng.random() < 0.4), rng.random() >= 0.15
        if wanted:
            parts += [fill(sentence, slots) for sentence in rng.sample(bank, count)]
    cut = rng.choice((0, 0, 2, 3))
    return talk(polite(rng, question), " ".join(parts[:cut]) + ("\n\n" if cut else "") + " ".join(parts[cut:]))


def summary(rng: Random) -> list[Message]:
    slots = draw_slots(rng)
    template, summaries = rng.choice(TEXTS)
    question = rng.choice(SUMMARY["asks"]).format(text=fill(template, slots))
    return talk(question, fill(rng.choice(summaries), slots))
