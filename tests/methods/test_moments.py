"""Adam's moments as the optimizer held them, from real checkpoints and from files of other forms."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from prism.errors import ModelError
from prism.methods.checkpoints import find_checkpoints
from prism.methods.moments import load_moments
from prism.model import Model, load_model
from prism.scoring.maps import Moments
from tests.conftest import tiny_gpt2, tiny_llama
from tests.methods.training import STEPS, Held, Keep, train
from tests.scoring.exactness import encoded

HALF = STEPS // 2
LORA = {"r": 3, "lora_alpha": 5, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}


def same(moments: Moments, held: Held, names: Iterable[str]) -> None:
    assert set(moments.first) == set(moments.second) == set(moments.steps) == set(names)
    for name in moments.first:
        assert torch.equal(moments.first[name], held[name]["exp_avg"]), name
        assert torch.equal(moments.second[name], held[name]["exp_avg_sq"]), name
        assert moments.steps[name] == int(held[name]["step"])


@pytest.fixture(scope="module")
def full(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Keep]:
    """A tied GPT-2 with biases and norms, trained in full."""
    folder = tmp_path_factory.mktemp("full")
    network = tiny_gpt2(len(tokenizer))
    samples = encoded(Model(network, tokenizer))
    keep = train(network.requires_grad_(True), samples, folder)
    tokenizer.save_pretrained(folder)
    return folder, keep


@pytest.mark.parametrize("which", ["all", "linear", "ln_|bias"])
def test_a_model_trained_in_full(which: str, full: tuple[Path, Keep]) -> None:
    folder, keep = full
    checkpoints = find_checkpoints([folder])
    assert [c.name for c in checkpoints] == [f"checkpoint-{HALF}", f"checkpoint-{STEPS}"]
    for checkpoint, step in zip(checkpoints, (HALF, STEPS), strict=True):
        model = load_model(checkpoint, tokenizer=folder, parameters=which)
        moments = load_moments(checkpoint, model)
        same(moments, keep.held[step], model.parameters)
        assert moments.step == step
        assert (moments.betas, moments.eps) == ((0.9, 0.999), 1e-8)


def test_the_learning_rate_is_the_mean_of_the_checkpoints_own_steps(full: tuple[Path, Keep]) -> None:
    folder, keep = full
    for step, rates in ((HALF, keep.rates[:HALF]), (STEPS, keep.rates[HALF:])):
        checkpoint = folder / f"checkpoint-{step}"
        moments = load_moments(checkpoint, load_model(checkpoint, tokenizer=folder))
        assert moments.learning_rate == pytest.approx(sum(rates) / len(rates))
        assert "trainer_state.json" in moments.rate_from


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "default"),
        ({"modules_to_save": ["lm_head"], "bias": "all", "use_dora": True}, "default"),
        ({"target_modules": ["q_proj", "embed_tokens"], "trainable_token_indices": None}, "default"),
        ({"target_modules": ["q_proj"], "trainable_token_indices": [3, 5]}, "default"),
        ({}, "mine"),
    ],
)
def test_an_adapter(options: Mapping[str, Any], name: str, tokenizer: Any, tmp_path: Path) -> None:
    base = tmp_path / "base"
    tiny_llama(len(tokenizer), attention_bias=True).save_pretrained(base)
    tokenizer.save_pretrained(base)
    network = get_peft_model(
        tiny_llama(len(tokenizer), attention_bias=True), LoraConfig(**{**LORA, **options}), adapter_name=name
    )
    trained = {n: p.requires_grad for n, p in network.named_parameters()}
    samples = encoded(Model(network, tokenizer))
    for key, parameter in network.named_parameters():
        parameter.requires_grad_(trained[key])
    keep = train(network, samples, tmp_path / "run")
    checkpoint = tmp_path / "run" / f"checkpoint-{STEPS}"
    model = load_model(base, adapter=checkpoint if name == "default" else checkpoint / name)
    held = {key.replace(f".{name}", ".default"): state for key, state in keep.held[STEPS].items()}
    same(load_moments(checkpoint, model), held, model.parameters)
    assert set(held) == set(model.parameters)


@pytest.fixture
def adapted(tokenizer: Any, samples: Any) -> tuple[Model, torch.optim.Optimizer, Held]:
    """A model with a LoRA, after three steps of AdamW, and what the optimizer holds by name."""
    network = get_peft_model(tiny_llama(len(tokenizer)), LoraConfig(**LORA))
    model = Model(network, tokenizer)
    named = list(model.parameters.items())
    optimizer = torch.optim.AdamW([p for _, p in named], lr=1e-3, betas=(0.85, 0.97), eps=1e-7)
    ids = torch.from_numpy(samples[1].ids)[None]
    for _ in range(3):
        with model.requiring_grad(), torch.enable_grad():
            network(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer, {name: dict(optimizer.state[p]) for name, p in named}


@pytest.fixture
def samples(tokenizer: Any) -> Any:
    return encoded(Model(tiny_llama(len(tokenizer)), tokenizer))


def save(folder: Path, state: Any, name: str = "optimizer.pt") -> Path:
    torch.save(state, folder / name)
    return folder


PREFIXES = ["", "module.", "_orig_mod.", "module._orig_mod.", "_fsdp_wrapped_module."]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("short", [False, True])
def test_states_by_name(prefix: str, short: bool, adapted: Any, tmp_path: Path) -> None:
    model, _, held = adapted
    state = {prefix + (n.removeprefix("base_model.model.") if short else n): s for n, s in held.items()}
    if prefix == "_fsdp_wrapped_module.":
        state = {n.replace("self_attn.", "self_attn._fsdp_wrapped_module."): s for n, s in state.items()}
    if short:
        state = {n.replace(".default", ""): s for n, s in state.items()}
    groups = [{"betas": (0.85, 0.97), "eps": 1e-7, "lr": 1e-3, "params": list(state)}]
    moments = load_moments(save(tmp_path, {"state": state, "param_groups": groups}, "optimizer.bin"), model)
    same(moments, held, model.parameters)
    assert (moments.betas, moments.eps, moments.learning_rate) == ((0.85, 0.97), 1e-7, 1e-3)
    assert moments.rate_from == "the optimizer's state"


@pytest.mark.parametrize("flat", [False, True])
def test_full_states_of_torch_distributed(flat: bool, adapted: Any, tmp_path: Path) -> None:
    """As accelerate saves FSDP's, and as torch.distributed.checkpoint writes them."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict

    model, optimizer, held = adapted
    options = StateDictOptions(full_state_dict=True, cpu_offload=True, flatten_optimizer_state_dict=flat)
    with model.requiring_grad():
        state = get_optimizer_state_dict(model.network, optimizer, options=options)
    same(load_moments(save(tmp_path, state), model), held, model.parameters)


