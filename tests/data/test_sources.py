"""Every usual place that rows come from, and every way that a file of them can be broken."""

import datetime
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prism.data import Row, load_pool, open_pool
from prism.data.sources import open_sources
from prism.errors import DataError
from tests.conftest import Rows

ROWS: Rows = [{"prompt": f"Question {i}?", "completion": f"Answer {i} ☀"} for i in range(3)]
ANSWERS = [row["completion"] for row in ROWS]


def answers(where: Any, **options: Any) -> list[str]:
    return [row.messages[-1]["content"] for row in load_pool(where, **options)]


def rejected(where: Any) -> list[tuple[int, str]]:
    return [(bad.line, bad.reason) for bad in open_pool(where).rejected]


def write_csv(path: Path, delimiter: str = ",") -> None:
    lines = [delimiter.join(ROWS[0]), *(delimiter.join(row.values()) for row in ROWS)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_lines(path: Path) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")


def write_array(path: Path) -> None:
    path.write_text(json.dumps(ROWS, indent=1), encoding="utf-8")


def write_archive(path: Path) -> None:
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, ROWS)).encode()))


def save_dataset(path: Path) -> None:
    datasets.Dataset.from_list(ROWS).save_to_disk(str(path))


WRITERS: dict[str, Callable[[Path], None]] = {
    "pool.jsonl": write_lines,
    "pool.ndjson": write_lines,
    "lines.json": write_lines,
    "UPPER.JSONL": write_lines,
    "array.json": write_array,
    "pool.csv": write_csv,
    "pool.tsv": lambda path: write_csv(path, "\t"),
    "pool.parquet": lambda path: pq.write_table(pa.Table.from_pylist(ROWS), path),
    "pool.jsonl.gz": write_archive,
    "saved": save_dataset,
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("kind", [str, Path])
def test_every_format(name: str, kind: Callable[[Any], Any], tmp_path: Path) -> None:
    path = tmp_path / name
    WRITERS[name](path)
    pool = load_pool(kind(path))
    assert [row.messages[-1]["content"] for row in pool] == ANSWERS
    assert not pool.rejected
    assert {row.source for row in pool} == {name.split(".")[0]}
    assert {row.file for row in pool} == {str(path)}
    assert [dict(row.record) for row in pool] == ROWS


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_can_be_read_in_part(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / name)
    pool = load_pool([tmp_path / name, write_rows(tmp_path / "more.jsonl", 4)])
    rows = list(pool)
    assert [row.index for row in rows] == list(range(7))
    for places in ([], [0], [2], [3], [0, 2, 6], [1, 4, 5], list(range(7))):
        assert list(pool.pick(places)) == [rows[i] for i in places]
    assert list(pool.pick([5, 7, 99])) == [rows[5]]


def write_rows(path: Path, count: int) -> Path:
    path.write_text("".join(json.dumps({"prompt": "q", "completion": f"more {i}"}) + "\n" for i in range(count)))
    return path


def test_parts_of_long_tables(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{i}", "completion": f"a{i}"} for i in range(2500)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "p.parquet", row_group_size=700)
    datasets.Dataset.from_list(rows).save_to_disk(str(tmp_path / "saved"))
    places = [0, 1023, 1024, 1025, 2047, 2048, 2499]
    for name in ("p.parquet", "saved"):
        found = list(load_pool(tmp_path / name).pick(places))
        assert [(row.index, dict(row.record)) for row in found if isinstance(row, Row)] == [
            (i, rows[i]) for i in places
        ]


@pytest.mark.parametrize("name", ["array.json", "pool.csv", "pool.jsonl"])
def test_bad_rows_keep_their_places_in_a_part(name: str, tmp_path: Path) -> None:
    text = {
        "array.json": '[{"prompt": "q", "completion": "a"}, 5, {"prompt": "q", "completion": "b"}]',
        "pool.csv": "prompt,completion\nq,a\nfew\nq,b\n",
        "pool.jsonl": '{"prompt": "q", "completion": "a"}\n\n{broken\n\n{"prompt": "q", "completion": "b"}\n',
    }
    (tmp_path / name).write_text(text[name])
    pool = load_pool(tmp_path / name)
    (bad,) = pool.rejected
    first, last = pool
    assert (first.index, last.index) == (0, 2)
    assert list(pool.pick([0, 1, 2])) == [first, bad, last]
    assert list(pool.pick([1])) == [bad]
    assert list(pool.pick([2])) == [last]


@pytest.mark.parametrize("name", WRITERS)
def test_fingerprint_tells_contents_apart(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / name)
    before = open_pool(tmp_path / name).fingerprints
    assert open_pool(tmp_path / name).fingerprints == before
    other = open_pool([{**ROWS[0], "extra": name}]).fingerprints
    assert len({*before.values(), *other.values()}) == 2


def test_several_files_and_globs_in_order(tmp_path: Path) -> None:
    for name in ("b2.jsonl", "b1.jsonl", "a.csv"):
        WRITERS["pool.csv" if name.endswith("csv") else "pool.jsonl"](tmp_path / name)
    pool = load_pool([str(tmp_path / "b*.jsonl"), str(tmp_path / "a.csv")])
    assert [row.source for row in pool] == ["b1"] * 3 + ["b2"] * 3 + ["a"] * 3
    assert [row.line for row in pool] == [1, 2, 3, 1, 2, 3, 2, 3, 4]


def test_a_list_of_rows() -> None:
    assert answers(ROWS) == ANSWERS
    assert rejected([ROWS[0], None, 5, [], {}])[:3] == [
        (n, f"a row must be an object with named fields, this is {what}")
        for n, what in [(2, "null"), (3, "a number"), (4, "a list")]
    ]
    assert answers(datasets.Dataset.from_list(ROWS)) == ANSWERS


class TestSavedDatasets:
    def save(self, folder: Path, *splits: str) -> Path:
        parts = {split: datasets.Dataset.from_list([ROWS[i]]) for i, split in enumerate(splits)}
        datasets.DatasetDict(parts).save_to_disk(str(folder))
        return folder

    def test_train_split_or_the_only_one_or_the_named_one(self, tmp_path: Path) -> None:
        assert answers(self.save(tmp_path / "a", "test", "train")) == [ANSWERS[1]]
        assert answers(self.save(tmp_path / "b", "only")) == [ANSWERS[0]]
        assert answers(f"{self.save(tmp_path / 'c', 'x', 'y')}:y") == [ANSWERS[1]]

    def test_two_splits_of_one_folder(self, tmp_path: Path) -> None:
        folder = self.save(tmp_path / "d", "x", "y")
        assert answers([f"{folder}:x", f"{folder}:y"]) == ANSWERS[:2]

    @pytest.mark.parametrize("split", ["", ":z"])
    def test_choice_of_split_is_asked_for(self, split: str, tmp_path: Path) -> None:
        folder = self.save(tmp_path / "d", "x", "y")
        with pytest.raises(DataError, match=r"holds the splits x, y: choose one as .*:SPLIT"):
            open_pool(f"{folder}{split}")

    def test_no_splits_to_choose_from(self, tmp_path: Path) -> None:
        save_dataset(tmp_path / "one")
        with pytest.raises(DataError, match="has no splits: name it without :train"):
            open_pool(f"{tmp_path / 'one'}:train")

    def test_images_and_formats_are_not_touched(self, tmp_path: Path) -> None:
        rows = [{**row, "image": {"bytes": b"no image", "path": None}, "n": [1, 2]} for row in ROWS]
        data = datasets.Dataset.from_list(rows).cast_column("image", datasets.Image())
        data.with_format("numpy").save_to_disk(str(tmp_path / "images"))
        pool = load_pool(tmp_path / "images")
        assert [row.record["n"] for row in pool] == [[1, 2]] * 3

    @pytest.mark.parametrize("broken", [{}, {"state.json": "{"}, {"dataset_info.json": "nonsense"}])
    def test_what_is_no_saved_dataset(self, broken: dict[str, str], tmp_path: Path) -> None:
        folder = tmp_path / "folder"
        if broken:
            save_dataset(folder)
        folder.mkdir(exist_ok=True)
        for name, text in broken.items():
            (folder / name).write_text(text)
        with pytest.raises(DataError, match=str(folder)):
            load_pool(folder)

    def test_hub_ids_ask_the_hub(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[tuple[Any, ...]] = []

        def load_dataset(*args: str, split: str) -> Any:
            asked.append((*args, split))
            if split == "gone":
                raise ValueError('Unknown split "gone"\nand more')
            return datasets.Dataset.from_list(ROWS)

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)
        assert answers("org/set") == answers("org/set:main:test") == answers("org/set:test") == ANSWERS
        assert asked == [("org/set", "train"), ("org/set", "main", "test"), ("org/set", "test")]
        assert {row.source for row in load_pool("org/set")} == {"set"}
        with pytest.raises(DataError, match=r"^org/set:gone is not a file .*\(split 'gone'\): Unknown split \"gone\"$"):
            open_pool("org/set:gone")


class TestPlaces:
    @pytest.mark.parametrize(
        ("place", "reason"),
        [
            ("missing.jsonl", "does not exist: give a file"),
            ("org/missing.csv", "does not exist"),
            ("no*.jsonl", "no file matches"),
            ("notes.txt", "unknown file type '.txt'; known are .jsonl"),
            ("*.txt", "unknown file type"),
            ("x.parquet.gz", "unpack the Parquet file first"),
            ("n" * 5000, "can't be read: .*too long"),
            ("nul\0", "does not exist"),
        ],
    )
    def test_wrong_places(self, place: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        Path("notes.txt").write_text("hello")
        Path("x.parquet.gz").write_bytes(b"")
        with pytest.raises(DataError, match=reason) as caught:
            load_pool(place)
        assert place.lstrip("*") in str(caught.value)

    @pytest.mark.parametrize("where", [[], (), 5, None, [5], [None, "a.jsonl"], [["a.jsonl"]]])
    def test_what_is_no_place(self, where: Any) -> None:
        with pytest.raises(DataError, match=r"no data was given|data must be paths, hub ids or a list of rows"):
            load_pool(where)

    def test_one_file_twice(self, tmp_path: Path) -> None:
        write_lines(tmp_path / "a.jsonl")
        with pytest.raises(DataError, match="given more than once"):
            open_sources([str(tmp_path / "a.jsonl"), f"{tmp_path}/*.jsonl"])

    @pytest.mark.parametrize("name", ["empty.jsonl", "empty.json", "empty.csv", "blank.jsonl", "header.csv", "no.json"])
    def test_nothing_inside(self, name: str, tmp_path: Path) -> None:
        text = {"blank": "\n \r\n\n", "header": "prompt,completion\n", "no": "[]", "empty": ""}[name.split(".")[0]]
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError, match=f"the pool is empty: .*{name} holds no rows"):
            load_pool(tmp_path / name)
        write_lines(tmp_path / "full.jsonl")
        assert answers([tmp_path / name, tmp_path / "full.jsonl"]) == ANSWERS


GOOD = json.dumps(ROWS[0]).encode()


class TestLines:
    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            (b"{", "not JSON: Expecting property name enclosed in double quotes at column 2"),
            (b"hello", "not JSON: Expecting value at column 1"),
            (GOOD + GOOD, f"not JSON: Extra data at column {len(GOOD) + 1}"),
            (b'{"prompt": "\xff"}', "not UTF-8: byte 0xff at column 13"),
            (b"\xff\xfe{\x00", "not UTF-8: byte 0xff at column 1"),
            (b"[1]", "a row must be an object with named fields, this is a list"),
            (b"null", "a row must be an object with named fields, this is null"),
            (b'"text"', "a row must be an object with named fields, this is a string"),
            (b"[" * 100_000, "JSON that can't be read: maximum recursion depth exceeded"),
            (b'{"a": ' * 150 + b"1" + b"}" * 150, "the row is nested more than 100 levels deep"),
            (b'{"a": ' + b"9" * 5000 + b"}", "JSON that can't be read: Exceeds the limit"),
        ],
    )
    def test_bad_lines_are_named_and_spoil_no_other(self, line: bytes, reason: str, tmp_path: Path) -> None:
        path = tmp_path / "pool.jsonl"
        path.write_bytes(b"\n".join([GOOD, line, GOOD, b""]))
        assert answers(path) == [ANSWERS[0]] * 2
        ((number, found),) = rejected(path)
        assert number == 2 and found.startswith(reason)

    def test_bom_crlf_and_blank_lines(self, tmp_path: Path) -> None:
        path = tmp_path / "pool.jsonl"
        path.write_bytes(b"\xef\xbb\xbf" + GOOD + b"\r\n\r\n  \n" + GOOD + b"\r\n" + b"\xef\xbb\xbf" + GOOD)
        assert [row.line for row in load_pool(path)] == [1, 4, 5]
        assert not rejected(path)

    def test_line_separators_inside_strings(self, tmp_path: Path) -> None:
        path = tmp_path / "pool.jsonl"
        text = "one\u2028two\u2029three\x85four\x0bfive"
        path.write_text(json.dumps({"prompt": "x", "completion": text}, ensure_ascii=False) + "\n", encoding="utf-8")
        assert answers(path) == [text]

    def test_a_broken_archive(self, tmp_path: Path) -> None:
        whole = gzip.compress(b"\n".join([GOOD] * 500))
        for name, data in {"cut": whole[:-20], "none": b"hello", "flip": whole[:20] + b"\xff" * 9 + whole[29:]}.items():
            path = tmp_path / f"{name}.jsonl.gz"
            path.write_bytes(data)
            with pytest.raises(DataError, match=rf"{name}.jsonl.gz can't be read: "):
                load_pool(path)


