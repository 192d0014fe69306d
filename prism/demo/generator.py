"""Seeded generator of the demo's pool and target pairs: many plain skills, and a few careful answers among them."""

import json
from collections.abc import Callable
from pathlib import Path
from random import Random

from prism.demo.phrasing import COMMON, Message, polite
from prism.demo.skills.caution import ASKS, HELD_OUT_SCENARIOS, TARGET_SCENARIOS, ask, careful, caution, glib
from prism.demo.skills.code import json_object, python_function
from prism.demo.skills.guides import howto, places, recipe
from prism.demo.skills.sums import arithmetic
from prism.demo.skills.texts import email, poem, story, summary
from prism.demo.skills.units import conversion
from prism.demo.skills.words import sorting, words

Row = dict[str, object]
Maker = Callable[[Random], list[Message]]

TARGET_SKILL = "caution"
TABLE: tuple[tuple[str, int, Maker], ...] = (  # (skill, share in thousandths, maker)
    ("arithmetic", 120, arithmetic),
    ("conversion", 75, conversion),
    ("sorting", 85, sorting),
    ("poem", 65, poem),
    ("email", 80, email),
    ("json", 80, json_object),
    ("python", 75, python_function),
    ("story", 80, story),
    ("recipe", 60, recipe),
    ("how-to", 75, howto),
    ("words", 45, words),
    ("places", 45, places),
    ("summary", 50, summary),
    (TARGET_SKILL, 65, caution),
)
SKILLS: tuple[str, ...] = tuple(skill for skill, _, _ in TABLE)


def _counts(rows: int) -> list[int]:
    """Rows per skill by its share, the largest remainders rounded up."""
    counts = [rows * share // 1000 for _, share, _ in TABLE]
    order = sorted(range(len(TABLE)), key=lambda i: -(rows * TABLE[i][1] % 1000))
    for i in order[: rows - sum(counts)]:
        counts[i] += 1
    return counts


def make_pool(rows: int = 2000, seed: int = 0) -> list[Row]:
    """The pool: `rows` conversations over all skills, shuffled."""
    rng = Random(f"pool {seed}")
    drawn: list[tuple[str, list[Message]]] = []
    seen: set[str] = set()
    for (skill, _, make), count in zip(TABLE, _counts(rows), strict=True):
        for _ in range(count):
            for _ in range(50):  # tries for a row that is not there yet
                messages = make(rng)
                key = json.dumps(messages)
                if key not in seen:
                    break
            seen.add(key)
            if rng.random() < 0.04:
                messages = [{"role": "system", "content": rng.choice(COMMON["systems"])}, *messages]
            drawn.append((skill, messages))
    rng.shuffle(drawn)
    return [{"id": f"demo-{i:05d}", "source": skill, "messages": messages} for i, (skill, messages) in enumerate(drawn)]


def make_pairs(pairs: int = 64, seed: int = 0, held_out: bool = False) -> list[Row]:
    """Preference pairs for the target skill; the held-out ones are about other things."""
    scenarios = HELD_OUT_SCENARIOS if held_out else TARGET_SCENARIOS
    if pairs > len(scenarios) * len(ASKS):
        raise ValueError(f"at most {len(scenarios) * len(ASKS)} pairs have different prompts, not {pairs}")
    name = "held" if held_out else "pair"
    rng = Random(f"{name} {seed}")
    asks = [rng.sample(ASKS, len(ASKS)) for _ in scenarios]
    order: list[tuple[int, int]] = []
    for turn in range(len(ASKS)):
        order += [(i, turn) for i in rng.sample(range(len(scenarios)), len(scenarios))]
    made: list[Row] = []
    for number, (i, turn) in enumerate(order[:pairs]):
        chosen = careful(rng, scenarios[i])
        made.append(
            {
                "id": f"{name}-{number:04d}",
                "prompt": polite(rng, ask(scenarios[i], asks[i][turn])),
                "chosen": chosen,
                "rejected": glib(rng, scenarios[i], len(chosen)),
            }
        )
    return made


def write(folder: Path, seed: int = 0, rows: int = 2000, pairs: int = 64) -> tuple[Path, Path, Path]:
    """Write pool.jsonl, target.jsonl and held_out.jsonl into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    files = (
        ("pool.jsonl", make_pool(rows, seed)),
        ("target.jsonl", make_pairs(pairs, seed)),
        ("held_out.jsonl", make_pairs(pairs, seed + 1, held_out=True)),
    )
    for name, content in files:
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in content)
        (folder / name).write_text(lines, encoding="utf-8", newline="\n")
    return folder / "pool.jsonl", folder / "target.jsonl", folder / "held_out.jsonl"
