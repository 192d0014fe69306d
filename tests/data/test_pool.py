"""Pools and targets: ids, sources, bad rows, and random rows that must end as rows or reasons."""

import contextlib
import csv
import json
import random
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prism.data import Encoder, load_pool, load_target, open_pool, open_target
from prism.errors import ConfigError, DataError, PrismError, RowError
from tests.conftest import Rows

T = TypeVar("T")
R = TypeVar("R")
Writer = Callable[[str, Rows], Path]


def row(answer: str = "a", **fields: Any) -> dict[str, Any]:
    return {"prompt": "q", "completion": answer, **fields}


def ids(rows: Rows) -> list[str]:
    return [r.id for r in open_pool(rows)]


def reasons(rows: Rows) -> list[str]:
    return [bad.reason for bad in open_pool(rows).rejected]


class TestIds:
    def test_content_makes_an_id_that_form_and_place_do_not_change(self, write_jsonl: Writer) -> None:
        (first,) = ids([row()])
        assert ids([row("b"), {"instruction": "q", "output": "a", "extra": 1}])[1] == first
        assert [r.id for r in load_pool(write_jsonl("x.jsonl", [row()]))] == [first]
        assert len(first) == 16

    def test_own_ids(self) -> None:
        assert ids([row(id="x"), row("b", id=7), row("c", id="ü 1"), row("d", id=8.0)]) == ["x", "7", "ü 1", "8"]
        pool = load_pool([row(key="k", id="x")], columns={"id": "key"})
        assert [r.id for r in pool] == ["k"]

    @pytest.mark.parametrize("missing", [None, "", float("nan")])
    def test_no_id(self, missing: Any) -> None:
        assert ids([row(id=missing)]) == ids([row()])

    def test_identical_rows_go_through_with_a_suffix(self) -> None:
        assert ids([row(id="x"), row(id="x", note=1), row(id="x")]) == ["x", "x#2", "x#3"]
        first, second = ids([row(), row()])
        assert second == f"{first}#2"

    def test_suffixes_give_way_to_own_ids(self) -> None:
        assert ids([row(id="x"), row("b", id="x#2"), row(id="x")]) == ["x", "x#2", "x#3"]

    def test_an_own_id_that_was_given_to_a_copy_is_no_clash(self) -> None:
        assert ids([row(id="x"), row(id="x"), row("b", id="x#2")]) == ["x", "x#2", "x#2#2"]

    def test_one_id_for_two_contents_is_a_bad_row(self) -> None:
        rows = [row(id="x"), row("b", id="x"), row(id="x"), row("c", id="7"), row("d", id=7)]
        assert ids(rows) == ["x", "x#2", "7"]
        assert reasons(rows) == [f"id '{name}' was already used for a row with other contents" for name in "x7"]

    def test_ids_are_unique_across_files(self, write_jsonl: Writer) -> None:
        pool = load_pool(
            [write_jsonl("a.jsonl", [row(id="x")]), write_jsonl("b.jsonl", [row(id="x"), row("b", id="x")])]
        )
        assert [r.id for r in pool] == ["x", "x#2"]
        assert [(Path(bad.file).name, bad.line) for bad in pool.rejected] == [("b.jsonl", 2)]

    @pytest.mark.parametrize(
        "own", [True, 1.5, [1], {"a": 1}, " ", "a\nb", "\x1b[31m", "\ud800", pytest.param(10**5000, id="huge")]
    )
    def test_what_is_no_id(self, own: Any) -> None:
        (reason,) = reasons([row(id=own)])
        assert "id " in reason or "digits" in reason

    def test_pairs_have_ids_of_both_answers(self) -> None:
        rows = [{"prompt": "q", "chosen": "a", "rejected": r} for r in ("b", "c", "b")]
        first, second, third = (p.id for p in load_target(rows))
        assert first != second and third == f"{first}#2"


class TestSources:
    def test_own_source_or_dataset_or_file(self, write_jsonl: Writer) -> None:
        rows = [
            row(source="web"),
            row("b", dataset="set"),
            row("c"),
            row("d", source=5),
            row("e", source="", dataset="set"),
        ]
        pool = load_pool(write_jsonl("some.file.jsonl", rows))
        assert [r.source for r in pool] == ["web", "set", "some.file", "some.file", "set"]

    def test_mapped_or_ignored(self) -> None:
        rows = [row(source="web", dataset="set", kind="k")]
        assert [r.source for r in load_pool(rows, columns={"source": "kind"})] == ["k"]
        assert [r.source for r in load_pool(rows, columns={"source": ""})] == ["list"]

    def test_source_is_fit_to_print(self) -> None:
        (found,) = load_pool([row(source="a\ud800\nb" + "x" * 1000)])
        assert found.source.startswith("a\\ud800\\nbxx") and len(found.source) < 500


