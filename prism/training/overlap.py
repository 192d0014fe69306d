"""Rows to train on that hold what a model will be tested with."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from prism.data import Pair, Row, Target
from prism.data.rows import Messages

WORDS = 13  # as in GPT-3's contamination study (arXiv 2005.14165, appendix C)
SHARE = 0.5
SHOWN = 20
WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Overlap:
    """Held-out pairs that the data holds: exactly, or nearly; (pair id, row id) of the first row found for each."""

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

    def notice(self) -> str:
        if not self.exact and not self.near:
            return f"none of the {self.pairs} held-out pairs is in the data, exactly or nearly"
        first = next(iter((self.exact or self.near).items()))
        return (
            f"of {self.pairs} held-out pairs the data holds {len(self.exact)} exactly and {len(self.near)} nearly "
            f"(the first: pair {first[0]} in row {first[1]}): figures on these are no evidence"
        )


def find_overlap(rows: Iterable[Row], target: Target) -> Overlap:
    """Held-out pairs of which `rows` hold the prompt with one of the answers (exact), or a good part (near).

    Texts are compared by their words alone, in lower case. Near is: the whole prompt, of five words or more, is a turn
    of the row; or the row holds at least half of the 13-word sequences of the pair's prompt or of one of its answers.
    Memory grows with the held-out texts, not with the rows.
    """
    index = _Index(target)
    exact: dict[str, str] = {}
    near: dict[str, str] = {}
    for row in rows:
        for pair, kind in index.found(row):
            found = exact if kind == "exact" else near
            found.setdefault(pair, row.id)
    return Overlap(index.pairs, exact, {pair: row for pair, row in near.items() if pair not in exact})


class _Index:
    """The held-out texts, by their words."""

    def __init__(self, target: Target) -> None:
        self.pairs = 0
        self._prompts: dict[str, list[str]] = {}
        self._answered: dict[tuple[str, str], list[str]] = {}
        self._grams: dict[int, list[int]] = {}  # hash of a sequence → texts
        self._texts: list[tuple[str, int]] = []  # (pair, how many sequences)
        for pair in target:
            self.pairs += 1
            self._add(pair)

    def _add(self, pair: Pair) -> None:
        prompt = _words(_said(pair.chosen, len(pair.chosen) - 1))
        answers = [_words(str(side[-1]["content"])) for side in (pair.chosen, pair.rejected)]
        if len(prompt) >= 5:
            self._prompts.setdefault(" ".join(prompt), []).append(pair.id)
        for answer in answers:
            self._answered.setdefault((" ".join(prompt), " ".join(answer)), []).append(pair.id)
        for words in (prompt, *answers):
            if grams := set(_grams(words)):
                self._texts.append((pair.id, len(grams)))
                for gram in grams:
                    self._grams.setdefault(gram, []).append(len(self._texts) - 1)

    def found(self, row: Row) -> Iterator[tuple[str, str]]:
        """(pair id, "exact" or "near") of what a row holds."""
        turns = [_words(str(m["content"])) for m in row.messages]
        said = _words(_said(row.messages, len(row.messages) - 1))
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


def _words(text: str) -> list[str]:
    return WORD.findall(text.casefold())


def _grams(words: list[str]) -> Iterator[int]:
    return (hash(tuple(words[i : i + WORDS])) for i in range(len(words) - WORDS + 1))
