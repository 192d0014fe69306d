"""Bases for `scales`: models of several families and sizes, pretrained on the shared corpus and pools.

    python benchmarks/experiments/pretrain.py --data ../shared/data --tokenizer ../shared/models/tiny-llama-2.6M \
        --families llama qwen2 gpt_neox --sizes 30M 80M --tokens 60M --out results/bases

Each goes to OUT/FAMILY-SIZE with its perplexity on rows that it was not trained on (every 50th) in `pretrain.json`; one
that is there already is left as it is. A GPU is for 30M and up; two CPU cores make about 6,000 tokens a second at 2.6M.
On a CPU, where few tokens are to teach most: `--window 256 --batch 8 --learning-rate 3e-3`.
"""

import argparse
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from material import read
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments, set_seed

HELD_OUT = 50  # one row in so many
WIDTHS = range(64, 4097, 32)
UNITS = {"K": 1e3, "M": 1e6, "B": 1e9}


def number(text: str) -> int:
    """30M is 30,000,000."""
    if not (found := re.fullmatch(r"(\d+(?:\.\d+)?)([KMB])", text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no number such as 30M")
    return int(float(found[1]) * UNITS[found[2]])


def shaped(family: str, parameters: int, tokenizer: Any, window: int) -> Any:
    """An untrained model of about so many parameters: some 64 times as wide as deep, as small published models are."""

    def config(width: int, depth: int) -> Any:
        heads = width // 32
        inner = 4 * width if family == "gpt_neox" else -(-8 * width // 3 // 32) * 32  # two matrices, or three
        return AutoConfig.for_model(
            family,
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=inner,
            num_hidden_layers=depth,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            max_position_embeddings=max(1024, 2 * window),
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            use_cache=False,
        )

    def size(width: int) -> int:
        return len(tokenizer) * width + 12 * width**2 * max(2, round(width / 64))

    width = min(WIDTHS, key=lambda width: abs(size(width) - parameters))
    return AutoModelForCausalLM.from_config(config(width, max(2, round(width / 64))), dtype=torch.float32)


def windows(data: Path, tokenizer: Any, held_out: bool, window: int) -> torch.Tensor:
    """Token ids [windows, window] of the corpus and of the pools' rows, or of the rows that are held out."""
    ids: list[int] = []
    for text in texts(data, tokenizer, held_out):
        ids += [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    return torch.tensor(ids[: len(ids) // window * window]).view(-1, window)


def texts(data: Path, tokenizer: Any, held_out: bool) -> Iterator[str]:
    for path in [] if held_out else sorted((data / "corpus").glob("*.txt")):
        lines = path.read_text(encoding="utf-8").splitlines()
        yield from ("\n".join(lines[i : i + 20]) for i in range(0, len(lines), 20))
    for path in sorted((data / "pool").glob("*.jsonl")):
        for place, row in enumerate(read(path)):
            if (place % HELD_OUT == 0) == held_out:
                yield tokenizer.apply_chat_template(row["messages"], tokenize=False)


def pretrain(model: Any, out: Path, train: torch.Tensor, held_out: torch.Tensor, args: argparse.Namespace) -> float:
    """Train `model` on so many tokens, saving nothing; returns its mean loss on `held_out`, in nats per token."""
    arguments = TrainingArguments(
        output_dir=str(out),
        max_steps=max(1, args.tokens // (args.batch * args.window)),
        per_device_train_batch_size=args.batch,
        per_device_eval_batch_size=args.batch,
        learning_rate=args.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=0.05,
        weight_decay=0.1,
        adam_beta2=0.95,
        bf16=torch.cuda.is_available(),
        seed=args.seed,
        save_strategy="no",
        report_to=[],
        logging_steps=100,
        prediction_loss_only=True,
    )
    sets = [[{"input_ids": ids, "labels": ids} for ids in part] for part in (train, held_out)]
    trainer = Trainer(model, arguments, train_dataset=sets[0], eval_dataset=sets[1])
    trainer.train()
    return float(trainer.evaluate()["eval_loss"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the shared data: corpus/, pool/")
    parser.add_argument("--tokenizer", required=True, help="a model's folder; its tokenizer has a chat template")
    parser.add_argument("--families", nargs="+", default=["llama", "gpt_neox"], help="model types of transformers")
    parser.add_argument("--sizes", nargs="+", type=number, default=[number("30M"), number("80M")])
    parser.add_argument("--tokens", type=number, default=number("60M"), help="to train on, for each")
    parser.add_argument("--window", type=int, default=512, help="tokens of a sample")
    parser.add_argument("--batch", type=int, default=32, help="samples of a step")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(args.tokenizer)
    train, held_out = (windows(args.data, tokenizer, held, args.window) for held in (False, True))
    for family in args.families:
        for wanted in args.sizes:
            set_seed(args.seed)
            model = shaped(family, wanted, tokenizer, args.window)
            size = sum(parameter.numel() for parameter in model.parameters())
            out = args.out / f"{family}-{size / 1e6:.1f}M"
            if (out / "pretrain.json").exists():
                continue
            print(f"{out.name}: {min(args.tokens, train.numel()):,} of {train.numel():,} tokens", flush=True)
            loss = pretrain(model, out, train, held_out, args)
            model.to(torch.bfloat16).save_pretrained(out)
            tokenizer.save_pretrained(out)
            found = {**vars(args), "parameters": size, "held_out_loss": loss, "held_out_perplexity": math.exp(loss)}
            (out / "pretrain.json").write_text(json.dumps(found, default=str, indent=2) + "\n")
            print(f"{out}: perplexity {math.exp(loss):.1f} on held-out rows", flush=True)


if __name__ == "__main__":
    main()
