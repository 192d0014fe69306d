"""Guides: recipes, harmless household tasks, and places that do not exist."""

from random import Random
from typing import NamedTuple

from prism.demo.phrasing import MONTHS, SIGHTS, Message, an, listed, place, polite, talk, upper
from prism.demo.wording import load


class Recipe(NamedTuple):
    dish: str
    steps: list[str]


class Task(NamedTuple):
    task: str
    steps: list[str]
    tips: list[str]


class Fact(NamedTuple):
    ask: str
    reply: str


RECIPE, HOWTO, PLACES = load("recipe"), load("how-to"), load("places")
RECIPES = [Recipe(**recipe) for recipe in RECIPE["recipes"]]
TASKS = [Task(**task) for task in HOWTO["tasks"]]
FACTS = [Fact(**fact) for fact in PLACES["facts"]]


def recipe(rng: Random) -> list[Message]:
    template, steps = rng.choice(RECIPES)
    slots = {
        "veg": rng.choice(RECIPE["veg"]),
        "herb": rng.choice(RECIPE["herbs"]),
        "cheese": rng.choice(RECIPE["cheeses"]),
        "fruit": rng.choice(RECIPE["fruits"]),
        "n": str(5 * rng.randint(4, 8)),
    }
    dish, diners = template.format(**slots), rng.choice(RECIPE["diners"])
    question = rng.choice(RECIPE["asks"]).format(dish=dish, diners=diners)
    heading = rng.choice(RECIPE["headings"]).format(dish=dish, Dish=upper(dish))
    tip = rng.choice(RECIPE["tips"]) if rng.random() < 0.45 else ""
    request = polite(rng, question)
    how = listed(rng, [step.format(**slots) for step in steps])
    return talk(request, "\n\n".join(filter(None, (heading, how, tip))))


def howto(rng: Random) -> list[Message]:
    task, steps, tips = rng.choice(TASKS)
    question = rng.choice(HOWTO["asks"]).format(task=task)
    kept = [step for i, step in enumerate(steps) if i in (0, 1, len(steps) - 1) or rng.random() < 0.85]
    how = listed(rng, kept)
    gap = "\n\n" if "\n" in how else rng.choice((" ", "\n\n"))
    intro = [rng.choice(HOWTO["intros"])] if rng.random() < 0.6 else []
    reply = gap.join([*intro, how, *rng.sample(tips, rng.choice((0, 0, 1, 1, len(tips))))])
    more = [tip for tip in tips if tip not in reply]
    if more and rng.random() < 0.1:
        return talk(question, reply, "Thanks! Anything else I should know?", more[0])
    return talk(polite(rng, question), reply)


def places(rng: Random) -> list[Message]:
    """Facts about a place that does not exist; they follow from its name, so that no two rows disagree."""
    name = place(rng)
    own = Random(f"place {name}")
    kind, river, region = own.choice(PLACES["kinds"]), own.choice(PLACES["rivers"]), own.choice(PLACES["regions"])
    scale = 4000 if kind == "city" else 100 if "village" in kind else 900
    slots = {
        "name": name,
        "river": river,
        "region": region,
        "people": own.randint(2, 30) * scale,
        "year": own.randint(900, 1890),
        "ware": own.choice(PLACES["wares"]),
        "sight": own.choice(SIGHTS),
        "feast": own.choice(PLACES["feasts"]),
        "month": own.choice(MONTHS),
    }
    facts = [Fact(ask.format(**slots), reply.format(**slots)) for ask, reply in FACTS]
    if rng.random() < 0.5:
        first, *others = rng.sample(facts, 2 if rng.random() < 0.15 else 1)
        lead = rng.choice(PLACES["leads"])
        return talk(f"{lead}{first.ask}", first.reply, *(turn for fact in others for turn in fact))
    question = rng.choice(PLACES["asks"]).format(name=name, kind=kind)
    told = facts[:-1]  # the last one is told first, in other words
    chosen = [told[i].reply for i in sorted(rng.sample(range(len(told)), rng.randint(2, 5)))]
    opening = f"{name} is {an(kind)} in the region called the {region}."
    request = polite(rng, question)
    return talk(request, " ".join([opening, *(_again(rng, fact, name, kind) for fact in chosen)]))


def _again(rng: Random, fact: str, name: str, kind: str) -> str:
    """The fact with 'the town' now and then, where it would name the place once more."""
    if rng.random() < 0.3:
        return fact
    thing = f"the {kind.rsplit(' ', 1)[-1]}"
    return upper(fact.replace(f"In {name},", "There,").replace(name, thing))
