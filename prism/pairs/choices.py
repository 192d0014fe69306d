"""Multiple choice: the right option is y+, a wrong one y-. Known shapes are the entries of `SHAPES`."""

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prism.data.forms import pool_messages, prompt_messages
from prism.data.rows import Messages
from prism.errors import RowError
from prism.pairs.config import PairsConfig
from prism.pairs.items import Draft, Item, Reading

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
OPTION = re.compile(r"^[ \t]*(\(?([A-Z])[).:])[ \t]*(.*)$", re.MULTILINE)
NAMED = re.compile(r"(?i:answer)\s*(?i:is|:)?\s*:?\s*\(?([A-Z])\b\)?[.\s]*$")
QUESTION = ("question", "ctx", "goal", "query", "problem", "stem", "prompt", "input")
OPTIONS = ("options", "choices", "endings", "answer_choices", "candidates")
ANSWER = (
    "answer", "answerKey", "answer_key", "correct", "gold", "label", "answer_idx", "answer_index", "target",
    "correct_answer",
)  # fmt: skip
Likes = Callable[[Sequence[tuple[Messages, str]]], Sequence[float]]  # losses of answers, less is liked more


@dataclass(frozen=True)
class Question:
    """A prompt and its options, each as label, text, and the two together as a prompt lists them.

    `own` is how the row itself answers: "label", "text" or "both"; "" where it does in no such way.
    """

    prompt: Messages
    labels: list[str]
    texts: list[str]
    both: list[str]
    right: int
    own: str = ""
    strings: bool = False

    def answers(self, form: str) -> list[str]:
        """The options as answers; "auto" is the row's own form, else "both"."""
        form = (self.own or "both") if form == "auto" else form
        return {"label": self.labels, "text": self.texts, "both": self.both}[form]


def choice_pairs(config: PairsConfig, reading: Reading, likes: Likes | None = None) -> Iterator[Draft]:
    """Pairs of every item that is a multiple choice; `likes` judges wrong options where `config.wrong` is likely."""
    draw = random.Random(config.seed)
    found = reading.each(lambda item: (item, question_of(item, config.show_options)))
    if config.wrong == "likely":
        assert likes is not None
        items = list(found)
        best = _most_liked(items, config.answer_form, likes)
        for number, (item, question) in enumerate(items):
            if number in best:
                yield _draft(item, question, config.answer_form, best[number], config.wrong)
            else:
                reading.drop(item.bad("no wrong option has a finite loss: is it too long, or are the weights NaN?"))
        return
    for item, question in found:
        wrong = _wrong(question, config.answer_form)
        for place in wrong if config.wrong == "all" else [draw.choice(wrong)]:
            yield _draft(item, question, config.answer_form, place, config.wrong)


def question_of(item: Item, show_options: bool = True) -> Question:
    """Raises RowError where the item is no multiple choice with one right option and a wrong one."""
    for shape in SHAPES:
        question = shape(item, show_options)
        if question is not None:
            if len(question.texts) < 2:
                raise RowError("a multiple choice has two options at least")
            if not all(text.strip() for text in question.texts):
                raise RowError("an option is empty")
            _wrong(question, "text")
            return question
    fields = ", ".join(list(item.record)[:12]) or "none"
    raise RowError(
        f"no multiple choice: the row's fields are {fields}. Known are question + choices or options + an answer, "
        "mc1_targets, correct and incorrect answers, or messages whose question lists options A, B, …; prism pairs "
        "maps other names with --columns question=…,options=…,answer=…"
    )


def _wrong(question: Question, form: str) -> list[int]:
    answers = question.answers(form)
    right = _plain(question.texts[question.right])
    places = [i for i in range(len(answers)) if i != question.right and _plain(question.texts[i]) != right]
    if not places:
        raise RowError("every other option says the same as the right one")
    return places


def _draft(item: Item, question: Question, form: str, place: int, how: str) -> Draft:
    answers = question.answers(form)
    source = {"random": "wrong option", "all": "wrong option", "likely": "wrong option the model likes most"}[how]
    suffix = f"-{question.labels[place]}" if how == "all" else ""
    return Draft(item, question.prompt, answers[question.right], answers[place], source, question.strings, suffix)


def _most_liked(found: list[tuple[Item, Question]], form: str, likes: Likes) -> dict[int, int]:
    """Item → the place of the wrong option that the model likes most, of items where one has a finite loss."""
    asked = [(number, place) for number, (_, question) in enumerate(found) for place in _wrong(question, form)]
    losses = likes([(found[n][1].prompt, found[n][1].answers(form)[place]) for n, place in asked])
    best: dict[int, tuple[float, int]] = {}
    for (number, place), loss in zip(asked, losses, strict=True):
        if loss == loss:  # a NaN is an option that could not be read by the model
            best[number] = min(best.get(number, (float("inf"), -1)), (loss, place))
    return {number: place for number, (_, place) in best.items()}


