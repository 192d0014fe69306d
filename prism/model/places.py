"""Find the folders of a model, its adapter and its tokenizer, here or on the hub, and refuse unsafe ones."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from prism.errors import ModelError, first_line
from prism.model.fingerprint import model_fingerprints
from prism.model.quiet import quiet_transformers

HUB_PATIENCE = 10.0  # seconds
TOKENIZER_FILES = {"tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt", "merges.txt"}


@dataclass(frozen=True)
class Places:
    """Local folders of a model, its adapter and its tokenizer; hub ids are fetched on the way."""

    model: Path
    adapter: Path | None
    tokenizer: Path

    def fingerprints(self) -> dict[str, str]:
        return model_fingerprints(self.model, self.adapter, self.tokenizer)


def find_model(
    model: str | Path,
    adapter: str | Path | None = None,
    *,
    tokenizer: str | Path | None = None,
    revision: str | None = None,
    allow_pickle: bool = False,
) -> Places:
    """Resolve folders and hub ids, without loading anything.

    Raises:
        ModelError: a place does not exist, or does not hold what it should in a safe format.
    """
    folder = _folder(model, "model", revision, allow_pickle)
    if not (folder / "config.json").exists():
        hint = (
            "it is a PEFT adapter: give its base as --model and this folder as --adapter"
            if (folder / "adapter_config.json").exists()
            else "it has no config.json"
        )
        raise ModelError(f"{model} is not a model folder: {hint}")
    if (folder / "adapter_config.json").exists():  # transformers would load that, on whatever base it names
        raise ModelError(f"{model} holds an adapter beside the model: keep it in a folder of its own, for --adapter")
    _require_safe(folder, "model", "*", allow_pickle)
    adapter_folder = None if adapter is None else _folder(adapter, "adapter", None, allow_pickle)
    if adapter_folder is not None:
        if not (adapter_folder / "adapter_config.json").exists():
            raise ModelError(f"{adapter} is not a PEFT adapter: it has no adapter_config.json")
        _require_safe(adapter_folder, "adapter", "adapter_model", allow_pickle)
    own = adapter_folder if adapter_folder and has_tokenizer(adapter_folder) else folder  # as trainers save it
    return Places(folder, adapter_folder, _folder(tokenizer, "tokenizer", None) if tokenizer else own)


def find_other(place: str | Path, allow_pickle: bool = False) -> tuple[Path, bool]:
    """(folder of a model or PEFT adapter, whether it is an adapter); raises ModelError where there is neither."""
    folder = _folder(place, "model", None, allow_pickle)
    adapter = (folder / "adapter_config.json").exists() and not (folder / "config.json").exists()
    if not adapter and not (folder / "config.json").exists():
        raise ModelError(f"{place} is neither a model folder nor a PEFT adapter: it has no config.json")
    return folder, adapter


def has_tokenizer(folder: Path) -> bool:
    return any(path.name in TOKENIZER_FILES or path.suffix == ".model" for path in folder.iterdir())


def _folder(place: str | Path, what: str, revision: str | None, allow_pickle: bool = False) -> Path:
    path = Path(place).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise ModelError(f"the {what} {place} is a file: name the folder that holds it")
    text = str(place)
    if text.count("/") > 1 or text.startswith((".", "/", "~")) or "/" not in text:
        raise ModelError(f"the {what} {place} does not exist: give a folder or a hub id (org/name)")
    patterns = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt", "*.py"] + ["*.bin"] * allow_pickle
    try:
        with quiet_transformers():
            return _snapshot(text, revision, patterns)
    except Exception as error:
        raise ModelError(
            f"the {what} {place} is no folder here and can't be had from the hub: {first_line(error)}"
        ) from error


def _snapshot(repository: str, revision: str | None, patterns: list[str]) -> Path:
    """A hub repository's files; what is cached where the hub does not answer, which some firewalls take minutes for."""
    from huggingface_hub import HfApi, snapshot_download

    fetch = partial(snapshot_download, repository, revision=revision, allow_patterns=patterns)
    try:
        HfApi().repo_info(repository, revision=revision, timeout=HUB_PATIENCE)
    except Exception as error:
        try:
            return Path(fetch(local_files_only=True))
        except Exception:
            raise error from None
    return Path(fetch())


def _require_safe(folder: Path, what: str, stem: str, allow_pickle: bool) -> None:
    if any(folder.glob(f"{stem}.safetensors")):
        return
    pickles = sorted(p.name for p in folder.glob(f"{stem}.bin"))
    if not pickles:
        raise ModelError(f"the {what} {folder} holds no weights ({stem}.safetensors)")
    if not allow_pickle:
        raise ModelError(
            f"the {what} {folder} holds only pickle weights ({pickles[0]}), which can run code when they are loaded: "
            "convert them to safetensors, or pass --allow-pickle if you trust them"
        )
