import contextlib
import json
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertForMaskedLM,
    MixtralConfig,
    MixtralForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from prism import load_model
from prism.errors import ConfigError, ModelError
from prism.model import find_model
from prism.model.load import choose_device, choose_dtype
from tests.conftest import tiny_gpt2, tiny_llama

WEIGHTS = "model.safetensors"
ADAPTER = "adapter_model.safetensors"


@pytest.fixture
def save(tmp_path: Path, tokenizer: Any) -> Callable[[Any, str], Path]:
    def save(network: Any, name: str) -> Path:
        network.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
        return tmp_path / name

    return save


@pytest.fixture
def adapter(tmp_path: Path, tokenizer: Any) -> Callable[..., Path]:
    """Saves an adapter for a Llama like `model_folder`'s, or one that `changes` make different."""

    def make(kind: Any = None, **changes: Any) -> Path:
        kind = kind or LoraConfig(r=3, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
        torch.manual_seed(5)
        wrapped = get_peft_model(tiny_llama(len(tokenizer), **changes), kind)
        for name, parameter in wrapped.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter, std=0.1)
        wrapped.save_pretrained(tmp_path / "adapter")
        return tmp_path / "adapter"

    return make


def edit_config(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def refusal(model: Path | str, **options: Any) -> str:
    with pytest.raises(ModelError) as caught:
        load_model(model, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_plain_model(model_folder: Path) -> None:
    model = load_model(model_folder)
    stored = load_file(model_folder / WEIGHTS)
    for name, parameter in model.network.named_parameters():
        assert torch.equal(parameter, stored[name])
        assert not parameter.requires_grad
    assert not model.network.training
    assert (model.device, model.dtype, model.longest, model.notices) == (torch.device("cpu"), torch.float32, 256, [])
    assert set(model.fingerprints) == {"model", "tokenizer", "template"}


def test_gradients_are_required_only_inside(model_folder: Path) -> None:
    model = load_model(model_folder)
    with contextlib.suppress(RuntimeError), model.requiring_grad():
        assert {n for n, p in model.network.named_parameters() if p.requires_grad} == set(model.parameters)
        raise RuntimeError
    assert not any(p.requires_grad for p in model.network.parameters())


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_the_dtype_is_what_was_asked_for(model_folder: Path, dtype: str) -> None:
    assert load_model(model_folder, dtype=dtype).dtype == getattr(torch, dtype)


def test_auto_is_the_checkpoint_s_own_dtype(save: Callable[[Any, str], Path], tokenizer: Any) -> None:
    folder = save(tiny_llama(len(tokenizer)).to(torch.bfloat16), "half")
    assert load_model(folder).dtype == torch.bfloat16


@pytest.mark.parametrize("device", ["nonsense", "cuda:99", "meta", "hpu", "xla", "", "cpu:x"])
def test_a_device_that_is_not_here(device: str) -> None:
    with pytest.raises(ConfigError) as caught:
        choose_device(device)
    assert f"device {device!r} can't be used here: " in str(caught.value)
    assert len(str(caught.value)) < 350


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_where_there_is_none(model_folder: Path) -> None:
    with pytest.raises(ConfigError, match="device 'cuda' can't be used here"):
        load_model(model_folder, device="cuda")
    assert choose_device("auto").type in ("cpu", "mps")


def test_an_unknown_dtype() -> None:
    with pytest.raises(ConfigError, match="dtype 'int8' is unknown; known are auto, float64, float32"):
        choose_dtype("int8")


# Folders that are no model


def test_places_that_do_not_exist(tmp_path: Path, model_folder: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    for place in (str(tmp_path / "nowhere"), "nowhere", "./no/where", "a/b/c"):
        assert f"the model {place} does not exist" in refusal(place)
    assert "is a file: name the folder" in refusal(tmp_path / "file")
    assert "is not a model folder: it has no config.json" in refusal(tmp_path / "empty")
    assert "the tokenizer nowhere does not exist" in refusal(model_folder, tokenizer="nowhere")
    assert "holds no tokenizer: name one with --tokenizer" in refusal(model_folder, tokenizer=tmp_path / "empty")


def test_an_adapter_in_place_of_a_model(adapter: Callable[..., Path]) -> None:
    message = refusal(adapter())
    assert "it is a PEFT adapter: give its base as --model and this folder as --adapter" in message


def test_an_adapter_beside_a_model(model_folder: Path, adapter: Callable[..., Path]) -> None:
    shutil.copytree(adapter(), model_folder, dirs_exist_ok=True)
    assert "holds an adapter beside the model: keep it in a folder of its own, for --adapter" in refusal(model_folder)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("not json", "not a valid JSON file"),
        ("[1]", "can't be loaded"),
        ("{}", "model_type"),
        ('{"model_type": "frobnicate"}', "frobnicate"),
    ],
)
def test_a_config_that_makes_no_sense(model_folder: Path, config: str, message: str) -> None:
    (model_folder / "config.json").write_text(config)
    said = refusal(model_folder)
    assert f"the model {model_folder} can't be loaded: " in said and message in said


def test_weights_that_are_damaged(model_folder: Path) -> None:
    whole = (model_folder / WEIGHTS).read_bytes()
    for raw in (b"", b"garbage" * 99, whole[: len(whole) // 2], whole[:-1]):
        (model_folder / WEIGHTS).write_bytes(raw)
        assert f"the model {model_folder} can't be loaded: " in refusal(model_folder)


def test_weights_that_are_not_there(model_folder: Path) -> None:
    weights = load_file(model_folder / WEIGHTS)
    (model_folder / WEIGHTS).unlink()
    assert "holds no weights (*.safetensors)" in refusal(model_folder)
    index = {"metadata": {}, "weight_map": dict.fromkeys(weights, "model-00002-of-00002.safetensors")}
    (model_folder / "model.safetensors.index.json").write_text(json.dumps(index))
    save_file(weights, model_folder / "model-00001-of-00002.safetensors", {"format": "pt"})
    assert "model-00002-of-00002.safetensors" in refusal(model_folder)


def test_weights_that_do_not_match_the_config(model_folder: Path) -> None:
    edit_config(model_folder, num_hidden_layers=3)
    assert "lacks 9 weights that its config asks for, such as model.layers.2." in refusal(model_folder)
    edit_config(model_folder, num_hidden_layers=2, intermediate_size=48)
    assert (
        "holds 6 weights of another shape than its config asks for, such as model.layers.0.mlp.down_proj.weight: "
        "(24, 40), not (24, 48)" in refusal(model_folder)
    )


def test_weights_that_nothing_uses_are_noticed(model_folder: Path) -> None:
    edit_config(model_folder, num_hidden_layers=1)
    assert load_model(model_folder).notices == [
        "the model has no use for 9 of the stored weights, such as model.layers.1.input_layernorm.weight"
    ]


def test_pickle_is_refused_unless_allowed(model_folder: Path) -> None:
    weights = load_file(model_folder / WEIGHTS)
    torch.save(weights, model_folder / "pytorch_model.bin")
    load_model(model_folder)  # safetensors are there too, and win
    (model_folder / WEIGHTS).unlink()
    assert "holds only pickle weights (pytorch_model.bin), which can run code" in refusal(model_folder)
    model = load_model(model_folder, allow_pickle=True)
    assert torch.equal(model.network.lm_head.weight, weights["lm_head.weight"])


def test_a_stray_safetensors_file_does_not_let_pickle_in(model_folder: Path) -> None:
    torch.save(load_file(model_folder / WEIGHTS), model_folder / "pytorch_model.bin")
    (model_folder / WEIGHTS).rename(model_folder / "stray.safetensors")
    assert "can't be loaded" in refusal(model_folder)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_tokenizer_that_is_damaged(model_folder: Path, name: str) -> None:
    (model_folder / name).write_text("{")
    assert f"the tokenizer in {model_folder} can't be loaded: " in refusal(model_folder)


def test_a_model_without_a_tokenizer_can_borrow_one(model_folder: Path, tmp_path: Path) -> None:
    words = tmp_path / "words"
    words.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.move(model_folder / name, words / name)
    assert "holds no tokenizer: name one with --tokenizer" in refusal(model_folder)
    model = load_model(model_folder, tokenizer=words)
    assert model.encoder().template is not None


# Models that are not causal


def test_an_encoder(save: Callable[[Any, str], Path], tokenizer: Any) -> None:
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40}
    folder = save(BertForMaskedLM(BertConfig(vocab_size=len(tokenizer), **sizes)), "bert")
    assert "(BertLMHeadModel) is no causal language model: its tokens see later ones" in refusal(folder)


def test_an_encoder_decoder(save: Callable[[Any, str], Path], tokenizer: Any) -> None:
    sizes = {"d_model": 24, "num_layers": 2, "num_heads": 4, "d_ff": 40, "d_kv": 6}
    folder = save(T5ForConditionalGeneration(T5Config(vocab_size=len(tokenizer), **sizes)), "t5")
    assert "is an encoder-decoder (t5); only causal language models can be scored" in refusal(folder)


def test_causal_families_pass(save: Callable[[Any, str], Path], tokenizer: Any) -> None:
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "intermediate_size": 40}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    mixtral = MixtralForCausalLM(MixtralConfig(vocab_size=len(tokenizer), num_local_experts=3, **sizes, **heads))
    for name, network in (("gpt2", tiny_gpt2(len(tokenizer))), ("mixtral", mixtral)):
        assert load_model(save(network, name)).parameters


def test_a_model_of_nan_is_left_for_scoring_to_refuse(model_folder: Path) -> None:
    weights = load_file(model_folder / WEIGHTS)
    weights["model.layers.0.self_attn.q_proj.weight"].fill_(float("nan"))
    save_file(weights, model_folder / WEIGHTS, {"format": "pt"})
    load_model(model_folder)


# Adapters


def test_an_adapter_that_fits(model_folder: Path, adapter: Callable[..., Path]) -> None:
    model = load_model(model_folder, adapter=adapter())
    stored = load_file(adapter() / ADAPTER)
    assert len(model.parameters) == len(stored) == 8
    for name, parameter in model.parameters.items():
        assert torch.equal(parameter, stored[name.replace(".default", "")])
    assert set(model.fingerprints) == {"model", "adapter", "tokenizer", "template"}


@pytest.mark.parametrize(
    "kind",
    [
        {"use_rslora": True},
        {"use_dora": True},
        {"layers_to_transform": [1]},
        {"rank_pattern": {"q_proj": 2}},
        {"modules_to_save": ["lm_head"]},
        {"target_modules": ["embed_tokens", "q_proj"]},
        {"target_modules": "all-linear"},
    ],
)
def test_variants_of_lora_load(model_folder: Path, adapter: Callable[..., Path], kind: dict[str, Any]) -> None:
    config = LoraConfig(**{"r": 3, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM", **kind})
    model = load_model(model_folder, adapter=adapter(config))
    assert any(".lora_" in name for name in model.parameters)
    saved = [name for name in model.parameters if ".lora_" not in name]
    assert saved == ["base_model.model.lm_head.modules_to_save.default.weight"] * ("modules_to_save" in kind)
    assert any("magnitude" in name for name in model.parameters) == ("use_dora" in kind)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 32}, "size mismatch for base_model.model.model.layers.0.self_attn.q_proj.lora_"),
        ({"num_hidden_layers": 3}, "layers.2.mlp.down_proj.lora_A.weight is in the adapter but not in the model (4 su"),
        ({"num_hidden_layers": 1}, "layers.1.mlp.down_proj.lora_A.weight is in the model but not in the adapter (4 su"),
    ],
)
def test_an_adapter_of_another_size(
    model_folder: Path, adapter: Callable[..., Path], changes: dict[str, int], message: str
) -> None:
    said = refusal(model_folder, adapter=adapter(**changes))
    assert "does not fit the model: " in said and message in said


