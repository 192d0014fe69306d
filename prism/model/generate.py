"""Answers to prompts, greedy or sampled, in batches padded on the left."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from prism.budget import BATCH_TOKENS
from prism.data import Encoder
from prism.errors import ModelError
from prism.model.memory import in_fitting_batches
from prism.model.model import Model

Took = Callable[[int, int], None]  # rows, tokens


@torch.no_grad()
def generate(
    model: Model,
    prompts: Sequence[Sequence[int]],
    encoder: Encoder,
    *,
    max_new_tokens: int = 256,
    batch_tokens: int = BATCH_TOKENS,
    temperature: float = 0.0,
    seed: int = 0,
    took: Took = lambda rows, tokens: None,
) -> list[str | None]:
    """The model's answer to each prompt (token ids, see `Encoder.prompt`), up to the end of its turn: greedy, or
    sampled at a `temperature` above 0, the same for the same `seed`, prompts and batches.

    None for a prompt that is too long for the memory. Whatever the model's own generation config says of sampling or
    penalties does not count.

    Raises:
        ModelError: a logit is NaN.
    """
    from transformers import GenerationConfig, LogitsProcessorList

    stops = stop_ids(model, encoder)
    config = GenerationConfig(
        **(
            {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
            if temperature
            else {"do_sample": False}
        ),
        num_beams=1,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        max_new_tokens=max_new_tokens,
        use_cache=True,
        eos_token_id=stops or None,
        pad_token_id=stops[0] if stops else 0,
    )
    answers: list[str | None] = [None] * len(prompts)
    lengths = [len(ids) + max_new_tokens for ids in prompts]

    def run(places: list[int]) -> list[list[int]]:
        width = max(len(prompts[i]) for i in places)
        ids = torch.zeros((len(places), width), dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for row, place in enumerate(places):
            prompt = torch.tensor(prompts[place], dtype=torch.int64)
            ids[row, width - len(prompt) :] = prompt
            mask[row, width - len(prompt) :] = 1
        devices = [model.device] if model.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(int(np.random.SeedSequence([seed, min(places)]).generate_state(1)[0]))
            made = model.network.generate(
                input_ids=ids.to(model.device),
                attention_mask=mask.to(model.device),
                generation_config=config,
                logits_processor=LogitsProcessorList([_require_numbers]),
            )
        return made[:, width:].tolist()  # type: ignore[no-any-return]

    def take(places: list[int], found: list[list[int]] | None) -> None:
        for place, ids in zip(places, found or [], strict=False):
            answers[place] = _text(ids, stops, encoder)
        took(len(places), sum(len(ids) for ids in found or []))

    in_fitting_batches(lengths, batch_tokens, run, take)
    return answers


def _require_numbers(_: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    if logits.isnan().any():
        raise ModelError("the model answers with NaN: are its weights NaN, or is --dtype too narrow?")
    return logits


def stop_ids(model: Model, encoder: Encoder) -> list[int]:
    """Tokens that end an answer: the tokenizer's and the model's end of text, and the template's end of turn."""
    own = getattr(model.network.generation_config, "eos_token_id", None)
    found: list[Any] = [encoder.tokenizer.eos_token_id, *(own if isinstance(own, list) else [own])]
    if encoder.template is not None and (mark := encoder.template.end_of_turn):
        ids = encoder.tokenizer(mark, add_special_tokens=False)["input_ids"]
        found += ids if len(ids) == 1 else []
    return list(dict.fromkeys(int(i) for i in found if i is not None))


def _text(ids: list[int], stops: list[int], encoder: Encoder) -> str:
    end = next((place for place, token in enumerate(ids) if token in stops), len(ids))
    text = str(encoder.tokenizer.decode(ids[:end], skip_special_tokens=True))
    if encoder.template is not None and (mark := encoder.template.end_of_turn.strip()):
        text = text.partition(mark)[0]
    return text.strip()