def _truthful(item: Item, _: bool) -> Question | None:
    """TruthfulQA: `mc1_targets` as text → 0 or 1, or as `choices` and `labels`."""
    targets = next((t for t in (item.get("mc1_targets"), item.get("mc2_targets")) if isinstance(t, Mapping)), None)
    if targets is None:
        return None
    if isinstance(targets.get("choices"), list) and isinstance(targets.get("labels"), list):
        if len(targets["choices"]) != len(targets["labels"]):
            raise RowError("mc1_targets has more choices than labels, or fewer")
        targets = dict(zip(targets["choices"], targets["labels"], strict=True))
    texts = [str(text) for text in targets]
    right = [i for i, label in enumerate(targets.values()) if label == 1]
    wrong = [i for i, label in enumerate(targets.values()) if label == 0]
    return _open(item, [texts[i] for i in right], [texts[i] for i in wrong])


def _listed(item: Item, _: bool) -> Question | None:
    """`correct` and `incorrect` answers, as TruthfulQA's generation set has them."""
    correct, incorrect = (
        next((v for v in (item.get(f"{name}_answers"), item.get(name)) if isinstance(v, list)), None)
        for name in ("correct", "incorrect")
    )
    if correct is None or incorrect is None:
        return None
    right, wrong = ([str(text) for text in found if str(text).strip()] for found in (correct, incorrect))
    best = item.get("best_answer")
    return _open(item, [best, *right] if isinstance(best, str) and best.strip() else right, wrong)


def _open(item: Item, right: list[str], wrong: list[str]) -> Question:
    """A question whose options it does not list: the row's own answer if it is a right one, else the first of these."""
    if not right or not wrong:
        raise RowError(f"{len(right)} right and {len(wrong)} wrong answers: one of each is needed")
    prompt, own, strings = _asked(item)
    known = {_plain(text) for text in right}
    first = own if own is not None and _plain(own) in known else right[0]
    texts = [first, *(text for text in wrong if _plain(text) not in known)]
    labels = [str(number) for number in range(len(texts))]
    return Question(prompt, labels, texts, texts, 0, "text", strings)


def _structured(item: Item, show: bool) -> Question | None:
    """A question, its options in a field (or fields A, B, C, …) and the answer's place, label or text."""
    options = next((v for v in map(item.get, OPTIONS) if v is not None), None)
    stem = item.get("question")
    if options is None and isinstance(stem, Mapping):  # CommonsenseQA as it is distributed
        options = stem.get("choices")
    if options is None and isinstance(item.get("A"), str) and isinstance(item.get("B"), str):
        options = {letter: item.get(letter) for letter in LETTERS if item.get(letter) is not None}
    if options is None and isinstance(item.get("sol1"), str) and isinstance(item.get("sol2"), str):
        options = [item.get("sol1"), item.get("sol2")]
    if options is None:
        return None
    labels, texts = _options(options)
    answer = next((v for v in map(item.get, ANSWER) if v is not None), None)
    prompt, own, strings = _asked(item)
    listed = _lines(prompt[-1]["content"]) if prompt else None
    if listed and [_plain(text) for text in listed[1]] == [_plain(text) for text in texts]:
        labels, texts, both = listed
    else:
        both = [f"{label}. {text}" for label, text in zip(labels, texts, strict=True)]
        if show and own is None:
            shown = {**prompt[-1], "content": "\n".join([prompt[-1]["content"], *both])}
            prompt = (*prompt[:-1], shown)
    if answer is None and own is None:
        raise RowError("no field says which option is right (answer, answerKey, gold, correct, label, …)")
    right = _right(own if answer is None else answer, labels, texts, both)
    return Question(prompt, labels, texts, both, right, _own_form(own, right, labels, texts, both), strings)


def _in_text(item: Item, _: bool) -> Question | None:
    """Options that the question lists line by line, and an answer that names one of them."""
    if item.get("messages") is None and item.get("prompt") is None and item.get("instruction") is None:
        return None
    prompt, own, strings = _asked(item)
    listed = _lines(prompt[-1]["content"])
    if listed is None:
        return None
    answer = next((v for v in map(item.get, ANSWER) if v is not None), own)
    if answer is None:
        raise RowError("neither an answer nor a field says which option is right")
    right = _right(answer, *listed)
    return Question(prompt, *listed, right, _own_form(own, right, *listed), strings)


