"""Pairs from any source, written as `prism select --target` reads them."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prism.errors import ConfigError, DataError
from prism.files import write_whole
from prism.pairs.answers import Speaker, prompts_pairs, sampled_pairs
from prism.pairs.choices import choice_pairs
from prism.pairs.config import PairsConfig
from prism.pairs.items import Draft, Names, Reading
from prism.pairs.preference import preference_pairs
from prism.pairs.report import report, warnings
from prism.pairs.swap import swap_pairs
from prism.progress import Progress, Silent
from prism.selection.selection import json_line

Make = Callable[[PairsConfig, Reading, Callable[[], Speaker]], Iterator[Draft]]


def _choices(config: PairsConfig, reading: Reading, speaker: Callable[[], Speaker]) -> Iterator[Draft]:
    return choice_pairs(config, reading, speaker().likes if config.wrong == "likely" else None)


KINDS: dict[str, Make] = {
    "choices": _choices,
    "preference": lambda config, reading, speaker: preference_pairs(config, reading),
    "sampled": lambda config, reading, speaker: sampled_pairs(config, reading, speaker()),
    "swap": lambda config, reading, speaker: swap_pairs(config, reading),
    "prompts": lambda config, reading, speaker: prompts_pairs(config, reading, speaker()),
}


@dataclass(frozen=True)
class Made:
    """The file of pairs, that of what was dropped, and the report on both."""

    path: Path
    rejected: Path
    summary: dict[str, Any]


def make_pairs(config: PairsConfig, progress: Progress | None = None) -> Made:
    """Write the pairs of `config.kind` into `config.out`, and what was dropped, with file, line and reason, beside it.

    Pairs whose sides are equal, and those that say the same as an earlier one, are dropped.

    Raises:
        ConfigError: `out` is there already, or no .jsonl.
        DataError: nothing can be read, or no pair is left; `rejected` is written even so.
        ModelError: the model can't be loaded.
    """
    progress = progress or Silent()
    path, aside = _places(config)
    reading = Reading(config.data, config.columns, config.on_bad_row)
    names, seen = Names(), dict[str, str]()
    pairs: list[tuple[str, Draft]] = []
    equal = repeated = 0
    for draft in KINDS[config.kind](config, reading, lambda: Speaker.load(config, progress)):
        if draft.chosen.strip() == draft.rejected.strip():
            equal += 1
            reading.drop(draft.item.bad("chosen and rejected are equal"))
        elif not draft.chosen.strip() or not draft.rejected.strip():
            reading.drop(draft.item.bad("an answer is empty"))
        elif (content := draft.content) in seen:
            repeated += 1
            reading.drop(draft.item.bad(f"says the same as the pair {seen[content]}"))
        else:
            seen[content] = names.of(draft)
            pairs.append((seen[content], draft))
    write_whole(aside, (json.dumps(row.as_json()).encode() + b"\n" for row in reading.rejected))
    if not pairs:
        first = f"; the first of {len(reading.rejected)} dropped: {reading.rejected[0]}" if reading.rejected else ""
        raise DataError(f"{', '.join(config.data)} gives no pair{first} ({aside} lists all)")
    write_whole(path, (json_line(draft.as_json(name)).encode() + b"\n" for name, draft in pairs))
    found = report(pairs)
    summary = {
        "out": str(path),
        "rejected": str(aside),
        "kind": config.kind,
        "read": reading.read,
        **found,
        "dropped": len(reading.rejected),
        "equal": equal,
        "duplicates": repeated,
        "reasons": _reasons(reading),
        "notices": warnings(found),
    }
    return Made(path, aside, summary)


def _places(config: PairsConfig) -> tuple[Path, Path]:
    path = Path(config.out).expanduser()
    if path.suffix != ".jsonl":
        raise ConfigError(f"--out {config.out}: pairs are written as .jsonl")
    aside = path.with_name(f"{path.stem}.rejected.jsonl")
    if path.exists() and not config.overwrite:
        raise ConfigError(f"{path} is there already: name another --out, or give --overwrite")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(aside, b"")
    except OSError as error:
        raise ConfigError(f"{path} can't be written: {error}") from error
    return path, aside


def _reasons(reading: Reading, most: int = 10) -> dict[str, int]:
    """How often each reason, ids and figures aside, most first."""
    counts: dict[str, int] = {}
    for row in reading.rejected:
        short = row.reason.partition(":")[0]
        short = "says the same as another pair" if short.startswith("says the same as the pair") else short
        counts[short] = counts.get(short, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1])[:most])
