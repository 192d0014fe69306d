"""Chat templates of many families: what is rendered, where the response lies, what they refuse."""

import datetime
from typing import Any

import pytest
from transformers.utils import chat_template_utils

from prism.data import Encoder, Row
from prism.data.rows import Message, Messages
from prism.data.template import ChatTemplate, render_plain
from prism.errors import RowError
from tests.data.styles import IM, LLAMA_3, QWEN_3, STYLES, Style

QUESTION: Message = {"role": "user", "content": "Wie heißt du? — say it in two lines"}
ANSWER: Message = {"role": "assistant", "content": "I am PRISM ☀\n\nIch heiße so, since today."}
TWO_TURNS: Messages = (QUESTION, ANSWER, {"role": "user", "content": "Sure?"}, {"role": "assistant", "content": "Yes."})


def make_row(*messages: Message, strings: bool = False) -> Row:
    return Row("a", messages, strings, "s", "c", "f.jsonl", 1, 0, {})


def pieces(tokenizer: Any, ids: Any, mask: Any) -> list[str]:
    """The text of each run of masked tokens."""
    runs: list[list[int]] = []
    previous = False
    for token, inside in zip(ids.tolist(), mask.tolist(), strict=True):
        if inside and not previous:
            runs.append([])
        if inside:
            runs[-1].append(token)
        previous = inside
    return [tokenizer.decode(run) for run in runs]


@pytest.fixture(params=STYLES)
def style(request: pytest.FixtureRequest) -> Style:
    return STYLES[request.param]


@pytest.fixture
def dressed(style: Style, tokenizer: Any) -> Any:
    return style.on(tokenizer)


def test_response_is_the_answer_and_its_end_of_turn(style: Style, dressed: Any) -> None:
    encoded = Encoder(dressed, max_length=500).row(make_row(QUESTION, ANSWER))
    (response,) = pieces(dressed, encoded.ids, encoded.response)
    assert response.lstrip(" ") == ANSWER["content"] + style.end
    assert encoded.response[-1], "nothing follows the last response"
    assert not encoded.truncated


def test_every_response_of_a_conversation(style: Style, dressed: Any) -> None:
    encoded = Encoder(dressed, max_length=500, responses="all").row(make_row(*TWO_TURNS))
    responses = pieces(dressed, encoded.ids, encoded.response)
    assert [r.lstrip(" ") for r in responses] == [ANSWER["content"] + style.end, "Yes." + style.end]
    only_last = Encoder(dressed, max_length=500).row(make_row(*TWO_TURNS))
    assert only_last.ids.tolist() == encoded.ids.tolist()
    assert [r.lstrip(" ") for r in pieces(dressed, only_last.ids, only_last.response)] == ["Yes." + style.end]


@pytest.mark.parametrize("answer", ["Paris", " Paris. ", "\n\nParis\n", "a", "[INST] no [/INST] yes", "…☃PRISM", "☃"])
@pytest.mark.parametrize("question", ["Hi", "☃PRISM", "Paris"])
def test_tokens_are_what_the_tokenizer_renders(style: Style, dressed: Any, question: str, answer: str) -> None:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    encoded = Encoder(dressed, max_length=500).row(make_row(*messages))
    frozen = dressed.apply_chat_template(messages, tokenize=True, date_string="26 Jul 2024")["input_ids"]
    assert frozen[: len(encoded)] == encoded.ids.tolist()
    assert not set(dressed.decode(frozen[len(encoded) :]).replace("<|endoftext|>", "")) - {"\n"}
    (response,) = pieces(dressed, encoded.ids, encoded.response)
    expected = answer.strip() if style.trims else answer.lstrip("\n") if style.template == QWEN_3 else answer
    assert response.endswith(expected + style.end)
    assert len(response) <= len(expected + style.end) + 1, "at most the space that Mistral writes before an answer"


