"""Render conversations with the tokenizer's own chat template and find the response in what it renders.

The response is found without knowing the template: a rendering with the answer replaced by a marker shows what the
template writes before and after the answer. What lies between is the answer, however the template trimmed it.
"""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from prism.data.rows import Message
from prism.errors import RowError, first_line

# Templates that print today's date would make scores depend on the day; this is Llama 3's own fallback date.
FROZEN_TODAY = datetime.datetime(2024, 7, 26)
DIRECTIVES = "aAbBdHIjmMpSuUVwWyYGFDTcxX"
MARKER = "\u2603PRISM"
Span = tuple[int, int]


@dataclass(frozen=True)
class Rendered:
    """Text and the [start, end) characters of each response, its end-of-turn marker included."""

    text: str
    responses: tuple[Span, ...]


class ChatTemplate:
    """The tokenizer's chat template, with the clock stopped."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def render(self, messages: Sequence[Message], responses: Sequence[int]) -> Rendered:
        """Render a conversation and find the turns `responses` (indices of assistant messages) in it.

        Raises:
            RowError: the template refuses the conversation, or does not show one of the responses.
        """
        text = self._apply(messages)
        return Rendered(text, tuple(self._find(text, messages, turn) for turn in responses))

    def prompt(self, messages: Sequence[Message]) -> str:
        """What comes before an answer to `messages`; raises RowError where the template refuses them."""
        return self._apply(messages, add_generation_prompt=True)

    def _find(self, text: str, messages: Sequence[Message], turn: int) -> Span:
        marker = MARKER
        while marker in text:
            marker += MARKER
        marked = self._apply([*messages[:turn], {**messages[turn], "content": marker}, *messages[turn + 1 :]])
        before, found, after = marked.partition(marker)
        if not found:
            raise RowError("the chat template does not show the response")
        start, end = len(before), len(text) - len(after)
        if not (text.startswith(before) and text.endswith(after) and end >= start):
            # The template moves parts of the answer (a thinking section, say): it begins where generation would.
            header = self._apply(messages[:turn], add_generation_prompt=True)
            start = len(header) if text.startswith(header) else shared(text, marked)
            end = len(text) - shared(text[start:][::-1], marked[start:][::-1])
            after = text[end:]
        if not text[start:end].strip():
            raise RowError("the chat template leaves nothing of the response")
        if after.startswith(self.end_of_turn):
            end += len(self.end_of_turn)
        return start, end

    @cached_property
    def end_of_turn(self) -> str:
        """What the template writes after an answer, up to the first special token; without one, up to its last
        visible character (often nothing)."""
        probe = self._apply([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": MARKER}])
        after = probe[probe.rfind(MARKER) + len(MARKER) :]
        ends = [after.find(t) + len(t) for t in special_tokens(self._tokenizer) if t in after]
        return after[: min(ends)] if ends else after.rstrip()

    @cached_property
    def _source(self) -> str:
        """The template with a clock of its own: transformers hands no functions on to templates."""
        template = str(self._tokenizer.get_chat_template())
        if "strftime_now" not in template:
            return template
        today = {letter: FROZEN_TODAY.strftime(f"%{letter}") for letter in DIRECTIVES}
        changes = {f"%{k}": v for k, v in today.items()} | {f"%-{k}": v.lstrip("0") or "0" for k, v in today.items()}
        replaced = "".join(f".replace({directive!r}, {text!r})" for directive, text in changes.items())
        return f"{{% macro strftime_now(format) %}}{{{{ format{replaced} }}}}{{% endmacro %}}\n{template}"

    def _apply(self, messages: Sequence[Message], add_generation_prompt: bool = False) -> str:
        try:
            text = self._tokenizer.apply_chat_template(
                list(messages),
                chat_template=self._source,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
            )
        except Exception as error:  # a template is a program of the model's author: it can fail in any way
            raise RowError(f"the chat template refuses the conversation: {first_line(error)}") from error
        assert isinstance(text, str)
        return text


def shared(a: Sequence[Any], b: Sequence[Any]) -> int:
    """Length of the longest common beginning."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def special_tokens(tokenizer: Any) -> set[str]:
    """Every token that the tokenizer never splits: special tokens and added ones that are not words."""
    added = tokenizer.added_tokens_decoder.values()
    marks = {str(token) for token in added if token.special or not str(token).strip().isalnum()}
    return {token for token in marks | set(tokenizer.all_special_tokens) if token.strip()}


def render_plain(messages: Sequence[Message], strings: bool, responses: Sequence[int], eos: str) -> Rendered:
    """Text for tokenizers with no template: prompt and completion strings joined as they are, other turns by blank
    lines; each response ends with the end-of-text token, if there is one."""
    text, spans = "", []
    for turn, message in enumerate(messages):
        if turn and not strings:
            text += "\n\n"
        start = len(text)
        text += message["content"]
        if turn in responses:
            text += eos
            spans.append((start, len(text)))
    return Rendered(text, tuple(spans))
