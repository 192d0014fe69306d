"""Words: lists to sort, opposites, rhymes and synonyms."""

from random import Random

from prism.demo.phrasing import Message, numbered, polite, talk, together, upper
from prism.demo.wording import load

SORTING = load("sorting")
LISTS: list[tuple[str, list[str]]] = list(SORTING["lists"].items())
SORT_ASKS: list[str] = SORTING["asks"]

WORDS = load("words")
OPPOSITES: list[tuple[str, str]] = list(WORDS["opposites"].items())
RHYMES: list[list[str]] = WORDS["rhymes"]
SYNONYMS: list[tuple[str, str, str]] = WORDS["synonyms"]


def sorting(rng: Random) -> list[Message]:
    kind, bank = rng.choice(LISTS)
    items = rng.sample(bank, rng.randint(4, 10))
    backwards = rng.random() < 0.25
    order = "from Z to A" if backwards else rng.choice(SORTING["orders"])
    question = rng.choice(SORT_ASKS).format(kind=kind, order=order, items=", ".join(items))
    style = rng.choice((", ".join, ", ".join, "\n".join, numbered))
    reply = style(sorted(items, reverse=backwards))
    if rng.random() < 0.2:
        reply = f"{rng.choice(SORTING['intros'])}\n{reply}"
    if rng.random() < 0.08:
        return talk(question, reply, rng.choice(SORTING["reversals"]), style(sorted(items, reverse=not backwards)))
    return talk(polite(rng, question), reply)


def _opposite(rng: Random) -> tuple[str, str]:
    one, two = rng.sample(rng.choice(OPPOSITES), 2)
    slots = {"one": one, "two": two, "Two": upper(two)}
    return _filled(rng, "opposite_asks", slots), _filled(rng, "opposite_replies", slots)


def _rhyme(rng: Random) -> tuple[str, str]:
    word, *found = rng.sample(rng.choice(RHYMES), rng.randint(2, 4))
    if len(found) == 1:
        replies = (found[0], f'"{upper(found[0])}" rhymes with "{word}".')
        return f'Tell me a word that rhymes with "{word}".', rng.choice(replies)
    question = _filled(rng, "rhyme_asks", {"word": word, "count": str(len(found))})
    return question, rng.choice((", ".join(found), f"{upper(together(found))} rhyme with {word}."))


def _synonym(rng: Random) -> tuple[str, str]:
    word, one, two = rng.choice(SYNONYMS)
    slots = {"word": word, "one": one, "two": two, "One": upper(one)}
    return _filled(rng, "synonym_asks", slots), _filled(rng, "synonym_replies", slots)


def _filled(rng: Random, bank: str, slots: dict[str, str]) -> str:
    template: str = rng.choice(WORDS[bank])
    return template.format(**slots)


QUESTIONS = (_opposite, _opposite, _rhyme, _rhyme, _synonym)


def words(rng: Random) -> list[Message]:
    question, reply = rng.choice(QUESTIONS)(rng)
    if rng.random() < 0.1:
        return talk(question, reply, *rng.choice(QUESTIONS)(rng))
    return talk(polite(rng, question), reply)