def test_one_bos_at_most(style: Style, dressed: Any) -> None:
    from tokenizers.processors import TemplateProcessing

    if style.bos:  # as Llama's and Gemma's tokenizers add one
        special = (style.bos, dressed.bos_token_id)
        dressed.backend_tokenizer.post_processor = TemplateProcessing(
            single=f"{style.bos} $A", special_tokens=[special]
        )
    encoded = Encoder(dressed, max_length=500).row(make_row(QUESTION, ANSWER))
    assert encoded.ids.tolist().count(dressed.bos_token_id) == style.template.count("bos_token }}")


def test_system_role_is_rendered_or_refused(style: Style, dressed: Any) -> None:
    row = make_row({"role": "system", "content": "Be brief."}, QUESTION, ANSWER)
    encoder = Encoder(dressed, max_length=500)
    if not style.system:
        with pytest.raises(RowError, match=r"chat template refuses the conversation: .*(System role|alternate)"):
            encoder.row(row)
        return
    encoded = encoder.row(row)
    assert "Be brief." in dressed.decode(encoded.ids)
    assert pieces(dressed, encoded.ids, encoded.response) == [ANSWER["content"] + style.end]


@pytest.mark.parametrize("name", ["gemma", "mistral"])
def test_roles_that_do_not_alternate_are_a_bad_row(name: str, tokenizer: Any) -> None:
    encoder = Encoder(STYLES[name].on(tokenizer), max_length=500)
    with pytest.raises(RowError, match="chat template refuses the conversation: Conversation roles must alternate"):
        encoder.row(make_row(QUESTION, QUESTION, ANSWER))


@pytest.mark.parametrize("name", ["qwen-2.5", "qwen-3", "gemma", "chatml", "phi-3", "zephyr"])
def test_newline_after_the_turn_carries_no_loss(name: str, tokenizer: Any) -> None:
    style = STYLES[name]
    template = ChatTemplate(style.on(tokenizer))
    rendered = template.render([QUESTION, ANSWER], [1])
    (span,) = rendered.responses
    assert rendered.text[slice(*span)] == ANSWER["content"] + style.end
    assert rendered.text[span[1]] == "\n"


