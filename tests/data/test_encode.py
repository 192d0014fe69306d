"""From messages to tokens and masks: truncation, plain text, tokens that straddle, tokenizers without offsets."""

import copy
from typing import Any

import numpy as np
import pytest
from transformers import ByT5Tokenizer

from prism.data import Encoder, Pair, Row
from prism.data.rows import Message, Messages
from prism.errors import ConfigError, RowError
from tests.data.styles import STYLES

LONG = "Once there was a fisher who lived by the sea. " * 6


def turn(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def make_row(*messages: Message, strings: bool = False) -> Row:
    return Row("a", messages, strings, "s", "c", "f.jsonl", 1, 0, {})


def exchange(question: str, answer: str, strings: bool = False) -> Row:
    return make_row(turn("user", question), turn("assistant", answer), strings=strings)


def make_pair(prompt: str, chosen: str, rejected: str, strings: bool = False) -> Pair:
    sides: list[Messages] = [(turn("user", prompt), turn("assistant", answer)) for answer in (chosen, rejected)]
    return Pair("p", sides[0], sides[1], strings, "c", "f.jsonl", 1, {})


class NoOffsets:
    """The tokenizer it wraps, as it would be without a fast implementation."""

    is_fast = False

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def __call__(self, text: str, **options: Any) -> Any:
        assert "return_offsets_mapping" not in options
        return self._tokenizer(text, **options)


@pytest.fixture
def bare(tokenizer: Any) -> Any:
    """A tokenizer with no chat template."""
    plain = copy.deepcopy(tokenizer)
    plain.chat_template = None
    return plain


class TestTruncation:
    def test_prompt_is_cut_from_the_left_keeping_bos(self, tokenizer: Any) -> None:
        row = exchange(LONG, "The sea is deep.")
        whole = Encoder(tokenizer, max_length=1000).row(row)
        cut = Encoder(tokenizer, max_length=30).row(row)
        assert not whole.truncated and cut.truncated
        assert len(cut) == 30
        assert cut.ids[0] == tokenizer.bos_token_id
        assert cut.ids[1:].tolist() == whole.ids[-29:].tolist()
        assert cut.response_tokens == whole.response_tokens
        assert cut.response[-1]

    def test_without_bos_the_whole_room_goes_to_the_end(self, tokenizer: Any) -> None:
        dressed = STYLES["qwen-2.5"].on(tokenizer)
        whole = Encoder(dressed, max_length=1000).row(exchange(LONG, "Yes."))
        cut = Encoder(dressed, max_length=30).row(exchange(LONG, "Yes."))
        assert cut.ids.tolist() == whole.ids[-30:].tolist()
        assert cut.response_tokens == whole.response_tokens

    @pytest.mark.parametrize("style", ["llama-3", "qwen-2.5"])
    def test_response_is_cut_from_the_right_once_the_prompt_is_gone(self, style: str, tokenizer: Any) -> None:
        dressed = STYLES[style].on(tokenizer)
        whole = Encoder(dressed, max_length=1000).row(exchange("Tell me.", LONG))
        cut = Encoder(dressed, max_length=10).row(exchange("Tell me.", LONG))
        start = int(np.flatnonzero(whole.response)[0])
        first = dressed.bos_token_id if STYLES[style].bos else whole.ids[start - 1]
        assert cut.truncated
        assert cut.ids.tolist() == [first, *whole.ids[start : start + 9]]
        assert cut.response.tolist() == [False] + [True] * 9

    @pytest.mark.parametrize("spare", [0, 1, 2])
    def test_flag_says_whether_anything_was_cut(self, spare: int, tokenizer: Any) -> None:
        row = exchange("Say hi", "Hi!")
        length = len(Encoder(tokenizer, max_length=1000).row(row))
        encoded = Encoder(tokenizer, max_length=length - 1 + spare).row(row)
        assert encoded.truncated == (spare == 0)
        assert len(encoded) == length - (spare == 0)

    def test_last_of_many_responses_survives(self, tokenizer: Any) -> None:
        row = make_row(*[turn(r, LONG) for r in ("user", "assistant", "user")], turn("assistant", "Short."))
        last = Encoder(tokenizer, max_length=1000, responses="last").row(row)
        cut = Encoder(tokenizer, max_length=40, responses="all").row(row)
        assert tokenizer.decode(cut.ids[-last.response_tokens :]) == "Short.<|end|>"
        assert cut.response[-last.response_tokens :].all()

    def test_a_cut_inside_a_response_leaves_its_first_token_without_loss(self, tokenizer: Any) -> None:
        """Nothing predicts the first token that is kept, where no BOS stands before it."""
        row = make_row(turn("user", "a"), turn("assistant", LONG), turn("user", "b"), turn("assistant", "Short."))
        cut = Encoder(STYLES["qwen-2.5"].on(tokenizer), max_length=40, responses="all").row(row)
        assert cut.response[:3].tolist() == [False, True, True]

    def test_a_megabyte_goes_through(self, tokenizer: Any) -> None:
        encoded = Encoder(tokenizer, max_length=64).row(exchange("word " * 100_000, "x" * 500_000))
        assert len(encoded) == 64 and encoded.truncated and encoded.response_tokens == 63

    def test_two_tokens_are_the_least(self, tokenizer: Any) -> None:
        assert Encoder(tokenizer, max_length=2).row(exchange("Say hi", "Hi!")).response.tolist() == [False, True]
        with pytest.raises(ConfigError, match="at least 2 tokens, not 1"):
            Encoder(tokenizer, max_length=1)


class TestPlain:
    @pytest.mark.parametrize("strings", [True, False])
    def test_response_and_end_of_text(self, strings: bool, bare: Any) -> None:
        encoder = Encoder(bare, max_length=200)
        encoded = encoder.row(exchange("Once upon a time", " there was a fox.", strings))
        assert encoder.template is None
        assert bare.decode(encoded.ids[encoded.response]) == " there was a fox." + bare.eos_token
        text = f"Once upon a time{'' if strings else chr(10) * 2} there was a fox.{bare.eos_token}"
        assert encoded.ids.tolist() == bare(text)["input_ids"]

    def test_plain_passes_over_a_template(self, tokenizer: Any, bare: Any) -> None:
        row = exchange("Once upon a time", " there was a fox.", strings=True)
        plain = Encoder(tokenizer, max_length=200, plain=True).row(row)
        assert plain.ids.tolist() == Encoder(bare, max_length=200).row(row).ids.tolist()

    def test_tokenizer_adds_bos_once(self, bare: Any) -> None:
        from tokenizers.processors import TemplateProcessing

        bos = (bare.bos_token, bare.bos_token_id)
        bare.backend_tokenizer.post_processor = TemplateProcessing(single=f"{bos[0]} $A", special_tokens=[bos])
        encoder = Encoder(bare, max_length=200)
        without = encoder.row(exchange("Hello", " you", strings=True))
        brought = encoder.row(exchange(bos[0] + "Hello", " you", strings=True))
        assert without.ids[:2].tolist() == [bos[1], bare("Hello", add_special_tokens=False)["input_ids"][0]]
        assert brought.ids.tolist() == without.ids.tolist()
        assert brought.response.tolist() == without.response.tolist()

    def test_eos_that_the_tokenizer_adds_comes_once(self, bare: Any) -> None:
        from tokenizers.processors import TemplateProcessing

        eos = (bare.eos_token, bare.eos_token_id)
        bare.backend_tokenizer.post_processor = TemplateProcessing(single=f"$A {eos[0]}", special_tokens=[eos])
        encoded = Encoder(bare, max_length=200).row(exchange("Hello", " you", strings=True))
        assert encoded.ids.tolist().count(eos[1]) == 1
        assert encoded.response[-1]

    def test_all_turns(self, bare: Any) -> None:
        row = make_row(turn("user", "a"), turn("assistant", "b"), turn("user", "c"), turn("assistant", "d"))
        encoded = Encoder(bare, max_length=200, responses="all").row(row)
        assert bare.decode(encoded.ids[encoded.response]) == f"b{bare.eos_token}d{bare.eos_token}"

    def test_nothing_predicts_the_first_token(self, bare: Any) -> None:
        row = make_row(turn("assistant", "Hello there"), turn("user", "b"), turn("assistant", "c"))
        encoded = Encoder(bare, max_length=200, responses="all").row(row)
        assert encoded.response[:2].tolist() == [False, True]


class TestStraddling:
    def test_token_across_the_start_counts_as_response(self, bare: Any) -> None:
        (merged,) = bare("the", add_special_tokens=False)["input_ids"]
        encoded = Encoder(bare, max_length=200).row(exchange("x t", "he", strings=True))
        assert encoded.ids.tolist() == bare("x the" + bare.eos_token)["input_ids"]
        assert bare.decode(encoded.ids[encoded.response]) in ("the" + bare.eos_token, " the" + bare.eos_token)
        assert merged in bare("the")["input_ids"]

    def test_characters_of_many_bytes_stay_whole(self, tokenizer: Any) -> None:
        encoded = Encoder(tokenizer, max_length=200).row(exchange("☀", "🦊漢字é\u2028ok"))
        assert tokenizer.decode(encoded.ids[encoded.response]) == "🦊漢字é\u2028ok<|end|>"


class TestWithoutOffsets:
    @pytest.mark.parametrize("style", STYLES)
    def test_same_tokens_and_mask_as_with_offsets(self, style: str, tokenizer: Any) -> None:
        dressed = STYLES[style].on(tokenizer)
        row = make_row(
            turn("user", "Hi — wer bist du?"),
            turn("assistant", "Ich ☀\nbin."),
            turn("user", "a"),
            turn("assistant", "b"),
        )
        fast = Encoder(dressed, max_length=100, responses="all").row(row)
        slow = Encoder(NoOffsets(dressed), max_length=100, responses="all").row(row)
        assert slow.ids.tolist() == fast.ids.tolist()
        assert slow.response.tolist() == fast.response.tolist()

    @pytest.mark.parametrize("strings", [True, False])
    @pytest.mark.parametrize(("prompt", "answer"), [("x t", "he end"), ("Hello", " you"), ("Hello ", "you\n")])
    def test_same_as_plain_text_with_offsets(self, prompt: str, answer: str, strings: bool, bare: Any) -> None:
        fast = Encoder(bare, max_length=100).row(exchange(prompt, answer, strings))
        slow = Encoder(NoOffsets(bare), max_length=100).row(exchange(prompt, answer, strings))
        assert slow.ids.tolist() == fast.ids.tolist()
        assert slow.response.tolist() == fast.response.tolist()

    def test_a_token_across_the_end_counts(self, bare: Any) -> None:
        bare.eos_token = None
        row = make_row(turn("user", "a"), turn("assistant", "b\n"), turn("user", "c"), turn("assistant", "d"))
        fast = Encoder(bare, max_length=100, responses="all").row(row)
        slow = Encoder(NoOffsets(bare), max_length=100, responses="all").row(row)
        assert bare.decode(fast.ids[fast.response]) == "b\n\nd", "BPE merged the answer's newline with the next"
        assert slow.response.tolist() == fast.response.tolist()

    def test_a_slow_tokenizer_of_transformers(self) -> None:
        tokenizer = ByT5Tokenizer()
        assert not tokenizer.is_fast
        encoded = Encoder(tokenizer, max_length=100).row(exchange("Hi", "Grüße", strings=True))
        assert tokenizer.decode(encoded.ids[encoded.response]) == "Grüße</s>"
        assert tokenizer.decode(encoded.ids[~encoded.response]) == "Hi"


class TestRefusals:
    def test_token_id_beyond_the_model(self, tokenizer: Any) -> None:
        dressed = STYLES["chatml"].on(tokenizer)
        row = exchange("Say hi", "Hi!")
        top = int(Encoder(dressed, max_length=100).row(row).ids.max())
        assert Encoder(dressed, max_length=100, vocabulary=top + 1).row(row).response.any()
        with pytest.raises(RowError, match=f"token id {top}, but the model has only {top} embeddings"):
            Encoder(dressed, max_length=100, vocabulary=top).row(row)

    def test_pair_that_truncation_makes_equal(self, tokenizer: Any) -> None:
        pair = make_pair("Tell me.", LONG + "Good.", LONG + "Bad.")
        chosen, rejected = Encoder(tokenizer, max_length=1000).pair(pair)
        assert chosen.ids.tolist() != rejected.ids.tolist()
        with pytest.raises(RowError, match="the same tokens once truncated"):
            Encoder(tokenizer, max_length=20).pair(pair)

    def test_pair_shares_its_prompt(self, tokenizer: Any) -> None:
        chosen, rejected = Encoder(tokenizer, max_length=100).pair(make_pair("Say hi", "Hi!", "No."))
        assert chosen.ids[~chosen.response].tolist() == rejected.ids[~rejected.response].tolist()
        assert tokenizer.decode(rejected.ids[rejected.response]) == "No.<|end|>"

    def test_answers_that_the_template_trims_alike(self, tokenizer: Any) -> None:
        dressed = STYLES["gemma"].on(tokenizer)
        with pytest.raises(RowError, match=r"chosen and rejected are the same tokens$"):
            Encoder(dressed, max_length=100).pair(make_pair("Say hi", "Hi!", " Hi! "))