def test_an_adapter_of_another_family(
    save: Callable[[Any, str], Path], tokenizer: Any, adapter: Callable[..., Path]
) -> None:
    assert "does not fit the model: " in refusal(save(tiny_gpt2(len(tokenizer)), "gpt2"), adapter=adapter())


def test_an_adapter_that_is_not_lora(model_folder: Path, adapter: Callable[..., Path]) -> None:
    kind = IA3Config(target_modules=["k_proj"], feedforward_modules=[], task_type="CAUSAL_LM")
    assert "is of type IA3; only LoRA adapters can be scored" in refusal(model_folder, adapter=adapter(kind))


def test_adapter_folders_that_are_incomplete(model_folder: Path, adapter: Callable[..., Path]) -> None:
    assert "is not a PEFT adapter: it has no adapter_config.json" in refusal(model_folder, adapter=model_folder)
    assert "the adapter nowhere does not exist" in refusal(model_folder, adapter="nowhere")
    folder = adapter()
    raw = (folder / ADAPTER).read_bytes()
    (folder / ADAPTER).write_bytes(raw[:200])
    assert f"the adapter {folder} can't be read: " in refusal(model_folder, adapter=folder)
    (folder / ADAPTER).unlink()
    assert f"holds no weights ({ADAPTER})" in refusal(model_folder, adapter=folder)
    (folder / ADAPTER).write_bytes(raw)
    (folder / "adapter_config.json").write_text("{")
    assert f"the adapter {folder} can't be read: " in refusal(model_folder, adapter=folder)