class TestJson:
    def read(self, tmp_path: Path, data: bytes) -> Path:
        (tmp_path / "pool.json").write_bytes(data)
        return tmp_path / "pool.json"

    def test_bad_elements_are_named(self, tmp_path: Path) -> None:
        path = self.read(tmp_path, b"\xef\xbb\xbf \n [" + GOOD + b", 5, null, " + GOOD + b"]")
        assert answers(path) == [ANSWERS[0]] * 2
        assert [line for line, _ in rejected(path)] == [2, 3]

    def test_lines_after_blank_ones_and_a_bad_first(self, tmp_path: Path) -> None:
        path = self.read(tmp_path, b"\xef\xbb\xbf\n\nbroken\n" + GOOD + b"\n")
        assert answers(path) == [ANSWERS[0]]
        assert rejected(path) == [(3, "not JSON: Expecting value at column 1")]

    def test_one_row_over_many_lines(self, tmp_path: Path) -> None:
        assert answers(self.read(tmp_path, json.dumps(ROWS[0], indent=2).encode())) == [ANSWERS[0]]

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"[" + GOOD, r"can't be read as a JSON array \(Expecting ',' delimiter.*: mend it, or"),
            (b"[" * 100_000, "can't be read as a JSON array"),
            (b"[" + b"9" * 5000 + b"]", "can't be read as a JSON array"),
            (b'[{"prompt": "\xff"}]', r"is not UTF-8 \(byte 13\): convert it first"),
            (b"{broken", "all 1 rows of the pool were rejected; the first: .*line 1: not JSON"),
        ],
    )
    def test_broken_files(self, data: bytes, reason: str, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=reason) as caught:
            load_pool(self.read(tmp_path, data))
        assert "pool.json" in str(caught.value)


