"""The workload that every peer scores: token ids, labels, one query, a model and a LoRA adapter, in one folder.

    python benchmarks/peers/workload.py OUT --data ../shared/data --model DIR_OR_random-25m

`read_workload` needs the standard library alone, so that it works in any peer's environment; making a workload needs
prism. The folder:

    workload.json     what it was made from
    samples.jsonl     {"input_ids": [...], "labels": [...]} by row; a label is -100 off the response
    query.jsonl       the same form, one row: its gradient is the direction
    model/            the model, in float32
    adapter/          PEFT adapter: LoRA r = 16, alpha = 32 on all linear layers, B drawn at random
"""

import argparse
import json
import random
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILES = ("gsm8k_train", "alpaca_random9k", "dolly_3k", "gpteacher_codegen_4k")
RANDOM = "random-25m"
RANK, ALPHA, B_STD = 16, 32, 0.02
IGNORED = -100


@dataclass(frozen=True)
class Sample:
    """Token ids and labels, of one length; the loss is the sum over labels that are not -100, each predicted by the
    position before."""

    input_ids: list[int]
    labels: list[int]

    def __len__(self) -> int:
        return len(self.input_ids)


@dataclass(frozen=True)
class Workload:
    folder: Path
    about: dict[str, Any]
    samples: list[Sample]
    query: Sample

    @property
    def model(self) -> Path:
        return self.folder / "model"

    @property
    def adapter(self) -> Path:
        return self.folder / "adapter"


def read_workload(folder: str | Path) -> Workload:
    folder = Path(folder).resolve()
    (query,) = _read(folder / "query.jsonl")
    about = json.loads((folder / "workload.json").read_text())
    return Workload(folder, about, _read(folder / "samples.jsonl"), query)


def _read(file: Path) -> list[Sample]:
    with file.open() as lines:
        return [Sample(**json.loads(line)) for line in lines]


def write_workload(
    folder: str | Path, samples: Sequence[Sample], query: Sample, model: Path, about: dict[str, Any], seed: int = 0
) -> Workload:
    """Write everything but the texts: the samples as they are, a copy of the model, an adapter seeded with `seed`."""
    folder = Path(folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "samples.jsonl", samples)
    _write(folder / "query.jsonl", [query])
    _copy_model(model, folder / "model")
    save_adapter(folder / "model", folder / "adapter", seed)
    counts = {
        "rows": len(samples),
        "tokens": sum(len(s) for s in samples),
        "response_tokens": sum(label != IGNORED for s in samples for label in s.labels),
        "query_tokens": len(query),
        "lora": {"rank": RANK, "alpha": ALPHA, "targets": "all-linear", "b_std": B_STD},
    }
    (folder / "workload.json").write_text(json.dumps({**about, "seed": seed, **counts}, indent=2) + "\n")
    return read_workload(folder)


def _write(file: Path, samples: Iterable[Sample]) -> None:
    with file.open("w") as lines:
        for sample in samples:
            lines.write(json.dumps({"input_ids": sample.input_ids, "labels": sample.labels}) + "\n")


def _copy_model(source: Path, target: Path) -> None:
    """In float32, whatever the checkpoint is stored in, since that is what everyone scores in."""
    import torch
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).save_pretrained(target)
    _copy_tokenizer(source, target)


def _copy_tokenizer(source: Path, target: Path) -> None:
    for file in source.iterdir():
        if file.name.startswith(("tokenizer", "special_tokens", "chat_template")):
            shutil.copyfile(file, target / file.name)


def save_random_llama(folder: Path, tokenizer: Path, seed: int = 0) -> Path:
    """A Llama of 24.4M random weights with 32,000 tokens, of which the tokenizer in `tokenizer` uses the first."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=32000,
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=10,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=1024,
        tie_word_embeddings=False,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    _copy_tokenizer(tokenizer, folder)
    return folder


def save_adapter(model: Path, folder: Path, seed: int = 0) -> None:
    """B is not zero, as after some training: with B = 0 the gradient of every A would vanish."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    network = AutoModelForCausalLM.from_pretrained(model)
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM")
    adapted = get_peft_model(network, config)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=B_STD)
    adapted.save_pretrained(folder)


def draw(data: Path, model: Path, rows: int, length: int, seed: int) -> tuple[list[Sample], Sample]:
    """`rows` samples and one query, drawn from the pool files and encoded as prism encodes them."""
    import prism

    encoder = prism.load_model(model, dtype="float32", parameters="linear").encoder(max_length=length)
    pool = list(prism.load_pool([data / "pool" / f"{name}.jsonl" for name in FILES]))
    *samples, query = (_sample(encoder.row(row)) for row in random.Random(seed).sample(pool, rows + 1))
    return samples, query


def _sample(encoded: Any) -> Sample:
    ids = encoded.ids.tolist()
    return Sample(ids, [i if inside else IGNORED for i, inside in zip(ids, encoded.response.tolist(), strict=True)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder with pool/*.jsonl")
    parser.add_argument("--model", required=True, help=f"model folder, or {RANDOM}")
    parser.add_argument("--tokenizer", type=Path, help=f"folder with the tokenizer that {RANDOM} gets")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.model == RANDOM:
        if args.tokenizer is None:
            parser.error(f"{RANDOM} needs --tokenizer")
        model = save_random_llama(args.out / RANDOM, args.tokenizer, args.seed)
    else:
        model = Path(args.model)
    samples, query = draw(args.data, model, args.rows, args.max_length, args.seed)
    about = {"model": args.model if args.model == RANDOM else model.name, "files": FILES, "max_length": args.max_length}
    print(json.dumps(write_workload(args.out, samples, query, model, about, args.seed).about, indent=2))


if __name__ == "__main__":
    main()