def test_a_pickled_adapter_is_refused_unless_allowed(model_folder: Path, adapter: Callable[..., Path]) -> None:
    folder = adapter()
    stored = load_file(folder / ADAPTER)
    torch.save(stored, folder / "adapter_model.bin")
    (folder / ADAPTER).rename(folder / "stray.safetensors")
    assert "holds only pickle weights (adapter_model.bin)" in refusal(model_folder, adapter=folder)
    model = load_model(model_folder, adapter=folder, allow_pickle=True)
    assert all(torch.equal(p, stored[n.replace(".default", "")]) for n, p in model.parameters.items())
    torch.save({}, folder / "adapter_model.bin")
    assert "is in the model but not in the adapter" in refusal(model_folder, adapter=folder, allow_pickle=True)


def test_a_new_lora_comes_from_its_seed(model_folder: Path) -> None:
    state = torch.random.get_rng_state()
    first, same, other = (load_model(model_folder, parameters="lora", lora_rank=4, seed=s) for s in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), state)
    for name, parameter in first.parameters.items():
        assert torch.equal(parameter, same.parameters[name])
        assert torch.equal(parameter, other.parameters[name]) == ("lora_B" in name)
        assert parameter.any() == ("lora_A" in name)
    assert {p.shape[0] for n, p in first.parameters.items() if "lora_A" in n} == {4}
    assert "a new LoRA of rank 4 was attached (seed 3)" in first.notices[0]
    assert "the gradient of every A vanishes" in first.notices[0]


