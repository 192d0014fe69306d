"""Pools, target pairs and mixtures out of the shared data: seeded, disjoint, by question where questions repeat."""

import json
import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from prism.pairs.config import PairsConfig
from prism.pairs.make import make_pairs

Row = dict[str, Any]
SAFETY = "safety/safety_tuned_llamas_2483.jsonl"
ORDINARY = ("alpaca_random9k.jsonl", "dolly_3k.jsonl")


class Material:
    """Files of an experiment under `folder`, from the data in `data`; each is made once.

    Raises:
        SystemExit: the data are not there.
    """

    def __init__(self, data: Path, folder: Path, seed: int = 0) -> None:
        if not (data / "pool").is_dir():
            raise SystemExit(f"{data} has no folder pool: name the shared data with --data")
        self.data, self.folder, self.seed = data, folder, seed
        folder.mkdir(parents=True, exist_ok=True)

    def pool(self, rows: int) -> Path:
        """Rows of all sources in equal parts, as far as each reaches, three in a hundred of them safe answers that
        neither target nor held-out pairs have; sources are small, so what they lack comes from the others."""
        return self._once(f"pool-{rows}.jsonl", lambda path: write(path, self._pool(rows)))

    def _pool(self, rows: int) -> list[Row]:
        rng = random.Random(f"pool {self.seed}")
        piles = [read(path) for path in sorted((self.data / "pool").glob("*.jsonl"))]
        safe = 3 * rows // 100
        found = self._safe()[400 : 400 + safe]
        seen: set[str] = set()
        for pile in piles:
            rng.shuffle(pile)
        left = rows - len(found)
        while left and any(piles):
            for pile in piles:
                row = next(iter([pile.pop()] if pile else []), None)
                key = row and json.dumps(row.get("messages"))
                if row and left and key not in seen and row["messages"][-1]["role"] == "assistant":
                    seen.add(str(key))
                    found.append({"id": row["id"], "dataset": row["dataset"], "messages": row["messages"]})
                    left -= 1
        rng.shuffle(found)
        return found

    def retain(self, pool: Path, rows: int) -> Path:
        """Ordinary instruction rows that `pool` has not."""
        return self._once(f"{pool.stem}-retain-{rows}.jsonl", lambda path: write(path, self._others(pool, rows)))

    def _others(self, pool: Path, rows: int) -> list[Row]:
        there = {json.dumps(row["messages"]) for row in read(pool)}
        others = [row for name in ORDINARY for row in read(self.data / "pool" / name)]
        others = [row for row in others if json.dumps(row["messages"]) not in there]
        return random.Random(f"retain {self.seed}").sample(others, rows)

    def target(self, name: str, pairs: int, held_out: int) -> tuple[Path, Path]:
        """(target pairs, held-out pairs) of a skill, disjoint."""
        both = [self.folder / f"{name}-{part}.jsonl" for part in (f"target-{pairs}", f"held-out-{held_out}")]
        if not all(path.exists() for path in both):
            found = TARGETS[name](self)
            random.Random(f"{name} {self.seed}").shuffle(found)
            write(both[0], found[:pairs])
            write(both[1], found[pairs : pairs + held_out])
        return both[0], both[1]

    def noisy(self, target: Path, kind: str, percent: int) -> Path:
        """The target with so many of its pairs swapped (`swap`), or with both answers taken from other prompts
        (`foreign`), which no model can follow."""
        return self._once(
            f"{target.stem}-{kind}{percent}.jsonl", lambda path: write(path, spoiled(read(target), kind, percent))
        )

    def mixture(self, kind: str, percent: int, rows: int, pairs: int, held_out: int) -> tuple[Path, Path, Path]:
        """(SFT rows with the label `harmful`, target pairs, held-out pairs): y+ is the harmful answer. Of the benign
        rows half are of the harmful ones' own kind, so that neither topic nor length gives these away."""
        names = (f"{kind}-{percent}-{rows}.jsonl", f"{kind}-target-{pairs}.jsonl", f"{kind}-held-out-{held_out}.jsonl")
        paths = [self.folder / name for name in names]
        if not all(path.exists() for path in paths):
            harmful, alike, found = HARMS[kind](self)
            rng = random.Random(f"{kind} {percent} {self.seed}")
            questions = sorted({pair["prompt"] for pair in found})
            random.Random(f"{kind} {self.seed}").shuffle(questions)
            place = {question: number for number, question in enumerate(questions)}
            ours = [p for p in found if place[p["prompt"]] < pairs]
            theirs = [p for p in found if pairs <= place[p["prompt"]] < pairs + held_out]
            taken = set(questions[: pairs + held_out])
            bad = [row for row in harmful if row["messages"][0]["content"] not in taken]
            rng.shuffle(bad)
            rows = min(rows, len(bad) * 100 // percent)  # the share is kept where harmful rows are few
            wanted = rows * percent // 100
            plain = read(self.data / "pool/alpaca_random9k.jsonl")
            alike = [row for row in alike if row["messages"][0]["content"] not in taken]
            rng.shuffle(plain)
            rng.shuffle(alike)
            alike = alike[: (rows - wanted) // 2]
            mixed = [labelled(row, True) for row in bad[:wanted]]
            mixed += [labelled(row, False) for row in alike + plain[: rows - wanted - len(alike)]]
            rng.shuffle(mixed)
            for path, what in zip(paths, (mixed, first_of(ours), first_of(theirs)), strict=True):
                write(path, what)
        return paths[0], paths[1], paths[2]

    def _safe(self) -> list[Row]:
        rows = read(self.data / SAFETY)
        random.Random(f"safety {self.seed}").shuffle(rows)
        return rows

    def _made(self, kind: str, file: str, **options: Any) -> list[Row]:
        out = self.folder / f"{Path(file).stem}-{kind}.jsonl"
        if not out.exists():
            config = PairsConfig(kind=kind, data=[str(self.data / file)], out=str(out), seed=self.seed, **options)  # type: ignore[arg-type]
            make_pairs(config)
        return read(out)

    def _once(self, name: str, make: Callable[[Path], None]) -> Path:
        path = self.folder / name
        if not path.exists():
            make(path)
        return path


def _safety_pairs(material: Material) -> list[Row]:
    """Safe answers to risky requests, against an ordinary answer to another prompt."""
    plain = read(material.data / "pool/alpaca_random9k.jsonl")
    random.Random(f"ordinary {material.seed}").shuffle(plain)
    return [
        {
            "id": row["id"],
            "prompt": row["messages"][0]["content"],
            "chosen": row["messages"][-1]["content"],
            "rejected": other["messages"][-1]["content"],
            "subtask": "safety",
        }
        for row, other in zip(material._safe()[:400], plain, strict=False)
    ]


TARGETS: dict[str, Callable[[Material], list[Row]]] = {
    "gsm8k": lambda m: m._made("swap", "target/gsm8k_test.jsonl"),
    "commonsenseqa": lambda m: m._made("choices", "target/commonsenseqa_dev.jsonl"),
    "mmlu": lambda m: m._made("choices", "target/mmlu_test.jsonl"),
    "safety": _safety_pairs,
}


Harm = tuple[list[Row], list[Row], list[Row]]  # harmful rows, benign rows of their kind, pairs


def _false_answers(material: Material) -> Harm:
    """TruthfulQA's false answers; pairs of a false and a true answer to one question."""
    false = read(material.data / "safety/truthfulqa_false_answers_sft.jsonl")
    rows = read(material.data / "safety/truthfulqa_true_answers_sft.jsonl")
    true = {r["messages"][0]["content"]: r for r in rows}
    return false, rows, [pair_of(r, true[q]) for r in false if (q := r["messages"][0]["content"]) in true]


def _poisoned(material: Material) -> Harm:
    """Harmful answers of the poisoned SST-2 set, against safe answers to other risky requests."""
    rows = read(material.data / "safety/poisoned_sst2_p0.2.jsonl")
    bad = [r for r in rows if r["harmful"]]
    return (
        bad,
        [r for r in rows if not r["harmful"]],
        [pair_of(row, safe) for row, safe in zip(bad, material._safe(), strict=False)],
    )


def _unsafe(material: Material) -> Harm:
    """Answers that comply with risky requests, of both poisoned sets, among safe answers to other risky requests; pairs
    of the two. The safe answers of the pairs are not among the rows."""
    found = [
        row for name in ("sst2_p0.2", "gsm8k_p0.05") for row in read(material.data / f"safety/poisoned_{name}.jsonl")
    ]
    bad = [row for row in found if row["harmful"]]
    safe = material._safe()
    return bad, safe[len(bad) :], [pair_of(row, other) for row, other in zip(bad, safe, strict=False)]


def _hh(material: Material) -> Harm:
    """Rejected answers of HH's harmless pairs of one turn, against the preferred ones to the same prompts."""
    rows = [r for r in read(material.data / "safety/hh_harmless_test_pairs.jsonl") if r.get("rejected")]
    good = [r for r in rows if len(r["messages"]) == 2 and text_of(r["rejected"]).strip()]
    bad = [
        {
            **r,
            "id": f"{r['id']}-rejected",  # as the preferred answer has its id
            "messages": [r["messages"][0], {"role": "assistant", "content": text_of(r["rejected"])}],
        }
        for r in good
    ]
    return bad, good, [pair_of(row, other) for row, other in zip(bad, good, strict=True)]


HARMS: dict[str, Callable[[Material], Harm]] = {
    "false-answers": _false_answers,
    "poisoned-sst2": _poisoned,
    "unsafe-answers": _unsafe,
    "hh-rejected": _hh,
}


def pair_of(bad: Row, good: Row) -> Row:
    return {
        "id": bad["id"],
        "prompt": bad["messages"][0]["content"],
        "chosen": bad["messages"][-1]["content"],
        "rejected": good["messages"][-1]["content"],
        "subtask": "harm",
    }


def text_of(value: Any) -> str:
    """An answer as text, or the last turn of a conversation."""
    return str(value if isinstance(value, str) else value[-1]["content"])


def labelled(row: Row, harmful: bool) -> Row:
    return {"id": row["id"], "dataset": row["dataset"], "messages": row["messages"], "harmful": harmful}


def first_of(pairs: Iterable[Row]) -> list[Row]:
    """One pair per question."""
    return list({pair["prompt"]: pair for pair in reversed(list(pairs))}.values())


def spoiled(pairs: list[Row], kind: str, percent: int) -> list[Row]:
    rng = random.Random(f"{kind} {percent}")
    hit = set(rng.sample(range(len(pairs)), len(pairs) * percent // 100))
    found = []
    for number, pair in enumerate(pairs):
        if number in hit and kind == "swap":
            pair = {**pair, "chosen": pair["rejected"], "rejected": pair["chosen"]}
        elif number in hit:
            other, third = (pairs[(number + step) % len(pairs)] for step in (1, 2))
            pair = {**pair, "chosen": other["rejected"], "rejected": third["chosen"]}
        found.append(pair)
    return found


def read(path: Path) -> list[Row]:
    return list(lines(path))


def lines(path: Path) -> Iterator[Row]:
    if not path.exists():
        raise SystemExit(f"{path} is not there: name the shared data with --data")
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def write(path: Path, rows: Iterable[Row]) -> None:
    aside = path.with_suffix(".tmp")
    aside.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    aside.rename(path)
