"""Pretrain the small causal LM that ships in `prism/demo/model`.

    python examples/demo_model/train.py --data ../shared/data --out prism/demo/model

Reads only the public-domain, MIT and Apache-2.0 files named in SOURCES (the manifest's licence of each is
checked), trains a byte-level BPE tokenizer and a 2.6M-parameter Llama on them, and writes safetensors, tokenizer,
the loss curve and the arguments. One seed; about 40 minutes on two cores with bf16 instructions.
"""

import argparse
import csv
import json
import math
import platform
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SOURCES = {  # file -> how often an epoch holds it
    "corpus/gutenberg_books.txt": 1,
    "corpus/us_speeches.txt": 1,
    "pool/alpaca_en_demo_999.jsonl": 3,
    "pool/dpo_en_demo_300.jsonl": 2,
    "pool/gpteacher_codegen_4k.jsonl": 2,
    "pool/gsm8k_train.jsonl": 2,
    "pool/oasst_en100_threads.jsonl": 3,
    "pool/rasbt_instructions_1100.jsonl": 3,
    "pool/self_instruct_seed_175.jsonl": 3,
}
FREE = ("public domain", "MIT", "Apache-2.0")
HERE = Path(__file__).parent
SPECIALS = ["<|pad|>", "<|bos|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def check_licences(data: Path) -> None:
    rows = (json.loads(line) for line in (data / "MANIFEST.jsonl").read_text().splitlines())
    licences = {row["file"]: row["licence"] for row in rows}
    for name in SOURCES:
        if not licences[name].startswith(FREE):
            raise SystemExit(f"{name} is under {licences[name]!r}, which the demo model may not be trained on")


def documents(data: Path, name: str) -> tuple[list[str], list[str]]:
    """Texts of one source, (train, held out): every 50th row, or the last 2 % of a book file, is held out."""
    if name.endswith(".txt"):
        lines = (data / name).read_text().splitlines()
        texts = ["\n".join(lines[i : i + 20]) for i in range(0, len(lines), 20)]
        cut = int(len(texts) * 0.98)
        return texts[:cut], texts[cut:]
    rows = [json.loads(line) for line in (data / name).open()]  # splitlines() would break at U+2028
    texts = [
        "".join(f"<|{m['role']}|>\n{m['content'].strip()}<|end|>\n" for m in row["messages"]).rstrip("\n")
        for row in rows
    ]
    return [t for i, t in enumerate(texts) if i % 50], texts[::50]


def make_tokenizer(texts: Iterator[str], vocabulary: int) -> PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\d"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=SPECIALS, initial_alphabet=alphabet)
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token="<|bos|>",
        eos_token="<|end|>",
        pad_token="<|pad|>",
        extra_special_tokens=["<|system|>", "<|user|>", "<|assistant|>"],
        chat_template=TEMPLATE,
        model_max_length=1024,
    )


def stream(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> torch.Tensor:
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    ids: list[int] = []
    for encoded in tokenizer(texts, add_special_tokens=False)["input_ids"]:
        ids += [bos, *encoded]
        if ids[-1] != eos:
            ids.append(eos)
    return torch.tensor(ids)


@torch.no_grad()
def perplexity(model: LlamaForCausalLM, windows: torch.Tensor, batch: int) -> float:
    model.eval()
    total = sum(model(input_ids=w, labels=w).loss.float().item() * len(w) for w in windows.split(batch))
    model.train()
    return math.exp(total / len(windows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1900)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--lr", type=float, default=2.5e-3)
    parser.add_argument("--vocabulary", type=int, default=4096)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    check_licences(args.data)
    parts = {name: documents(args.data, name) for name in SOURCES}
    tokenizer = make_tokenizer((t for train, _ in parts.values() for t in train), args.vocabulary)

    generator = torch.Generator().manual_seed(args.seed)
    train_texts = [t for name, (train, _) in parts.items() for t in train * SOURCES[name]]
    order = torch.randperm(len(train_texts), generator=generator).tolist()
    ids = stream(tokenizer, [train_texts[i] for i in order])
    windows = ids[: len(ids) // args.window * args.window].view(-1, args.window)
    held = {
        kind: (lambda s: s[: len(s) // args.window * args.window].view(-1, args.window)[:64])(
            stream(tokenizer, [t for n, (_, h) in parts.items() if n.startswith(kind) for t in h])
        )
        for kind in ("corpus", "pool")
    }
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=192,
            intermediate_size=512,
            num_hidden_layers=4,
            num_attention_heads=6,
            num_key_value_heads=6,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            use_cache=False,
        )
    )
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {windows.numel():,} tokens an epoch", flush=True)
    decay = [p for p in model.parameters() if p.dim() > 1]
    plain = [p for p in model.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}], betas=(0.9, 0.95)
    )
    curve, start, position = [], time.monotonic(), 0
    permutation = torch.randperm(len(windows), generator=generator)
    for step in range(args.steps):
        warm = min(1.0, (step + 1) / 100)
        rate = args.lr * warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / args.steps)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        if position + args.batch > len(windows):
            permutation, position = torch.randperm(len(windows), generator=generator), 0
        batch = windows[permutation[position : position + args.batch]]
        position += args.batch
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 50 == 0 or step == args.steps - 1:
            with torch.autocast("cpu", torch.bfloat16):
                figures = {f"held_out_{k}_perplexity": round(perplexity(model, w, 16), 3) for k, w in held.items()}
            tokens, seconds = (step + 1) * batch.numel(), time.monotonic() - start
            curve.append(
                {"step": step, "tokens": tokens, "seconds": round(seconds), "loss": round(loss.item(), 4), **figures}
            )
            print(curve[-1], flush=True)
    model.to(torch.bfloat16).save_pretrained(args.out)
    tokenizer.save_pretrained(args.out)
    with (HERE / "loss_curve.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(curve[0]))
        writer.writeheader()
        writer.writerows(curve)
    arguments = {**vars(args), "data": "../shared/data", "out": str(args.out), "sources": SOURCES}
    arguments |= {"torch": torch.__version__, "machine": platform.machine(), "threads": torch.get_num_threads()}
    (HERE / "arguments.json").write_text(json.dumps(arguments, indent=2) + "\n")


if __name__ == "__main__":
    main()
