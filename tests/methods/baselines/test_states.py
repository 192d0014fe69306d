"""Similarities of hidden states against one sample at a time in float64."""

from typing import Any

import numpy as np
import pytest
import torch

from prism.data import Encoder, load_pool, load_target
from prism.errors import DataError
from prism.methods.baselines import BASELINES, score_baseline
from prism.methods.baselines.states import last_states
from prism.methods.context import Options
from prism.model import head
from tests.conftest import tiny_gpt2, tiny_llama
from tests.methods.baselines.contexts import PAIRS, ROWS, with_model
from tests.methods.baselines.test_robin import by_loop
from tests.small_memory import room_for

MODELS = {"llama": tiny_llama, "gpt2": tiny_gpt2}


def by_hand(network: Any, encoder: Encoder, late: bool) -> Any:
    """Cosines [rows, targets], from the unpadded samples with an attention mask."""

    def embedding(ids: Any) -> torch.Tensor:
        tokens = torch.tensor(ids)[None]
        output = network(input_ids=tokens, attention_mask=torch.ones_like(tokens), output_hidden_states=True)
        total, weights = torch.zeros(24, dtype=torch.float64), 0
        for place, state in enumerate(output.hidden_states[-1][0], 1):
            weight = place if late else 1
            total += weight * state
            weights += weight
        return total / weights

    with torch.no_grad():
        rows = [embedding(encoder.row(row).ids) for row in load_pool(ROWS)]
        targets = [embedding(encoder.pair(pair)[0].ids) for pair in load_target(PAIRS)]
        return np.array([[float(torch.cosine_similarity(r, t, dim=0)) for t in targets] for r in rows])


@pytest.fixture(params=MODELS)
def network(request: Any, tokenizer: Any) -> Any:
    return MODELS[request.param](len(tokenizer)).double()


def test_embed_is_the_mean_cosine(network: Any, tokenizer: Any) -> None:
    context = with_model(network, tokenizer, batch_tokens=200)
    expected = by_hand(network, context.words(), late=False)
    for options, reduce in ((None, np.mean), (Options("mean"), np.mean), (Options("max"), np.max)):
        table = score_baseline(BASELINES["embed"], context, options, shard_rows=8)
        np.testing.assert_allclose(table.column("score"), reduce(expected, 1), rtol=1e-10)
        assert set(table.column("flag")) == {"ok"} and np.isnan(table.column("loss")).all()


def test_rds_takes_turns_by_late_weighted_cosines(network: Any, tokenizer: Any) -> None:
    context = with_model(network, tokenizer, batch_tokens=200)
    expected = by_hand(network, context.words(), late=True)
    table = score_baseline(BASELINES["rds+"], context, Options("mean"), shard_rows=8)
    np.testing.assert_allclose(table.column("score"), expected.mean(1), rtol=1e-10)
    places = score_baseline(BASELINES["rds+"], context, shard_rows=8).column("score")
    order = by_loop(expected.astype(np.float32))
    assert places[order].tolist() == [-float(n) for n in range(1, len(ROWS) + 1)]


def test_float32_and_batches_change_little(tokenizer: Any) -> None:
    network = tiny_llama(len(tokenizer))
    small, large = (
        score_baseline(BASELINES["embed"], with_model(network, tokenizer, batch_tokens=tokens)).column("score")
        for tokens in (60, 4000)
    )
    expected = by_hand(network.double(), with_model(network, tokenizer).words(), late=False).mean(1)
    np.testing.assert_allclose(small, expected, atol=1e-6)
    np.testing.assert_allclose(large, expected, atol=1e-6)


