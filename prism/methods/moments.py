"""Adam's moments of a model's parameters, from the optimizer state of one of its checkpoints."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from prism.errors import ModelError
from prism.methods.checkpoints import learning_rate
from prism.methods.states import Entry, State, find_state, read_state
from prism.model import Model
from prism.model.parameters import adapter_names, lora_names
from prism.scoring.maps import Moments

WRAPPED = re.compile(r"(?:_fsdp_wrapped_module|_checkpoint_wrapped_module|_orig_mod)\.")
LEADING = re.compile(r"^(?:module\.)+")
ADAPTER = re.compile(r"\b(lora_\w+|trainable_tokens_delta)\.(?!weight\b|bias\b)[^.]+")
SAVED = re.compile(r"\bmodules_to_save\.[^.]+\.")

RIGHT = "Load the model of this very checkpoint, with the --parameters that were trained, or save the state by name"

Names = list[str]
Matched = dict[str, Entry | None]  # None for a parameter that never had a gradient


def load_moments(checkpoint: Path, model: Model) -> Moments:
    """The moments of the chosen parameters of `model`, which was loaded from this checkpoint.

    Reads `optimizer.pt` of transformers' Trainer, `optimizer.bin` of accelerate's FSDP, and any file that keys a state
    by parameter names; never anything that needs pickle. States without names are told apart by Trainer's own order of
    parameters, which every shape must bear out.

    A parameter that never had a gradient in the training has none in the state either: its moments are zero at step 0,
    as AdamW would begin with it, and a notice says so.

    Args:
        checkpoint: a folder, or the optimizer's file itself.

    Raises:
        ModelError: there is no state, it is of another optimizer or of a form that can't be read, or it does not fit
            the parameters: which, how many, and of what shapes.
    """
    path = find_state(checkpoint)
    state = read_state(path)
    matched = _by_name(state, model) if state.named else _by_place(state, model)
    first, second, steps = {}, {}, {}
    for name, entry in matched.items():
        shape = model.parameters[name].shape
        if entry is None:
            first[name] = second[name] = torch.zeros(()).expand(shape)
            steps[name] = 0
            continue
        if not bool(entry.first.isfinite().all() and entry.second.isfinite().all()):
            raise ModelError(f"{path}: the moments of {name} are not finite: the training diverged")
        first[name], second[name], steps[name] = entry.first.clone(), entry.second.clone(), entry.step
    notices = []
    if idle := [name for name, entry in matched.items() if entry is None]:
        notices.append(
            f"{len(idle)} parameters never had a gradient in {path}, such as {idle[0]}: zero moments, step 0"
        )
    rate = learning_rate(path.parent, state.rate)
    return Moments(first, second, steps, state.betas, state.eps, rate.value, rate.source, notices)


def canonical(name: str) -> str:
    """A parameter's name without what wrappers (FSDP, DDP, torch.compile, PEFT) and adapters' own names add to it."""
    name = unwrapped(name).removeprefix("base_model.model.").replace("base_layer.", "")
    return SAVED.sub("", ADAPTER.sub(r"\1", name))


def unwrapped(name: str) -> str:
    return LEADING.sub("", WRAPPED.sub("", name))


def _by_name(state: State, model: Model) -> Matched:
    """Names that are the same, else those that are so but for wrappers and adapters' names."""
    stored = {str(key): key for group in state.groups for key in group} | {str(key): key for key in state.entries}
    exact = {unwrapped(name): key for name, key in stored.items()}
    alike: dict[str, list[str]] = {}
    for name in stored:
        alike.setdefault(canonical(name), []).append(name)
    found: Matched = {}
    missing: Names = []
    for name in model.parameters:
        same = alike.get(canonical(name), [])
        if unwrapped(name) not in exact and len(same) > 1:
            raise ModelError(f"{state.path} holds several states that {name} may have: {', '.join(sorted(same))}")
        if unwrapped(name) in exact:
            found[name] = state.entries.get(exact[unwrapped(name)])
        elif same:
            found[name] = state.entries.get(stored[same[0]])
        else:
            missing.append(name)
    if missing:
        raise _untrained(state, missing, list(stored))
    _check_shapes(state, found, model)
    return found