class TestCsv:
    def write(self, tmp_path: Path, text: str | bytes) -> Path:
        path = tmp_path / "pool.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def test_quotes_newlines_and_crlf(self, tmp_path: Path) -> None:
        text = '\ufeffprompt,completion,note\r\n"a ""b"", c","x\r\ny\n",1\r\n\r\nplain,"z",\r\n'
        path = self.write(tmp_path, text)
        rows = list(load_pool(path))
        assert [m["content"] for row in rows for m in row.messages] == ['a "b", c', "x\r\ny\n", "plain", "z"]
        assert [row.line for row in rows] == [2, 6]
        assert rows[1].record == {"prompt": "plain", "completion": "z", "note": ""}

    def test_bad_rows_carry_the_line_they_start_on(self, tmp_path: Path) -> None:
        lines = [
            "prompt,completion",
            '"two\nlines",ok',
            "few",
            "too,many,fields",
            'a,"b"c',
            "a,",
            "fine,yes",
            'open,"…',
        ]
        path = self.write(tmp_path, "\n".join(lines) + "\nswallowed,row\n")
        assert answers(path) == ["ok", "yes"]
        assert rejected(path) == [
            (4, "the row has 1 fields, the header 2"),
            (5, "the row has 3 fields, the header 2"),
            (6, "not CSV up to line 6: ',' expected after '\"' (is a quote left open?)"),
            (7, "the response is empty"),
            (9, "not CSV up to line 10: unexpected end of data (is a quote left open?)"),
        ]

    def test_bytes_that_are_not_utf8(self, tmp_path: Path) -> None:
        path = self.write(tmp_path, b"prompt,completion\na,b\ncaf\xe9,b\n\xed\xa0\x80,b\n")
        assert answers(path) == ["b"]
        assert rejected(path) == [(3, "not UTF-8"), (4, "not UTF-8")]

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            (b"pr\xe9,completion\na,b\n", "is not UTF-8: convert it first"),
            (b"\xff\xfep\x00r\x00", "is not UTF-8"),
            (b"prompt,completion,prompt\na,b,c\n", "has two columns named 'prompt': rename one"),
            (b'"prompt"x,completion\n', "has no readable header line"),
            (b"prompt;completion\na;b\n", "unknown form: the row's fields are prompt;completion; known forms are"),
        ],
    )
    def test_broken_headers(self, text: bytes, reason: str, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=reason) as caught:
            load_pool(self.write(tmp_path, text))
        assert "pool.csv" in str(caught.value)

    def test_message_lists_as_json_and_empty_cells_as_missing(self, tmp_path: Path) -> None:
        turns = json.dumps([{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]).replace('"', '""')
        path = self.write(tmp_path, f'id,source,system,messages\n,,,"{turns}"\n7,web,Be brief.," {turns}"\n')
        first, second = load_pool(path)
        assert (first.source, len(first.messages)) == ("pool", 2)
        assert (second.id, second.source, second.messages[0]["content"]) == ("7", "web", "Be brief.")

    def test_a_field_of_a_megabyte(self, tmp_path: Path) -> None:
        assert len(answers(self.write(tmp_path, f"prompt,completion\na,{'x' * 1_000_000}\n"))[0]) == 1_000_000


class TestParquet:
    def test_types_that_json_has_not(self, tmp_path: Path) -> None:
        extra = {"when": datetime.datetime(2024, 1, 2), "raw": b"\x00\xff", "message_count": None}
        pq.write_table(pa.Table.from_pylist([{**row, **extra} for row in ROWS]), tmp_path / "p.parquet")
        assert [row.record["when"] for row in load_pool(tmp_path / "p.parquet")] == [extra["when"]] * 3

    def test_nested_messages(self, tmp_path: Path) -> None:
        turns = [{"role": "user", "content": "q", "tool_calls": None}, {"role": "assistant", "content": "a"}]
        pq.write_table(pa.Table.from_pylist([{"messages": turns}]), tmp_path / "p.parquet")
        assert answers(tmp_path / "p.parquet") == ["a"]

    def test_a_value_that_python_cannot_hold_spoils_its_row_alone(self, tmp_path: Path) -> None:
        broken = pa.Array.from_buffers(pa.string(), 3, pa.array([b"a", b"\xff", b"c"], pa.binary()).buffers())
        years = pa.array([0, 0, 300_000_000_000], pa.timestamp("s"))
        table = pa.table({"prompt": ["x"] * 3, "completion": broken, "when": years})
        pq.write_table(table, tmp_path / "p.parquet")
        assert answers(tmp_path / "p.parquet") == ["a"]
        (second, third) = rejected(tmp_path / "p.parquet")
        assert second[0] == 2 and "can't be read: 'utf-8' codec can't decode" in second[1]
        assert third[0] == 3 and "can't be read" in third[1]

    @pytest.mark.parametrize("keep", [0, 3, 100, -1, -9])
    def test_truncated(self, keep: int, tmp_path: Path) -> None:
        path = tmp_path / "p.parquet"
        pq.write_table(pa.Table.from_pylist(ROWS), path)
        path.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(DataError, match=r"p\.parquet can't be read"):
            load_pool(path)
