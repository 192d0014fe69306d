"""What identifies a model, an adapter and a tokenizer, whatever folder they lie in."""

import hashlib
from pathlib import Path

WEIGHTS = ("*.safetensors", "*.bin", "config.json", "*.py")
ADAPTER = ("adapter_model.*", "adapter_config.json")
TOKENIZER = ("tokenizer*", "vocab.*", "merges.txt", "special_tokens_map.json", "*.model", "added_tokens.json")


def files_fingerprint(folder: Path, patterns: tuple[str, ...]) -> str:
    """sha256 over names and contents of the files in `folder` that match `patterns`."""
    digest = hashlib.sha256()
    for path in sorted({p for pattern in patterns for p in folder.glob(pattern) if p.is_file()}):
        with path.open("rb") as file:
            digest.update(f"{path.name}:{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def model_fingerprints(model: Path, adapter: Path | None, tokenizer: Path) -> dict[str, str]:
    """Fingerprints of what lies on disk, by the name under which a run refuses a change of it."""
    found = {"model": files_fingerprint(model, WEIGHTS)}
    if adapter is not None:
        found["adapter"] = files_fingerprint(adapter, ADAPTER)
    found["tokenizer"] = files_fingerprint(tokenizer, TOKENIZER)
    found["template"] = files_fingerprint(tokenizer, ("chat_template*", "tokenizer_config.json"))
    return found