def test_shards_of_torch_distributed_are_refused_with_a_command_that_works(adapted: Any, tmp_path: Path) -> None:
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict
    from torch.distributed.checkpoint.state_dict_saver import save as save_shards

    model, optimizer, held = adapted
    with model.requiring_grad():
        state = get_optimizer_state_dict(model.network, optimizer)
    shards = tmp_path / "optimizer_0"
    save_shards({"optimizer": state}, checkpoint_id=shards, no_dist=True)
    with pytest.raises(ModelError, match=r"in shards \(optimizer_0\): join them with python -m .*dcp_to_torch"):
        load_moments(tmp_path, model)
    dcp_to_torch_save(shards, tmp_path / "optimizer.pt")
    same(load_moments(tmp_path, model), held, model.parameters)


def test_names_beside_numbers(adapted: Any, tmp_path: Path) -> None:
    """torch keeps names where it was given them, whatever the order."""
    model, _, held = adapted
    named = list(model.parameters.items())[::-1]
    optimizer = torch.optim.AdamW(named, lr=1e-3)
    for name, parameter in named:
        optimizer.state[parameter] = held[name]
    same(load_moments(save(tmp_path, {"optimizer": optimizer.state_dict()}), model), held, model.parameters)


def test_parameters_that_never_had_a_gradient(adapted: Any, tmp_path: Path) -> None:
    model, optimizer, _ = adapted
    state = optimizer.state_dict()
    del state["state"][2]
    moments = load_moments(save(tmp_path, state), model)
    name = list(model.parameters)[2]
    assert moments.steps[name] == 0 and not moments.first[name].any()
    assert moments.first[name].shape == model.parameters[name].shape
    assert f"1 parameters never had a gradient in {tmp_path / 'optimizer.pt'}, such as {name}" in moments.notices[0]


