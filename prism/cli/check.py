"""`prism check`: whether scores of a model of yours are right, and by which engine."""

import json
from pathlib import Path
from typing import Annotated

import typer

from prism.config import Quantize


def command(
    model: Annotated[str, typer.Argument(help="Causal LM: a folder or a hub id.")],
    adapter: Annotated[str | None, typer.Option(help="PEFT LoRA adapter on it: a folder or a hub id.")] = None,
    tokenizer: Annotated[str | None, typer.Option(help="Tokenizer, where it is not the model's own.")] = None,
    revision: Annotated[str | None, typer.Option(help="Revision of a hub model.")] = None,
    pool: Annotated[list[Path] | None, typer.Option(help="Rows to check on; a few texts of ours unless given.")] = None,
    parameters: Annotated[
        str, typer.Option(help="What carries gradients: auto, lora, linear, all, or a regular expression on names.")
    ] = "auto",
    dtype: Annotated[str, typer.Option(help="auto (the checkpoint's), float32, bfloat16, float16, float64.")] = "auto",
    quantize: Annotated[
        Quantize | None, typer.Option(help="Keep matrices in so few bits; gradients in a LoRA.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    samples: Annotated[int, typer.Option(min=1, help="How many samples to check on.")] = 5,
    max_length: Annotated[int | None, typer.Option(min=2, help="Longest sample in tokens.")] = None,
    trust_remote_code: Annotated[bool, typer.Option(help="Run code that comes with a model.")] = False,
    allow_pickle: Annotated[bool, typer.Option(help="Load pickle weights, which can run code.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Compare a model's scores and gradient norms with per-sample autograd, and print the largest error."""
    from prism.cli.show import only_ours, show_check
    from prism.data import load_pool
    from prism.model import load_model
    from prism.scoring.check import check_model, check_samples

    with only_ours():
        rows = load_pool([str(place) for place in pool]) if pool else None
        loaded = load_model(
            model,
            adapter=adapter,
            tokenizer=tokenizer,
            revision=revision,
            parameters=parameters,
            device=device,
            dtype=dtype,
            quantize=quantize,
            trust_remote_code=trust_remote_code,
            allow_pickle=allow_pickle,
        )
        report = check_model(loaded, check_samples(loaded.encoder(max_length=max_length), rows, samples))
    if as_json:
        print(json.dumps(report.as_json(), allow_nan=False))
    else:
        show_check(repr(loaded), report, loaded.notices)
