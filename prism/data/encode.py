"""Rows to token ids and response masks, cut to the longest length that is allowed."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from prism.data.rows import Message, Messages, Pair, Row
from prism.data.template import ChatTemplate, Rendered, Span, render_plain, shared
from prism.errors import ConfigError, RowError

Responses = Literal["last", "all"]


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids, `[length]` int64, and which of them carry loss, `[length]` bool (never the first)."""

    ids: npt.NDArray[np.int64]
    response: npt.NDArray[np.bool_]
    truncated: bool = False

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def response_tokens(self) -> int:
        return int(self.response.sum())


PROBE = "A"  # begins an answer, as most begin with a letter
NOTHING = Encoded(np.empty(0, np.int64), np.empty(0, np.bool_))


class Encoder:
    """Turns messages into `Encoded`, the same way for scoring, targets and training.

    Args:
        tokenizer: a transformers tokenizer.
        max_length: longest sequence, in tokens. The prompt is cut from the left, keeping BOS, before a response is cut.
        responses: the last assistant turn, or all of them.
        plain: join prompt and completion as text even where the tokenizer has a chat template.
        vocabulary: how many token ids the model knows; None checks nothing.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        max_length: int,
        responses: Responses = "last",
        plain: bool = False,
        vocabulary: int | None = None,
    ) -> None:
        if max_length < 2:
            raise ConfigError(f"max_length must be at least 2 tokens, not {max_length}")
        self.vocabulary = vocabulary
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.responses = responses
        self.template = None if plain or not tokenizer.chat_template else ChatTemplate(tokenizer)

    def row(self, row: Row) -> Encoded:
        """Raises RowError where the template refuses the row or leaves no response."""
        return self._encode(row.messages, row.strings, self.responses)

    def pair(self, pair: Pair) -> tuple[Encoded, Encoded]:
        """(prompt + chosen, prompt + rejected), the latter of length 0 where the pair has none.

        Raises:
            RowError: as `row`, and where truncation makes both equal.
        """
        if not pair.rejected:
            return self._encode(pair.chosen, pair.strings, "last"), NOTHING
        chosen, rejected = (self._encode(side, pair.strings, "last") for side in (pair.chosen, pair.rejected))
        if np.array_equal(chosen.ids, rejected.ids):
            raise RowError("chosen and rejected are the same tokens" + (" once truncated" if chosen.truncated else ""))
        return chosen, rejected

    def prompt(self, messages: Messages, strings: bool = False) -> npt.NDArray[np.int64]:
        """Token ids [length] that an answer to `messages` follows, as in a row that ends with it; `strings` as in
        `Row`. Raises RowError where the template refuses them."""
        if self.template is not None:
            text, special = self.template.prompt(messages), False
        elif strings:
            text, special = "".join(str(m["content"]) for m in messages), True
        else:  # blank lines are tokenised by what follows them
            probe = (*messages, {"role": "assistant", "content": PROBE})
            ids, mask = self._plain(render_plain(probe, False, [len(messages)], ""))
            return ids[: int(mask.argmax())]
        ids = self.tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"]
        return np.asarray(ids, dtype=np.int64)

    def conversation(self, messages: Messages) -> Encoded:
        """Messages that end with an answer, which carries the loss; raises RowError as `row`."""
        return self._encode(messages, False, "last")

    def _encode(self, messages: Messages, strings: bool, responses: Responses) -> Encoded:
        turns = [i for i, m in enumerate(messages) if _answers(m)]
        turns = turns[-1:] if responses == "last" else turns
        if self.template is not None:
            rendered = self.template.render(messages, turns)
            ids, mask = self._tokenize(rendered, add_special_tokens=False)
        else:
            ids, mask = self._plain(render_plain(messages, strings, turns, self.tokenizer.eos_token or ""))
        mask[:1] = False  # nothing predicts the first token
        encoded = self._truncate(ids, mask)
        if not encoded.response.any():
            raise RowError(f"no response token is left within {self.max_length} tokens")
        if self.vocabulary is not None and (top := int(encoded.ids.max())) >= self.vocabulary:
            raise RowError(f"the tokenizer makes token id {top}, but the model has only {self.vocabulary} embeddings")
        return encoded

    def _plain(self, rendered: Rendered) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        ids, mask = self._tokenize(rendered, add_special_tokens=True)
        bos = self.tokenizer.bos_token_id
        if bos is not None and len(ids) > 1 and ids[0] == ids[1] == bos:  # the row brought a BOS of its own
            ids, mask = ids[1:], mask[1:]
        return ids, mask

    def _tokenize(
        self, rendered: Rendered, add_special_tokens: bool
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        if not self.tokenizer.is_fast:
            return self._tokenize_without_offsets(rendered, add_special_tokens)
        encoding = self.tokenizer(
            rendered.text,
            add_special_tokens=add_special_tokens,
            return_offsets_mapping=True,
            return_attention_mask=False,
            verbose=False,
        )
        ids = np.asarray(encoding["input_ids"], dtype=np.int64)
        offsets = np.asarray(encoding["offset_mapping"], dtype=np.int64).reshape(-1, 2)
        mask = np.zeros(len(ids), dtype=np.bool_)
        for span in rendered.responses:
            mask |= _covered(offsets, span)
        return ids, mask

    def _tokenize_without_offsets(
        self, rendered: Rendered, add_special_tokens: bool
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        ids = self._ids(rendered.text)
        mask = [False] * len(ids)
        for start, end in rendered.responses:
            first, _ = self._within(ids, rendered.text[:start])
            last, straddles = self._within(ids, rendered.text[:end])
            mask[first : last + straddles] = [True] * (last + straddles - first)
        bos = self.tokenizer.bos_token_id
        if add_special_tokens and bos is not None and self._ids(rendered.text, add_special_tokens=True)[:1] == [bos]:
            ids, mask = [bos, *ids], [False, *mask]
        return np.asarray(ids, dtype=np.int64), np.asarray(mask, dtype=np.bool_)

    def _within(self, ids: list[int], text: str) -> tuple[int, bool]:
        """How many of the first tokens lie within `text`, where `ids` begin, and whether the next one does in part."""
        own = self._ids(text)
        same = count = shared(ids, own)
        rest = self.tokenizer.decode(own[same:])  # tokens differ close to a boundary, the text doesn't
        while count < len(ids) and rest.startswith(self.tokenizer.decode(ids[same : count + 1])):
            count += 1
        return count, count < len(ids) and self.tokenizer.decode(ids[same:count]) != rest

    def _ids(self, text: str, add_special_tokens: bool = False) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=add_special_tokens, verbose=False)["input_ids"])

    def _truncate(self, ids: npt.NDArray[np.int64], mask: npt.NDArray[np.bool_]) -> Encoded:
        if not mask.any():
            return Encoded(ids, mask)
        stop = int(np.flatnonzero(mask)[-1]) + 1
        ids, mask = ids[:stop], mask[:stop]  # what follows the last response changes no loss in a causal model
        if stop <= self.max_length:
            return Encoded(ids, mask)
        # The last response is the last run of True; whatever precedes it is prompt.
        start = int(np.flatnonzero(~mask)[-1]) + 1
        head = 1 if start > 0 and ids[0] == self.tokenizer.bos_token_id else 0
        room = self.max_length - head
        first = min(stop - room, start - (1 - head))  # keep one prompt token to predict the first response token
        keep = np.r_[0:head, first : first + room]
        cut_ids, cut_mask = ids[keep], mask[keep]
        cut_mask[:1] = False
        return Encoded(cut_ids, cut_mask, truncated=True)


def _answers(message: Message) -> bool:
    return message["role"] == "assistant" and bool(message["content"].strip())


def _covered(offsets: npt.NDArray[np.int64], span: Span) -> npt.NDArray[np.bool_]:
    """Tokens from the first to the last that hold a character of `span`. A token that straddles the start counts as
    response, since it carries part of it; zero-width tokens inside count too."""
    inside = np.flatnonzero((offsets[:, 1] > span[0]) & (offsets[:, 0] < span[1]))
    mask = np.zeros(len(offsets), dtype=np.bool_)
    if len(inside):
        mask[inside[0] : inside[-1] + 1] = True
    return mask