def test_a_network_without_a_known_head_gives_the_same_states(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    network = tiny_llama(len(tokenizer)).eval()
    ids = torch.arange(3, 15)[None]
    with torch.no_grad():
        known = last_states(network, ids)
        monkeypatch.setitem(head._KNOWN, network, None)
        torch.testing.assert_close(last_states(network, ids), known)


def test_out_of_memory_halves_batches(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prism.model.memory.make_room", lambda: None)
    network = tiny_llama(len(tokenizer)).double()
    roomy = score_baseline(BASELINES["embed"], with_model(network, tokenizer)).column("score")
    lengths = [len(with_model(network, tokenizer).words().row(row)) for row in load_pool(ROWS)]
    with room_for(network, max(lengths)):
        table = score_baseline(BASELINES["embed"], with_model(network, tokenizer))
    np.testing.assert_allclose(table.column("score"), roomy, rtol=1e-10)
    with room_for(network, max(lengths) - 1):
        table = score_baseline(BASELINES["embed"], with_model(network, tokenizer))
    assert table.flagged("too-long").tolist() == [n == max(lengths) for n in lengths]
    assert np.array_equal(np.isnan(table.column("score")), table.flagged("too-long"))


def spoil(network: Any, tokenizer: Any, word: str) -> int:
    """Make the embedding of a token NaN; returns its id."""
    token = int(tokenizer(word, add_special_tokens=False)["input_ids"][-1])
    with torch.no_grad():
        network.get_input_embeddings().weight[token] = torch.nan
    return token


@pytest.mark.parametrize("name", ["embed", "rds+", "perplexity", "ifd"])
def test_broken_rows_are_flagged_and_spoil_no_other(tokenizer: Any, name: str) -> None:
    whole = score_baseline(BASELINES[name], with_model(tiny_llama(len(tokenizer)), tokenizer), Options())
    network = tiny_llama(len(tokenizer), tie_word_embeddings=False)
    token = spoil(network, tokenizer, "☀")
    context = with_model(network, tokenizer, pairs=PAIRS[:3])
    table = score_baseline(BASELINES[name], context)
    holds = np.array([token in context.words().row(row).ids for row in load_pool(ROWS)])
    assert 0 < holds.sum() < len(ROWS) == len(whole)
    assert np.array_equal(np.isnan(table.column("score")), holds)
    assert np.array_equal(table.flagged("non-finite"), holds)


def test_broken_targets_are_left_out_and_named(tokenizer: Any) -> None:
    class Notes:
        said: list[str] = []  # noqa: RUF012

        def start(self, *_: Any) -> None: ...

        def advance(self, *_: Any) -> None: ...

        def note(self, message: str) -> None:
            self.said.append(message)

    network = tiny_llama(len(tokenizer))
    spoil(network, tokenizer, "☀")  # in the last of the targets
    notes = Notes()
    some = score_baseline(BASELINES["rds+"], with_model(network, tokenizer, progress=notes))
    rest = score_baseline(BASELINES["rds+"], with_model(network, tokenizer, pairs=PAIRS[:3]))
    np.testing.assert_array_equal(some.column("score"), rest.column("score"))
    assert any("left out: 1, as q3" in note for note in notes.said)
    with pytest.raises(DataError, match="none of the 1 targets has a finite embedding"):
        score_baseline(BASELINES["embed"], with_model(network, tokenizer, pairs=PAIRS[3:]))


def test_sentence_embeddings_are_those_of_the_library(tokenizer: Any, tmp_path: Any) -> None:
    pytest.importorskip("sentence_transformers")
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer
    from transformers import BertConfig, BertModel

    tokenizer.save_pretrained(tmp_path / "bert")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    BertModel(config).save_pretrained(tmp_path / "bert")
    module = Transformer(str(tmp_path / "bert"), max_seq_length=64)
    SentenceTransformer(modules=[module, Pooling(16)]).save(str(tmp_path / "embedder"))
    from tests.methods.baselines.contexts import without_model

    context = without_model(tokenizer, device="cpu")
    found = score_baseline(BASELINES["embed"], context, Options(embedder=str(tmp_path / "embedder"))).column("score")
    library = SentenceTransformer(str(tmp_path / "embedder"), device="cpu")
    rows, targets = (
        [library.encode(f"{r['prompt']}\n\n{r[field]}").astype(np.float64) for r in many]
        for many, field in ((ROWS, "completion"), (PAIRS, "chosen"))
    )
    expected = [np.mean([r @ t / np.linalg.norm(r) / np.linalg.norm(t) for t in targets]) for r in rows]
    np.testing.assert_allclose(found, expected, atol=1e-5)