def test_a_new_lora_scales_as_asked(model_folder: Path) -> None:
    scaling = [
        load_model(model_folder, parameters="lora", lora_rank=4, lora_alpha=alpha)
        .network.get_submodule("base_model.model.model.layers.0.mlp.up_proj")
        .scaling["default"]
        for alpha in (None, 2)
    ]
    assert scaling == [2.0, 0.5]


# The encoder of a model


def test_the_longest_sample(model_folder: Path) -> None:
    model = load_model(model_folder)
    assert model.encoder().max_length == 256
    assert model.encoder(max_length=100).max_length == 100
    with pytest.raises(ConfigError, match="max_length 257 is beyond the model's 256 positions"):
        model.encoder(max_length=257)
    edit_config(model_folder, max_position_embeddings=100_000)
    assert load_model(model_folder).encoder().max_length == 2048


@pytest.mark.parametrize("nested", [False, True])
def test_no_sample_is_so_long_that_the_rotary_embedding_changes_for_its_neighbours(
    model_folder: Path, nested: bool
) -> None:
    model = load_model(model_folder)
    rotary = {"rope_type": "longrope", "original_max_position_embeddings": 64}
    model.network.config.rope_parameters = {"full_attention": rotary, "sliding_attention": None} if nested else rotary
    assert model.longest == 64
    assert model.encoder().max_length == 64


def test_a_tokenizer_without_pad_or_template(model_folder: Path) -> None:
    file = model_folder / "tokenizer_config.json"
    file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != "pad_token"}))
    (model_folder / "chat_template.jinja").unlink()
    model = load_model(model_folder)
    assert model.tokenizer.pad_token is None
    assert model.encoder().template is None


# The hub


@pytest.fixture
def silent_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A hub behind a firewall that swallows what is sent, and an empty cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("prism.model.places.HUB_PATIENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        yield


@pytest.mark.usefixtures("silent_hub")
def test_a_hub_that_does_not_answer_is_given_up_soon(model_folder: Path) -> None:
    began = time.monotonic()
    message = "org/name is no folder here and can't be had from the hub: timed out"
    assert f"the model {message}" in refusal("org/name")
    assert f"the adapter {message}" in refusal(model_folder, adapter="org/name")
    assert time.monotonic() - began < 60  # without a limit of ours it would be for ever


@pytest.mark.usefixtures("silent_hub")
def test_what_is_cached_needs_no_hub(model_folder: Path, tmp_path: Path) -> None:
    cached = tmp_path / "cache" / "models--org--name"
    shutil.copytree(model_folder, cached / "snapshots" / ("0" * 40))
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("0" * 40)
    assert find_model("org/name").fingerprints() == find_model(model_folder).fingerprints()


@pytest.mark.usefixtures("silent_hub")
def test_the_hub_s_offline_switch_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "offline mode is enabled" in refusal("org/name")


def test_an_adapter_s_own_tokenizer_counts(model_folder: Path, adapter: Callable[..., Path], tokenizer: Any) -> None:
    """As TRL saves it: a base without a chat template, and the template it was trained with beside the adapter."""
    folder = adapter()
    tokenizer.save_pretrained(folder)
    (model_folder / "chat_template.jinja").unlink()
    model = load_model(model_folder, adapter=folder)
    assert model.tokenizer.chat_template == tokenizer.chat_template
    assert "the tokenizer and its chat template are the adapter's own" in model.notices
    assert load_model(model_folder, adapter=folder, tokenizer=model_folder).tokenizer.chat_template is None


def test_experts_in_float64(save: Callable[[Any, str], Path], tokenizer: Any) -> None:
    sizes = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = MixtralConfig(vocab_size=len(tokenizer), num_key_value_heads=2, num_local_experts=4, **sizes)
    model = load_model(save(MixtralForCausalLM(config), "mixtral"), dtype="float64")
    logits = model.network(input_ids=torch.arange(5)[None]).logits
    assert logits.dtype == torch.float64
    assert logits.isfinite().all()