def test_paged_adam_of_32_bits_is_adam(adapted: Any, tmp_path: Path) -> None:
    model, optimizer, held = adapted
    state = optimizer.state_dict()
    for key, s in state["state"].items():
        state["state"][key] = {"step": int(s["step"]), "state1": s["exp_avg"], "state2": s["exp_avg_sq"]}
    same(load_moments(save(tmp_path, state), model), held, model.parameters)


def changed(state: Any, **entries: Any) -> Any:
    state["state"] = {key: {**held, **entries} for key, held in state["state"].items()}
    return state


def without(state: Any, *names: str) -> Any:
    state["state"] = {k: {n: t for n, t in s.items() if n not in names} for k, s in state["state"].items()}
    return state


def first_shape(state: Any) -> Any:
    state["state"][1] = {**state["state"][1], "exp_avg": torch.zeros(7, 3), "exp_avg_sq": torch.zeros(7, 3)}
    return state


def dropped(state: Any) -> Any:
    state["param_groups"][0]["params"].pop()
    return state


def broken(state: Any) -> Any:
    state["state"][0]["exp_avg_sq"] = state["state"][0]["exp_avg_sq"] * float("nan")
    return state


def group(state: Any, **options: Any) -> Any:
    state["param_groups"][0].update(options)
    return state


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: changed(s, qmap1=torch.zeros(256), absmax1=torch.zeros(4)), "quantised to 8 bits"),
        (lambda s: without(s, "exp_avg_sq"), "no state of Adam or AdamW .*has exp_avg, step, not exp_avg and"),
        (lambda s: without(s, "exp_avg", "exp_avg_sq"), "no state of Adam or AdamW"),
        (lambda s: changed(s, mu_product=torch.ones(())), "but NAdam"),
        (lambda s: changed(s, max_exp_avg_sq=torch.ones(())), "but AMSGrad"),
        (lambda s: without(s, "step"), "no step"),
        (first_shape, r"1 of 28 parameters have moments of another shape, such as .*lora_B.*: \(7, 3\), not \(24, 3\)"),
        (dropped, "moments of 27 parameters by number, where the adapter has 28"),
        (broken, "not finite: the training diverged"),
        (lambda s: {**s, "state": {}}, "before its first step"),
        (lambda s: {"model": s["state"]}, "is no optimizer state .its keys are model."),
        (lambda s: [1, 2], "is no optimizer state"),
        (lambda s: {"state": s["state"], "param_groups": [{"params": list(range(28))}]}, "does not say betas and eps"),
        (lambda s: group(s, amsgrad=True), "AMSGrad"),
    ],
)
def test_states_that_can_not_be_mapped(change: Any, message: str, adapted: Any, tmp_path: Path) -> None:
    model, optimizer, _ = adapted
    with pytest.raises(ModelError, match=message):
        load_moments(save(tmp_path, change(optimizer.state_dict())), model)


def test_names_that_are_not_there(adapted: Any, tmp_path: Path) -> None:
    model, _, held = adapted
    state = {n: s for n, s in held.items() if "layers.1" not in n}
    settings = [{"betas": (0.9, 0.999), "eps": 1e-8}]
    with pytest.raises(ModelError, match=r"no moments of 14 of the chosen parameters, such as .*layers\.1\."):
        load_moments(save(tmp_path, {"state": state, "param_groups": settings}), model)
    twice = {n.replace("default", name): s for n, s in held.items() for name in ("one", "two")}
    with pytest.raises(ModelError, match=r"holds several states that .* may have: .*\.one\..*, .*\.two\."):
        load_moments(save(tmp_path, {"state": twice, "param_groups": settings}), model)