class TestBadRows:
    def test_each_carries_file_line_and_reason(self, tmp_path: Path) -> None:
        path = tmp_path / "pool.jsonl"
        path.write_text("\n".join([json.dumps(row()), "", "{", json.dumps({"messages": []}), json.dumps(row("b"))]))
        pool = load_pool(path)
        assert len(pool) == 2
        assert [(bad.file, bad.line) for bad in pool.rejected] == [(str(path), 3), (str(path), 4)]
        assert str(pool.rejected[1]) == f"{path}, line 4: messages is an empty list"
        assert pool.rejected[1].as_json()["reason"] == "messages is an empty list"
        assert [r.line for r in pool] == [1, 5], "a second reading gives the same"

    @pytest.mark.parametrize("load", [load_pool, load_target])
    def test_stop_raises_on_the_first(self, load: Any, write_jsonl: Writer) -> None:
        good = {"prompt": "q", "completion": "a", "chosen": "a", "rejected": "b"}
        path = write_jsonl("x.jsonl", [good, {"prompt": ""}, {}])
        with pytest.raises(DataError, match=rf"bad row in {path}, line 2: .*--on-bad-row skip sets such rows aside"):
            load(path, on_bad_row="stop")
        assert len(load(path)) == 1

    def test_no_good_row_at_all(self, write_jsonl: Writer) -> None:
        path = write_jsonl("x.jsonl", [{"text": "a"}] * 3)
        with pytest.raises(
            DataError, match=rf"all 3 rows of the pool were rejected; the first: {path}, line 1: unknown"
        ):
            load_pool(path)
        with pytest.raises(DataError, match=r"all 3 rows of the target were rejected; .*no 'chosen' field"):
            load_target(path)

    def test_reasons_are_fit_to_print(self) -> None:
        names = {"\x1b[31m\n\ud800" + "x" * 1000: 1}
        role = {"messages": [{"role": "r" * 1_000_000, "content": "a"}]}
        for reason in reasons([names, role]):
            assert reason.isprintable() and len(reason) < 1000
        assert "\\x1b[31m\\n\\ud800" in reasons([names])[0]

    def test_wrong_options(self) -> None:
        with pytest.raises(ConfigError, match="columns: unknown field 'promt'; known fields are messages"):
            load_pool([row()], columns={"promt": "x"})
        with pytest.raises(ConfigError, match="on_bad_row 'ignore' is neither skip nor stop"):
            load_pool([row()], on_bad_row="ignore")  # type: ignore[arg-type]

    def test_rows_keep_the_record_untouched(self) -> None:
        record = row(extra={"deep": [1, None, float("inf")]}, lone="\udc00", huge=10**400)
        (found,) = load_pool([record])
        assert found.record == record


class TestParts:
    def test_a_part_is_a_pool(self, write_jsonl: Writer) -> None:
        files = [write_jsonl(f"{name}.jsonl", [row(name + str(i), id=f"{name}{i}") for i in range(3)]) for name in "ab"]
        pool = load_pool(files)
        part = pool.part([0, 2, 4])
        assert [(r.id, r.file, r.line, r.source) for r in part] == [
            (r.id, r.file, r.line, r.source) for i, r in enumerate(pool) if i in (0, 2, 4)
        ]
        assert len(part) == 3 and not part.rejected
        assert [r.id for r in part.part([1, 2])] == ["a2", "b1"]

    def test_it_can_be_dealt_to_piles(self) -> None:
        pool = load_pool([row(str(i), id=i) for i in range(7)])
        assert [r.id for r in pool.part(range(7), piles=3)] == ["0", "3", "6", "1", "4", "2", "5"]

    def test_bad_rows_are_left_out_and_columns_kept(self) -> None:
        pool = load_pool([{"q": "x", "a": "y"}, {}, {"q": "z", "a": "y"}], columns={"prompt": "q", "completion": "a"})
        assert [r.line for r in pool.part([0, 1, 2])] == [1, 3]

    def test_places_that_are_not_there(self) -> None:
        assert len(load_pool([row()]).part([0, 5])) == 1


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet"])
def test_memory_does_not_grow_with_the_pool(suffix: str, tmp_path: Path) -> None:
    def peak(rows: int) -> int:
        path = tmp_path / f"{rows}{suffix}"
        write(path, [{"id": f"row {i}", "prompt": f"q{i}", "completion": "a" * 200} for i in range(rows)])
        tracemalloc.start()
        try:
            assert len(open_pool(path)) == rows
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    def write(path: Path, rows: Rows) -> None:
        if suffix == ".parquet":
            pq.write_table(pa.Table.from_pylist(rows), path)
            return
        with path.open("w", newline="") as file:
            if suffix == ".csv":
                table = csv.DictWriter(file, list(rows[0]))
                table.writeheader()
                table.writerows(rows)
            elif suffix == ".json":
                json.dump(rows, file)
            else:
                file.writelines(json.dumps(row) + "\n" for row in rows)

    assert peak(10_000) - peak(5_000) < 100 * 5_000  # a row that stayed would take more than 300 bytes


