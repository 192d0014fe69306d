"""Preference sets: what people or models preferred is y+, what they did not is y-."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

from prism.data.forms import Columns, pair_messages, pool_messages, prompt_messages
from prism.data.rows import Messages, content_hash
from prism.errors import RowError
from prism.pairs.config import PairsConfig
from prism.pairs.items import Draft, Item, Reading

TURNS = {"\n\nHuman:": "user", "\n\nAssistant:": "assistant"}
ANSWERS = ("completions", "responses", "answers", "candidates", "generations")
TEXT = ("response", "text", "content", "completion", "answer", "output")
SCORE = ("score", "rating", "overall_score", "reward", "helpfulness")
SCORES = ("scores", "ratings", "rewards", "ranks", "rank")


@dataclass(frozen=True)
class Ranked:
    """An answer to a prompt and how good it is: higher is better."""

    item: Item
    prompt: Messages
    answer: str
    value: float
    strings: bool


def preference_pairs(config: PairsConfig, reading: Reading) -> Iterator[Draft]:
    """Pairs of rows that hold both answers, of rows that hold several scored ones, and of rows that share a prompt and
    have a `rank` (least is best) or a score each."""
    groups: dict[str, list[Ranked]] = {}
    for found in reading.each(_read):
        if isinstance(found, Draft):
            yield found
        elif isinstance(found, list):
            yield from _pairs_of(found, config.ranked, reading)
        else:
            groups.setdefault(content_hash(found.prompt), []).append(found)
    for group in groups.values():
        yield from _pairs_of(group, config.ranked, reading)


def _read(item: Item) -> Draft | list[Ranked] | Ranked:
    if item.get("chosen") is not None and item.get("rejected") is not None:
        return _both(item)
    if item.get("rejected") is not None:
        return _against(item)
    for field in ANSWERS:
        if isinstance(item.get(field), list):
            return _several(item, item.get(field))
    for field, sign in (("rank", -1.0), *((name, 1.0) for name in SCORE)):
        value = item.get(field)
        if isinstance(value, str):
            value = _number(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            messages, strings = pool_messages(item.record, item.columns)
            return Ranked(item, messages[:-1], str(messages[-1]["content"]), sign * value, strings)
    raise RowError(
        "no preference: a row has chosen and rejected; or an answer and rejected; or several answers with scores; or a "
        "rank or score that tells it from rows of the same prompt"
    )


def _both(item: Item) -> Draft:
    """TRL's preference formats, transcripts as Anthropic's HH set has them, and ShareGPT's with `conversations`."""
    sides = [item.get("chosen"), item.get("rejected")]
    opening = next((f for f in ("prompt", "messages", "conversations", "question", "instruction") if item.get(f)), None)
    if opening is None and all(isinstance(side, str) for side in sides):
        chosen, rejected = (_transcript(side) for side in sides)
        if chosen[:-1] != rejected[:-1]:
            raise RowError("no prompt field, and the transcripts don't share their turns up to the last")
        strings = False
    else:
        record, columns = dict(item.record), item.columns
        if opening not in (None, "prompt") and not _conversation(sides[0]):
            record["prompt"], columns = item.get(opening), Columns({**columns.names, "prompt": "prompt"})
            more = item.get("input")
            if opening == "instruction" and isinstance(more, str) and more.strip():
                record["prompt"] = f"{item.get(opening)}\n\n{more}"
        chosen, rejected, strings = pair_messages(record, columns)
    return Draft(item, chosen[:-1], str(chosen[-1]["content"]), str(rejected[-1]["content"]), "preference set", strings)


def _against(item: Item) -> Draft:
    """A row with an answer of its own and a `rejected` one."""
    messages, strings = pool_messages(item.record, item.columns)
    rejected = item.get("rejected")
    if isinstance(rejected, list) and rejected:
        rejected = rejected[-1]
    if isinstance(rejected, Mapping):
        rejected = rejected.get("content", rejected.get("value"))
    if not isinstance(rejected, str) or not rejected.strip():
        raise RowError("rejected is empty or no text")
    return Draft(item, messages[:-1], str(messages[-1]["content"]), rejected, "preference set", strings)


def _several(item: Item, answers: list[Any]) -> list[Ranked]:
    """A row with a list of answers, each with a score of its own or one in a list beside it."""
    texts = [
        next((a[f] for f in TEXT if isinstance(a.get(f), str)), None) if isinstance(a, Mapping) else a for a in answers
    ]
    if not all(isinstance(text, str) for text in texts):
        raise RowError("an answer in the list is no text")
    beside = next(((n, item.get(n)) for n in SCORES if isinstance(item.get(n), list)), None)
    if beside is not None:
        sign, values = (-1.0 if "rank" in beside[0] else 1.0), beside[1]
    else:
        sign = 1.0
        values = [next((a[f] for f in SCORE if f in a), None) if isinstance(a, Mapping) else None for a in answers]
        if all(isinstance(a, Mapping) and a.get("rank") is not None for a in answers):
            sign, values = -1.0, [a["rank"] for a in answers]
    numbers = [_number(value) for value in values]
    if len(numbers) != len(texts) or any(number is None for number in numbers):
        raise RowError("the answers have no scores or ranks, or not one each")
    prompt = _prompt(item)
    return [
        Ranked(item, prompt, text, sign * number, True)
        for text, number in zip(texts, numbers, strict=True)
        if isinstance(text, str) and number is not None and text.strip()
    ]


def _prompt(item: Item) -> Messages:
    for field in ("prompt", "instruction", "question", "query"):
        value = item.get(field)
        if isinstance(value, str) and value.strip():
            return ({"role": "user", "content": value},)
    return prompt_messages(item.record, item.columns)


def _pairs_of(group: list[Ranked], which: str, reading: Reading) -> Iterator[Draft]:
    """Pairs of the ranked answers to one prompt, ties aside; a prompt that gives none is told."""
    ranked = sorted(group, key=lambda r: -r.value)
    if which == "best-worst":
        pairs = [(ranked[0], ranked[-1])]
    else:
        pairs = list(pairwise(ranked)) if which == "adjacent" else list(combinations(ranked, 2))
    uneven = [(better, worse) for better, worse in pairs if better.value > worse.value]
    if not uneven:
        why = "it has no other answer" if len(group) == 1 else f"its {len(group)} answers are ranked alike"
        reading.drop(group[0].item.bad(f"no pair of this prompt: {why}"))
    for number, (better, worse) in enumerate(uneven):
        suffix = "" if which == "best-worst" else f"-{number + 1}"
        yield Draft(better.item, better.prompt, better.answer, worse.answer, "lower ranked", better.strings, suffix)


def _transcript(text: str) -> Messages:
    """Turns of "\\n\\nHuman: … \\n\\nAssistant: …"."""
    turns: list[dict[str, Any]] = []
    rest = text if text.startswith("\n\n") else f"\n\n{text.lstrip()}"
    while rest:
        mark = next((m for m in TURNS if rest.startswith(m)), None)
        if mark is None:
            raise RowError("no prompt field, and chosen is neither messages nor a transcript of Human: and Assistant:")
        body = rest[len(mark) :]
        ends = [place for m in TURNS if (place := body.find(m)) >= 0]
        end = min(ends, default=len(body))
        turns.append({"role": TURNS[mark], "content": body[:end].strip()})
        rest = body[end:]
    if len(turns) < 2 or turns[-1]["role"] != "assistant" or not turns[-1]["content"]:
        raise RowError("the transcript does not end with an answer")
    return tuple(turns)


def _conversation(side: Any) -> bool:
    return isinstance(side, list) and len(side) > 1


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if number == number else None