@pytest.fixture(params=[1999, 2031])
def year(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    class Clock(datetime.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return cls(request.param, 3, 4)

    monkeypatch.setattr(chat_template_utils, "datetime", Clock)
    year: int = request.param
    return year


def test_date_stands_still(year: int, tokenizer: Any) -> None:
    dressed = STYLES["llama-3.2"].on(tokenizer)
    assert f"04 Mar {year}" in dressed.apply_chat_template([QUESTION, ANSWER], tokenize=False), "the clock is patched"
    encoded = Encoder(dressed, max_length=500).row(make_row(QUESTION, ANSWER))
    assert "Today Date: 26 Jul 2024\n" in dressed.decode(encoded.ids)


@pytest.mark.parametrize(
    ("directives", "text"), [("%Y-%m-%d", "2024-07-26"), ("%A, %B %-d", "Friday, July 26"), ("%-m/%y", "7/24")]
)
def test_every_way_to_print_the_date_stands_still(directives: str, text: str, tokenizer: Any) -> None:
    dressed = STYLES["chatml"].on(tokenizer)
    dressed.chat_template = "  {% if true %}" + f"{{{{ strftime_now('{directives}') }}}}" + "{% endif %}\n" + LLAMA_3
    rendered = ChatTemplate(dressed).render([QUESTION, ANSWER], [1])
    expected = dressed.apply_chat_template([QUESTION, ANSWER], tokenize=False)
    assert rendered.text.startswith(text)
    assert rendered.text.partition("<s>")[2] == expected.partition("<s>")[2]


def test_thinking_tags_that_the_template_inserts_are_prompt(tokenizer: Any) -> None:
    dressed = STYLES["qwen-3"].on(tokenizer)
    encoded = Encoder(dressed, max_length=500).row(make_row(QUESTION, ANSWER))
    assert dressed.decode(encoded.ids[~encoded.response]).endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")


def test_thinking_of_the_answer_is_response(tokenizer: Any) -> None:
    dressed = STYLES["qwen-3"].on(tokenizer)
    answer = {"role": "assistant", "content": "<think>\nWhat now?\n</think>\n\nThis."}
    encoded = Encoder(dressed, max_length=500).row(make_row(QUESTION, answer))
    assert pieces(dressed, encoded.ids, encoded.response) == [answer["content"] + "<|im_end|>"]


def test_thinking_that_the_template_drops_carries_no_loss(tokenizer: Any) -> None:
    """Of earlier turns Qwen3 shows only what follows the thinking section."""
    dressed = STYLES["qwen-3"].on(tokenizer)
    thought = {"role": "assistant", "content": "<think>\nWhat now?\n</think>\n\nThis."}
    row = make_row(QUESTION, thought, {"role": "user", "content": "Sure?"}, {"role": "assistant", "content": "Yes."})
    encoded = Encoder(dressed, max_length=500, responses="all").row(row)
    assert pieces(dressed, encoded.ids, encoded.response) == ["This.<|im_end|>", "Yes.<|im_end|>"]


def test_mask_is_the_one_of_generation_blocks(tokenizer: Any) -> None:
    dressed = STYLES["generation"].on(tokenizer)
    encoded = Encoder(dressed, max_length=500, responses="all").row(make_row(*TWO_TURNS))
    own = dressed.apply_chat_template(
        list(TWO_TURNS), tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    assert own["assistant_masks"][: len(encoded)] == encoded.response.astype(int).tolist()


def test_added_tokens_that_are_not_special_end_a_turn(tokenizer: Any) -> None:
    """Many fine-tunes add ChatML's tokens as ordinary ones, and end the text, not the turn, with EOS."""
    style = Style(STYLES["chatml"].template + "{{ eos_token }}", "<s>", "</s>", "<|im_end|>")
    dressed = style.on(tokenizer)
    dressed.add_tokens(["wonderful", *IM[:2]])
    encoded = Encoder(dressed, max_length=500, responses="all").row(make_row(*TWO_TURNS))
    responses = pieces(dressed, encoded.ids, encoded.response)
    assert responses == [ANSWER["content"] + "<|im_end|>", "Yes.<|im_end|>"]


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ messages[0]['content'] }}", "does not show the response"),
        ("{% for m in messages %}{{ m['content'] if 'PRISM' in m['content'] }}{% endfor %}", "leaves nothing"),
        ("{{ messages[0]['content'] / 2 }}", "refuses the conversation"),
        ("{{ 1 / 0 }}", "refuses the conversation: division by zero"),
        ("{% for %}", "refuses the conversation"),
        ("{{ raise_exception('no\\nway') }}", "refuses the conversation: no$"),
    ],
)
def test_broken_templates_are_bad_rows(template: str, reason: str, tokenizer: Any) -> None:
    dressed = STYLES["chatml"].on(tokenizer)
    dressed.chat_template = template
    with pytest.raises(RowError, match=reason):
        Encoder(dressed, max_length=500).row(make_row(QUESTION, {"role": "assistant", "content": "fine"}))


def test_named_templates_use_the_default(tokenizer: Any) -> None:
    dressed = STYLES["chatml"].on(tokenizer)
    dressed.chat_template = {"default": dressed.chat_template, "rag": "{{ 'other' }}"}
    encoded = Encoder(dressed, max_length=500).row(make_row(QUESTION, ANSWER))
    assert pieces(dressed, encoded.ids, encoded.response) == [ANSWER["content"] + "<|im_end|>"]


def test_plain_strings_join_as_they_are_and_turns_by_blank_lines() -> None:
    joined = render_plain((QUESTION, ANSWER), True, [1], "</s>")
    assert joined.text == QUESTION["content"] + ANSWER["content"] + "</s>"
    turns = render_plain(TWO_TURNS, False, [1, 3], "</s>")
    assert turns.text == f"{QUESTION['content']}\n\n{ANSWER['content']}</s>\n\nSure?\n\nYes.</s>"
    assert [turns.text[a:b] for a, b in turns.responses] == [ANSWER["content"] + "</s>", "Yes.</s>"]
