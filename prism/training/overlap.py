"""Rows to train on, or to select by, that hold what a model will be tested with."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from prism.data import Pair, Row
from prism.data.rows import Messages
from prism.data.words import words_of

WORDS = 13  # as in GPT-3's contamination study (arXiv 2005.14165, appendix C)
SHARE = 0.5
SHOWN = 20
Sample = Row | Pair


@dataclass(frozen=True)
class Overlap:
    """Held-out pairs (or rows) that the data holds: exactly, or nearly; (pair id, row id) of the first row found for
    each."""

    pairs: int
    exact: dict[str, str]
    near: dict[str, str]

    def as_json(self) -> dict[str, Any]:
        shown = {
            kind: dict(list(found.items())[:SHOWN]) for kind, found in (("exact", self.exact), ("near", self.near))
        }
        return {
            "pairs": self.pairs,
            "exact": len(self.exact),
            "near": len(self.near),
            "examples": {k: [list(item) for item in found.items()] for k, found in shown.items()},
        }

    def __bool__(self) -> bool:
        return bool(self.exact or self.near)

    def notice(self, what: str = "held-out pairs", where: str = "the data") -> str:
        """A sentence on `what` of it `where` holds."""
        if not self:
            return f"none of the {self.pairs} {what} is in {where}, exactly or nearly"
        first = next(iter((self.exact or self.near).items()))
        return (
            f"of {self.pairs} {what} {where} holds {len(self.exact)} exactly and {len(self.near)} nearly "
            f"(the first: {first[0]} in {first[1]}): figures on these are no evidence"
        )


def find_overlap(rows: Iterable[Sample], held_out: Iterable[Sample]) -> Overlap:
    """Held-out pairs of which `rows` hold the prompt with one of the answers (exact), or a good part (near).

    Texts are compared by their words alone, in lower case; in scripts that write no spaces a character is a word. Near
    is: the whole prompt, of five words or more, is a turn of the row; or the row holds at least half of the 13-word
    sequences of the pair's prompt or of one of its answers. So shorter texts that differ in a word are not found.
    Memory grows with the held-out texts, not with the rows. Either side may be pairs or rows.
    """
    (found,) = find_overlaps(rows, [held_out])
    return found


def find_overlaps(rows: Iterable[Sample], held_out: Sequence[Iterable[Sample]]) -> list[Overlap]:
    """`find_overlap` with several sets, in one pass over the rows."""
    indices = [_Index(samples) for samples in held_out]
    exact: list[dict[str, str]] = [{} for _ in indices]
    near: list[dict[str, str]] = [{} for _ in indices]
    for row in rows:
        for messages in _conversations(row):
            turns = [words_of(str(m["content"])) for m in messages]
            said = words_of(_said(messages, len(messages) - 1))
            for place, index in enumerate(indices):
                for pair, kind in index.found(turns, said):
                    (exact if kind == "exact" else near)[place].setdefault(pair, row.id)
    return [
        Overlap(index.pairs, same, {pair: row for pair, row in alike.items() if pair not in same})
        for index, same, alike in zip(indices, exact, near, strict=True)
    ]


class _Index:
    """The held-out texts, by their words."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self.pairs = 0
        self._prompts: dict[str, list[str]] = {}
        self._answered: dict[tuple[str, str], list[str]] = {}
        self._grams: dict[int, list[int]] = {}  # hash of a sequence → texts
        self._texts: list[tuple[str, int]] = []  # (pair, how many sequences)
        for sample in samples:
            self.pairs += 1
            self._add(sample)

    def _add(self, pair: Sample) -> None:
        sides = _conversations(pair)
        prompt = words_of(_said(sides[0], len(sides[0]) - 1))
        answers = [words_of(str(side[-1]["content"])) for side in sides]
        if len(prompt) >= 5:
            self._prompts.setdefault(" ".join(prompt), []).append(pair.id)
        for answer in answers:
            self._answered.setdefault((" ".join(prompt), " ".join(answer)), []).append(pair.id)
        for words in (prompt, *answers):
            if grams := set(_grams(words)):
                self._texts.append((pair.id, len(grams)))
                for gram in grams:
                    self._grams.setdefault(gram, []).append(len(self._texts) - 1)

    def found(self, turns: Sequence[list[str]], said: list[str]) -> Iterator[tuple[str, str]]:
        """(pair id, "exact" or "near") of what a row holds: its turns, and all that is said before the last."""
        for prompt in {" ".join(said), *(" ".join(t) for t in turns[:-1])}:
            for pair in self._answered.get((prompt, " ".join(turns[-1])), ()):
                yield pair, "exact"
            for pair in self._prompts.get(prompt, ()):
                yield pair, "near"
        grams = {gram for words in turns for gram in _grams(words)}
        hits = Counter(text for gram in grams & self._grams.keys() for text in self._grams[gram])
        for text, count in hits.items():
            pair, size = self._texts[text]
            if count >= SHARE * size:
                yield pair, "near"


def _said(messages: Messages, stop: int) -> str:
    """All that is said before turn `stop`, system turns aside."""
    return "\n".join(str(m["content"]) for m in messages[:stop] if m["role"] != "system")


def _conversations(sample: Sample) -> tuple[Messages, ...]:
    if isinstance(sample, Row):
        return (sample.messages,)
    return (sample.chosen, sample.rejected) if sample.rejected else (sample.chosen,)


def _grams(words: list[str]) -> Iterator[int]:
    return (hash(tuple(words[i : i + WORDS])) for i in range(len(words) - WORDS + 1))