class Payload:
    def __reduce__(self) -> Any:
        return (print, ("this code must not run",))


def test_nothing_is_ever_run(adapted: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, optimizer, _ = adapted
    with pytest.raises(ModelError, match=r"only pickle could load"):
        load_moments(save(tmp_path, {**optimizer.state_dict(), "more": Payload()}), model)
    assert "must not run" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("global_step12/x_optim_states.pt", "DeepSpeed's shards"),
        ("rank0-of-4-optimizer.pt", "parts of several processes"),
        ("optimizer_0_rank3.bin", "parts of several processes"),
        ("trainer_state.json", "holds no optimizer state"),
    ],
)
def test_checkpoints_without_a_whole_state(name: str, message: str, adapted: Any, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("{}")
    with pytest.raises(ModelError, match=message):
        load_moments(tmp_path, adapted[0])
    with pytest.raises(ModelError, match="does not exist"):
        load_moments(tmp_path / "nowhere", adapted[0])


@pytest.mark.parametrize("content", [b"", b"not a file of torch's", b"PK\x03\x04 half of one"])
def test_files_that_are_damaged(content: bytes, adapted: Any, tmp_path: Path) -> None:
    (tmp_path / "optimizer.pt").write_bytes(content)
    with pytest.raises(ModelError, match="can't be read"):
        load_moments(tmp_path, adapted[0])


def test_rates_from_wherever_there_are_some(adapted: Any, tmp_path: Path) -> None:
    model, optimizer, _ = adapted
    checkpoint = tmp_path / "checkpoint-3"
    checkpoint.mkdir()
    save(checkpoint, group(optimizer.state_dict(), lr=0.0))
    assert load_moments(checkpoint, model).learning_rate == 1.0
    assert load_moments(checkpoint, model).rate_from.startswith("nowhere")
    torch.save({"_last_lr": [3e-4]}, checkpoint / "scheduler.pt")
    assert load_moments(checkpoint, model).learning_rate == 3e-4
    log = [{"step": s, "learning_rate": 1e-3 * s} for s in (1, 2, 3)] + [{"step": 3, "train_loss": 1.0}]
    (checkpoint / "trainer_state.json").write_text(json.dumps({"global_step": 3, "log_history": log}))
    assert load_moments(checkpoint, model).learning_rate == pytest.approx(2e-3)
    (tmp_path / "checkpoint-2").mkdir()
    assert load_moments(checkpoint, model).learning_rate == pytest.approx(3e-3)
    (checkpoint / "trainer_state.json").write_text("{")
    with pytest.raises(ModelError, match=r"trainer_state\.json can't be read"):
        load_moments(checkpoint, model)


@pytest.mark.parametrize("grouping", ["norms-decay", "one-group"])
def test_groups_of_other_trainers(grouping: str, tokenizer: Any, samples: Any, tmp_path: Path) -> None:
    """Before transformers knew norms by their names, those of Llama had weight decay; others have one group."""
    network = tiny_llama(len(tokenizer), attention_bias=True)
    model = Model(network, tokenizer, "all")
    names = list(model.parameters)
    plain = [n for n in names if grouping == "one-group" or not n.endswith("bias")]
    groups = [{"params": [model.parameters[n] for n in part]} for part in (plain, [n for n in names if n not in plain])]
    optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=1e-3)
    ids = torch.from_numpy(samples[1].ids)[None]
    with model.requiring_grad(), torch.enable_grad():
        network(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    held = {name: dict(optimizer.state[p]) for name, p in model.parameters.items()}
    same(load_moments(save(tmp_path, optimizer.state_dict()), model), held, names)
