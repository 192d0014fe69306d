"""Pairs from a model's own answers: sampled ones that are wrong, and those under a good and a bad system prompt."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from prism.data import Encoded, Encoder, collate
from prism.data.forms import pool_messages, prompt_messages
from prism.data.rows import Messages
from prism.errors import RowError
from prism.model import Model, load_model, sample_losses, token_losses
from prism.model.generate import generate
from prism.model.memory import in_fitting_batches
from prism.pairs.config import PairsConfig
from prism.pairs.items import Draft, Item, Reading
from prism.pairs.verify import verifier
from prism.progress import Progress


@dataclass(frozen=True)
class Speaker:
    """A model that answers and judges, and how prompts are put to it."""

    config: PairsConfig
    model: Model
    encoder: Encoder
    progress: Progress

    @classmethod
    def load(cls, config: PairsConfig, progress: Progress) -> "Speaker":
        """Raises ModelError or ConfigError where the model can't be loaded."""
        assert config.model is not None
        progress.note(f"loading {config.model}")
        model = load_model(
            config.model,
            adapter=config.adapter,
            tokenizer=config.tokenizer,
            revision=config.revision,
            parameters="all",
            device=config.device,
            dtype=config.dtype,
            trust_remote_code=config.trust_remote_code,
            allow_pickle=config.allow_pickle,
        )
        return cls(config, model, model.encoder(max_length=config.max_length, plain=config.plain), progress)

    def answers(self, prompts: Sequence[tuple[Messages, bool]], seed: int) -> list[str | None]:
        """An answer to each prompt (its turns, and whether it came as one string), None where the template refuses it,
        or it leaves no room for an answer."""
        most = (self.model.longest or self.encoder.max_length + self.config.max_new_tokens) - self.config.max_new_tokens
        ids: list[list[int]] = []
        places: list[int] = []
        for place, (prompt, strings) in enumerate(prompts):
            try:
                found = self.encoder.prompt(prompt, strings).tolist()
            except RowError:
                continue
            if 0 < len(found) <= most:
                ids.append(found)
                places.append(place)
        self.progress.start("answers", len(ids))
        made = generate(
            self.model,
            ids,
            self.encoder,
            max_new_tokens=self.config.max_new_tokens,
            batch_tokens=self.config.batch_tokens,
            temperature=self.config.temperature,
            seed=seed,
            took=self.progress.advance,
        )
        answers: list[str | None] = [None] * len(prompts)
        for place, answer in zip(places, made, strict=True):
            answers[place] = answer
        return answers

    @torch.no_grad()
    def likes(self, asked: Sequence[tuple[Messages, str]]) -> list[float]:
        """Mean loss per response token of each answer to its prompt, in nats; NaN where it can't be encoded."""
        encoded: list[Encoded] = []
        places: list[int] = []
        losses = [float("nan")] * len(asked)
        for place, (prompt, answer) in enumerate(asked):
            try:
                encoded.append(self.encoder.conversation((*prompt, {"role": "assistant", "content": answer})))
            except RowError:
                continue
            places.append(place)
        lengths = [len(e) for e in encoded]
        self.progress.start("options", len(encoded))

        def run(batch: list[int]) -> list[float]:
            collated = collate([encoded[i] for i in batch]).to(self.model.device)
            sums = sample_losses(token_losses(self.model.network, collated), collated)
            return (sums / torch.bincount(collated.owner, minlength=len(batch))).tolist()

        def take(batch: list[int], found: list[float] | None) -> None:
            for i, loss in zip(batch, found or [], strict=False):
                losses[places[i]] = loss
            self.progress.advance(len(batch), sum(lengths[i] for i in batch))

        in_fitting_batches(lengths, self.config.batch_tokens, run, take)
        return losses


def sampled_pairs(config: PairsConfig, reading: Reading, speaker: Speaker) -> Iterator[Draft]:
    """y+ the row's own answer, y- one of the model's that the verifier calls wrong. An answer in which the verifier
    finds nothing to compare is not used."""
    items = list(reading.each(lambda item: (item, *pool_messages(item.record, item.columns))))
    prompts = [(messages[:-1], strings) for _, messages, strings in items for _ in range(config.samples)]
    answers = speaker.answers(prompts, config.seed)
    judge = verifier(config.verify, config.pattern)
    for number, (item, messages, strings) in enumerate(items):
        reference = str(messages[-1]["content"])
        mine = answers[number * config.samples : (number + 1) * config.samples]
        verdicts: Counter[str] = Counter()
        wrong: dict[str, None] = {}
        for answer in mine:
            if answer is None or not answer.strip():
                verdicts["missing or empty"] += 1
                continue
            verdict = judge(answer, reference, item.get("answer"))
            verdicts[{True: "right", False: "wrong", None: "with nothing to compare"}[verdict]] += 1
            if verdict is False:
                wrong.setdefault(answer)
        if not wrong:
            told = ", ".join(f"{count} {what}" for what, count in verdicts.items())
            reading.drop(item.bad(f"no sampled answer is wrong: {told}"))
        for place, answer in enumerate(list(wrong)[: config.per_item]):
            suffix = f"-{place + 1}" if config.per_item > 1 else ""
            source = f"sampled, wrong by {config.verify}"
            yield Draft(item, messages[:-1], reference, answer, source, strings, suffix)


def prompts_pairs(config: PairsConfig, reading: Reading, speaker: Speaker) -> Iterator[Draft]:
    """y+ the answer under the good system prompt, y- that under the bad one; the pair's prompt holds neither."""
    assert config.good_system is not None and config.bad_system is not None
    items = list(reading.each(lambda item: (item, _prompt_of(item))))
    good, bad = (
        speaker.answers([(under(system, prompt), False) for _, prompt in items], config.seed)
        for system in (config.good_system, config.bad_system)
    )
    for (item, prompt), chosen, rejected in zip(items, good, bad, strict=True):
        if not (chosen or "").strip() or not (rejected or "").strip():
            reading.drop(item.bad("an answer is missing or empty: the prompt is too long, or the model says nothing"))
            continue
        assert chosen is not None and rejected is not None
        yield Draft(item, prompt, chosen, rejected, "bad system prompt")


def under(system: str, prompt: Messages) -> Messages:
    """A prompt with a system text; one that it has already follows."""
    if prompt[0]["role"] == "system":
        return ({"role": "system", "content": f"{system}\n\n{prompt[0]['content']}"}, *prompt[1:])
    return ({"role": "system", "content": system}, *prompt)


def _prompt_of(item: Item) -> Messages:
    """The turns that an answer follows, of a row with or without one."""
    try:
        return prompt_messages(item.record, item.columns)
    except RowError:
        return pool_messages(item.record, item.columns)[0][:-1]