NAMES = (
    "messages", "conversations", "prompt", "completion", "instruction", "input", "output", "system", "history",
    "chosen", "rejected", "id", "source", "dataset",
)  # fmt: skip
TEXTS = (
    "", " ", "q", "a\u2028b", "\ud800", "☃PRISM☃", "<|end|>", "<|bos|>x", "[{}]", "\x00", "\x1b[0m", "ü☀🦊", "null",
    '[{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]', "word " * 50,
)  # fmt: skip
ROLES = ("user", "assistant", "assistant", "user", "system", "tool", "human", "gpt", None, 5, "developer")


def random_value(draw: random.Random, depth: int = 0) -> Any:
    kind = draw.randrange(10 if depth < 4 else 7)
    if kind == 7:
        return [random_turn(draw) for _ in range(draw.randrange(4))]
    if kind == 8:
        return [random_value(draw, depth + 1) for _ in range(draw.randrange(3))]
    if kind == 9:
        keys = draw.sample((*NAMES, "role", "content", "from", "value", "type", "text"), draw.randrange(4))
        return {key: random_value(draw, depth + 1) for key in keys}
    scalars = (None, True, draw.randint(-3, 3), 10**300, float("nan"), float("-inf"), 0.5)
    return draw.choice(TEXTS) if kind < 5 else draw.choice(scalars)


def random_turn(draw: random.Random) -> dict[str, Any]:
    role, content = draw.choice((("role", "content"), ("from", "value")))
    text = draw.choice(TEXTS) if draw.random() < 0.8 else random_value(draw, 3)
    return {role: draw.choice(ROLES), content: text}


def random_row(draw: random.Random) -> Any:
    """Mostly objects with the right field names, some of them with usable values."""
    if draw.random() < 0.05:
        return random_value(draw)
    base: dict[str, Any] = draw.choice(
        (
            {"prompt": "q", "completion": "a"}, {"messages": [random_turn(draw) for _ in range(draw.randrange(5))]},
            {"instruction": "q", "output": "a"}, {"prompt": "q", "chosen": "a", "rejected": "b"}, {},
        )
    )  # fmt: skip
    changed = draw.sample(NAMES, draw.randrange(4))
    return {**base, **{name: random_value(draw) for name in changed}}


def attempts(encode: Callable[[T], R], data: Iterable[T]) -> Iterator[R]:
    for item in data:
        with contextlib.suppress(RowError):
            yield encode(item)


@pytest.mark.parametrize("suffix", [".jsonl", ".json", "list"])
@pytest.mark.parametrize("seed", range(6))
def test_random_rows_end_as_rows_or_reasons(suffix: str, seed: int, tokenizer: Any, tmp_path: Path) -> None:
    draw = random.Random(f"{seed} {suffix}")
    rows = [random_row(draw) for _ in range(250)]
    where: Any = [{}, *rows]
    if suffix != "list":
        where = tmp_path / f"rows{suffix}"
        where.write_text(json.dumps(rows) if suffix == ".json" else "\n".join(map(json.dumps, rows)) + "\n")
    encoders = [
        Encoder(tokenizer, max_length=12),
        Encoder(tokenizer, max_length=300, responses="all"),
        Encoder(tokenizer, max_length=64, plain=True),
    ]
    pool, target = open_pool(where), open_target(where)
    expected = len(rows) + (suffix == "list")
    assert len(pool) + len(pool.rejected) == len(target) + len(target.rejected) == expected
    assert len(pool) > 20 and len(target) > 5
    assert all(bad.reason.isprintable() and bad.line > 0 for bad in (*pool.rejected, *target.rejected))
    assert len({r.id for r in pool}) == len(pool)
    for encoder in encoders:
        encoded = [*attempts(encoder.row, pool), *(side for pair in attempts(encoder.pair, target) for side in pair)]
        assert len(encoded) > 20
        assert all(len(e) <= encoder.max_length and e.response.any() and not e.response[0] for e in encoded)


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".tsv", ".parquet", ".jsonl.gz"])
@pytest.mark.parametrize("seed", range(25))
def test_random_bytes_end_as_rows_or_prism_errors(suffix: str, seed: int, tmp_path: Path) -> None:
    draw = random.Random(f"{seed} {suffix}")
    text = bytearray(b'[{"prompt": "q", "completion": "a"},\n{"prompt": "q,", "completion": "\xc3\xbc"}]\n' * 3)
    for _ in range(draw.randrange(12)):
        text[draw.randrange(len(text))] = draw.choice((*b'"{}[],\n\r\\', draw.randrange(256)))
    path = tmp_path / f"rows{suffix}"
    path.write_bytes(bytes(text))
    try:
        outcome = " ".join([*(row.file for row in load_pool(path)), *map(str, open_pool(path).rejected)])
    except PrismError as error:
        outcome = str(error)
    assert str(path) in outcome