def _by_place(state: State, model: Model) -> Matched:
    """By their place in the optimizer's groups, of all ways to fill these the first that every shape bears out."""
    parameters = dict(model.network.named_parameters())
    groups = [group for group in state.groups if group]
    tried: list[list[Names]] = []
    for trained in _trained(model):
        for grouping in _groupings(model.network, trained):
            ways = [names for names in grouping if names]
            if [len(names) for names in ways] == [len(group) for group in groups]:
                tried.append(ways)
    for ways in tried:
        pairs = list(_pairs(ways, groups, state))
        if all(entry is None or entry.first.shape == parameters[name].shape for name, entry in pairs):
            found = dict(pairs)
            if missing := [name for name in model.parameters if name not in found]:
                raise _untrained(state, missing, list(found))
            return {name: found[name] for name in model.parameters}
    if tried:
        _check_shapes(state, dict(_pairs(tried[0], groups, state)), model)
    raise _uncounted(state, model, groups)


def _pairs(ways: list[Names], groups: list[list[int | str]], state: State) -> Iterator[tuple[str, Entry | None]]:
    for names, keys in zip(ways, groups, strict=True):
        yield from ((name, state.entries.get(key)) for name, key in zip(names, keys, strict=True))


def _trained(model: Model) -> Iterator[Names]:
    """Sets of parameters that may have been trained, in the network's order: an adapter's, those chosen now, all."""
    own = {name: p for name, p in model.network.named_parameters() if p.is_floating_point()}
    if lora_names(model.network):
        trained = adapter_names(model.network)
        yield [name for name in own if name in trained]
    yield [name for name in own if name in model.parameters]
    yield list(own)


def _groupings(network: nn.Module, trained: Names) -> Iterator[list[Names]]:
    """How Trainer groups parameters, now and before transformers knew norms by their names; and how others do: not."""
    from transformers import Trainer
    from transformers.trainer_pt_utils import get_parameter_names

    now = Trainer.get_decay_parameter_names(None, network)
    before = get_parameter_names(network, [nn.LayerNorm], ["bias"])
    for decayed in (set(now), set(before)):
        yield [[n for n in trained if n in decayed], [n for n in trained if n not in decayed]]
    yield [trained]


def _check_shapes(state: State, found: Mapping[str, Entry | None], model: Model) -> None:
    parameters: dict[str, Any] = dict(model.network.named_parameters())
    wrong = [(n, e.first.shape) for n, e in found.items() if e is not None and e.first.shape != parameters[n].shape]
    if wrong:
        name, shape = wrong[0]
        raise ModelError(
            f"{state.path} does not fit the model: {len(wrong)} of {len(found)} parameters have moments of another "
            f"shape, such as {name}: {tuple(shape)}, not {tuple(parameters[name].shape)}. {RIGHT}"
        )


def _untrained(state: State, missing: Sequence[str], known: Sequence[str]) -> ModelError:
    return ModelError(
        f"{state.path} has no moments of {len(missing)} of the chosen parameters, such as {missing[0]}: the training "
        f"knew {len(known)} others, such as {known[0]}. Choose other --parameters"
    )


def _uncounted(state: State, model: Model, groups: Sequence[Sequence[int | str]]) -> ModelError:
    trained = next(iter(_trained(model)))
    grouping = next(iter(_groupings(model.network, trained)))
    held, asked = (" + ".join(str(len(group)) for group in parts if group) for parts in (groups, grouping))
    what = "the adapter" if lora_names(model.network) else f"--parameters {model.which}"
    return ModelError(
        f"{state.path} does not fit the model: it holds moments of {held} parameters by number, where {what} has "
        f"{asked} and the network {sum(1 for _ in model.network.parameters())} in all. {RIGHT}"
    )