SHAPES: tuple[Callable[[Item, bool], Question | None], ...] = (_truthful, _listed, _structured, _in_text)


def _asked(item: Item) -> tuple[Messages, str | None, bool]:
    """(the turns of the question, the row's own answer, whether they came as strings)."""
    if item.get("messages") is not None or item.get("conversations") is not None or item.get("completion") is not None:
        try:
            messages, strings = pool_messages(item.record, item.columns)
            return messages[:-1], str(messages[-1]["content"]).strip(), strings
        except RowError:
            if item.get("messages") is None:
                raise
            return prompt_messages(item.record, item.columns), None, False
    for field in QUESTION:
        value = item.get(field)
        value = value.get("stem") if isinstance(value, Mapping) else value
        if isinstance(value, str) and value.strip():
            return ({"role": "user", "content": value.strip()},), None, True
    raise RowError("no question: the row has neither messages nor question, prompt, query or the like")


def _options(value: Any) -> tuple[list[str], list[str]]:
    """(labels, texts) of options in any usual form."""
    labels: list[Any] | None = None
    texts: list[str]
    if isinstance(value, Mapping) and isinstance(value.get("text"), list):  # ARC, CommonsenseQA on the hub
        labels, value = value.get("label"), list(value["text"])
    elif isinstance(value, Mapping):  # {"A": …, "B": …}
        labels, value = list(value), list(value.values())
    if not isinstance(value, list | tuple):
        raise RowError("the options must be a list, or an object of label and text")
    if all(isinstance(v, Mapping) for v in value):
        labels = [v.get("label") for v in value]
        value = [v.get("text", v.get("para", v.get("content"))) for v in value]
    if not all(isinstance(v, str | int | float) and not isinstance(v, bool) for v in value):
        raise RowError("an option is no text")
    texts = [str(v).strip() for v in value]
    if labels is None or any(label is None for label in labels):
        split = [OPTION.fullmatch(text) for text in texts]
        if all(match is not None and match[2] == LETTERS[i] for i, match in enumerate(split) if i < len(LETTERS)):
            return [m[2] for m in split if m], [m[3].strip() for m in split if m]  # AQuA writes "A)21"
        labels = [LETTERS[i] if i < len(LETTERS) else str(i + 1) for i in range(len(texts))]
    assert labels is not None
    if len(labels) != len(texts):
        raise RowError("there are more options than labels, or fewer")
    return [str(label).strip() for label in labels], texts


def _lines(text: str) -> tuple[list[str], list[str], list[str]] | None:
    """(labels, texts, as listed) of the last run of lines A, B, C, … of a text, which may go on over further lines."""
    found = list(OPTION.finditer(text))
    start = next((i for i in range(len(found) - 1, -1, -1) if found[i][2] == "A"), None)
    if start is None:
        return None
    run = [m for i, m in enumerate(found[start:]) if m[2] == (LETTERS[i] if i < len(LETTERS) else "")]
    if len(run) < 2 or len(run) != len(found) - start:
        return None
    ends = [*(m.start() for m in run[1:]), len(text)]
    both = [text[m.start() : end].strip() for m, end in zip(run, ends, strict=True)]
    texts = [text[m.start(3) : end].strip() for m, end in zip(run, ends, strict=True)]
    return [m[2] for m in run], texts, both


def _right(answer: Any, labels: list[str], texts: list[str], both: list[str]) -> int:
    """The place of the option that an answer names: by label, text, both, number from 0, or "… answer: B"."""
    if isinstance(answer, list) and len(answer) == 1:
        answer = answer[0]
    if isinstance(answer, float) and answer.is_integer():
        answer = int(answer)
    if isinstance(answer, int) and not isinstance(answer, bool) and str(answer) not in labels:
        if 0 <= answer < len(texts):
            return answer
        raise RowError(f"the answer {answer} is beyond the {len(texts)} options (counted from 0)")
    said = str(answer).strip()
    bare = said.strip("().: ")
    if bare in labels:
        return labels.index(bare)
    for forms in (texts, both):
        places = [i for i, form in enumerate(forms) if _plain(form) == _plain(said)]
        if len(places) == 1:
            return places[0]
    if said.isdigit() and int(said) < len(texts):
        return int(said)
    if (named := NAMED.search(said)) and named[1] in labels:
        return labels.index(named[1])
    raise RowError(f"the answer {said[:40]!r} is none of the {len(texts)} options")


def _own_form(own: str | None, right: int, labels: list[str], texts: list[str], both: list[str]) -> str:
    if own is None:
        return ""
    if own.strip("().: ") == labels[right]:
        return "label"
    return next((n for n, form in (("both", both), ("text", texts)) if _plain(form[right]) == _plain(own)), "")


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(".")
