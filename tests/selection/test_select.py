"""Which rows a budget takes, in which order, and how they are saved."""

import datetime
import json
import math
import random
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prism.errors import ConfigError, DataError, RunError
from prism.selection import Selection, select
from tests.selection.tables import make_rows, make_scores

NAN, INF = math.nan, math.inf


def chosen(rows: Any, values: Sequence[float], budget: str | int, **options: Any) -> str:
    """The ids chosen, in one word."""
    making = {name: options.pop(name) for name in ("tokens", "flags") if name in options}
    return "".join(select(make_scores(rows, values, **making), budget=budget, **options).ids)


def saved(selection: Selection, folder: Path) -> list[dict[str, Any]]:
    selection.save(folder / "selected.jsonl")
    text = (folder / "selected.jsonl").read_text(encoding="utf-8")
    assert text.endswith("\n") and len(text.splitlines()) == text.count("\n") == len(selection)
    return [json.loads(line) for line in text.splitlines()]


class TestBudgets:
    def test_samples_and_shares(self) -> None:
        rows, values = make_rows("abcdefgh"), [3, 1, 4, 1.5, 9, 2, 6, 5]
        assert chosen(rows, values, 3) == chosen(rows, values, "3") == chosen(rows, values, "40%") == "egh"
        assert chosen(rows, values, "1%") == "e"
        assert chosen(rows, values, "100%") == "eghcafdb"

    def test_bottom(self) -> None:
        assert chosen(make_rows("abcd"), [3, -1, 4, -5], 3, order="bottom") == "dba"

    def test_tokens_fill_in_rank_order_up_to_the_first_that_does_not_fit(self) -> None:
        rows, values = make_rows("abcde"), [5, 4, 3, 2, 1]
        assert chosen(rows, values, "10 tok", tokens=[4, 6, 1, 1, 1]) == "ab"
        assert chosen(rows, values, "9 tok", tokens=[4, 6, 1, 1, 1]) == "a"
        assert chosen(rows, values, "3 tok", tokens=[4, 6, 1, 1, 1]) == "cde", "rows above the whole budget are passed"

    def test_nothing_fits(self) -> None:
        with pytest.raises(DataError, match="no row fits the budget '2 tok'"):
            chosen(make_rows("ab"), [1, 2], "2 tok", tokens=[3, 3])

    @pytest.mark.parametrize("budget", ["5", "9 tok"])
    def test_above_the_pool(self, budget: str) -> None:
        with pytest.raises(ConfigError, match="above the pool's"):
            chosen(make_rows("ab"), [1, 2], budget)

    def test_unknown_order(self) -> None:
        with pytest.raises(ConfigError, match="order 'best' is neither top nor bottom"):
            chosen(make_rows("ab"), [1, 2], 1, order="best")


class TestTies:
    @pytest.mark.parametrize("order", ["top", "bottom"])
    @pytest.mark.parametrize("seed", range(5))
    def test_go_by_id_however_the_rows_lie(self, order: str, seed: int) -> None:
        pairs = list(zip(make_rows("abcdefgh"), [1.0, 1, 2, 2, 2, 1, NAN, NAN], strict=True))
        random.Random(seed).shuffle(pairs)
        assert (
            chosen([row for row, _ in pairs], [value for _, value in pairs], 4, order=order)
            == {"top": "cdea", "bottom": "abfc"}[order]
        )

    def test_many_ties(self) -> None:
        rows = make_rows([f"{i:03}" for i in range(500)])
        random.Random(1).shuffle(rows)
        selection = select(make_scores(rows, [int(row["id"]) % 3 for row in rows]), budget="100%")
        assert selection.ids == sorted(selection.ids, key=lambda name: (-(int(name) % 3), name))

    def test_ids_compare_by_code_point(self) -> None:
        assert chosen(make_rows(["é", "z", "B", "10", "9", "a"]), [0] * 6, "100%") == "109Bazé"

    def test_a_very_long_id_costs_no_memory(self) -> None:
        rows = make_rows(["x" * 1_000_000, *map(str, range(3000))])
        assert len(select(make_scores(rows, [0.0] * 3001), budget="100%")) == 3001


FOUR = make_rows("abcd")


class TestDuplicates:
    def test_the_best_placed_is_kept(self) -> None:
        rows = [*FOUR, {**FOUR[0], "id": "z"}]
        assert chosen(rows, [4, 3, 2, 1, 9], "100%") == "zbcd"
        assert chosen(rows, [4, 3, 2, 1, 9], "100%", keep_duplicates=True) == "zabcd"
        assert chosen(rows, [4, 3, 2, 1, 9], 4, order="bottom") == "dcba"

    def test_the_same_words_in_another_form_are_a_duplicate(self) -> None:
        other = {"id": "z", "instruction": "q", "output": "says a", "source": "elsewhere"}
        assert chosen([*FOUR, other], [5, 3, 2, 1, 4], 3) == "abc"

    def test_identical_rows_keep_the_first_id(self) -> None:
        assert chosen([*FOUR, *FOUR], [1] * 8, 4) == "abcd"

    def test_a_shortage_is_told(self) -> None:
        rows = [*FOUR, *FOUR, *make_rows("n")]
        selection = select(make_scores(rows, [1.0] * 8 + [NAN]), budget="100%", cap_per_source=3)
        assert selection.notices == (
            "only 3 of the 9 rows asked for could be chosen (3 duplicates, 2 over the cap, 1 without a finite score)",
        )
        assert not select(make_scores(rows, [1.0] * 8 + [NAN]), budget=4).notices


THREE_SOURCES = [*make_rows("abc", source="web"), *make_rows("de", source="book"), *make_rows("f")]
FALLING = [9.0, 8, 7, 6, 5, 4]


class TestCap:
    @pytest.mark.parametrize(
        ("budget", "cap", "expected"),
        [
            (4, 2, "abde"),
            (4, "2", "abde"),
            (4, "50%", "abde"),
            (4, "1%", "adf"),
            ("100%", 1, "adf"),
            ("9 tok", "34%", "adf"),
            ("9 tok", 1, "adf"),
            ("12 tok", "50%", "abde"),
        ],
    )
    def test_per_source(self, budget: str | int, cap: str | int, expected: str) -> None:
        assert chosen(THREE_SOURCES, FALLING, budget, cap_per_source=cap) == expected

    def test_sources_are_counted(self) -> None:
        selection = select(make_scores(THREE_SOURCES, FALLING), budget="100%")
        assert selection.sources() == {"web": 3, "book": 2, "list": 1}

    @pytest.mark.parametrize(
        ("cap", "reason"), [("5 tok", "is neither a number of rows nor"), ("x", "cap_per_source: ")]
    )
    def test_what_is_no_cap(self, cap: str, reason: str) -> None:
        with pytest.raises(ConfigError, match=reason):
            chosen(THREE_SOURCES, FALLING, 2, cap_per_source=cap)


class TestNonFinite:
    @pytest.mark.parametrize("order", ["top", "bottom"])
    def test_is_never_chosen(self, order: str) -> None:
        values = [NAN, 1, INF, 2, -INF, 3]
        assert sorted(chosen(make_rows("abcdef"), values, "100%", order=order)) == ["b", "d", "f"]
        assert sorted(chosen(make_rows("abcdef"), [1] * 6, "100%", order=order, flags={2: "non-finite"})) == list(
            "abdef"
        )
        assert sorted(chosen(make_rows("abcdef"), values, "100%", flags=dict.fromkeys(range(6), "ok"))) == list("bdf")

    def test_other_flags_may_be(self) -> None:
        assert chosen(make_rows("ab"), [1, 2], 1, flags={1: "truncated"}) == "b"

    def test_nothing_finite(self) -> None:
        with pytest.raises(DataError, match="none of the 2 rows has a finite score"):
            chosen(make_rows("ab"), [NAN, INF], 1)

    def test_gain_is_against_a_random_selection_of_finite_rows(self) -> None:
        selection = select(make_scores(make_rows("abcd"), [1, 2, 6, NAN]), budget=2)
        assert selection.gain() == (8.0, 6.0)


class TestSave:
    def test_rows_untouched_but_for_one_field(self, tmp_path: Path) -> None:
        extra = {"n": [1, None, {"ü": 10**30}], "text": "漢字 ☀🦊", "empty": "", "float": 0.1}
        rows = [*make_rows("ab", **extra), {"instruction": "i", "input": "", "output": "o", "id": 7}]
        records = saved(select(make_scores(rows, [1, 3, 2.5]), budget=2), tmp_path)
        assert records == [
            {**rows[1], "prism": {"id": "b", "score": 3.0, "rank": 1}},
            {**rows[2], "prism": {"id": "7", "score": 2.5, "rank": 2}},
        ]
        assert "漢字 ☀🦊" in (tmp_path / "selected.jsonl").read_text(encoding="utf-8")
        assert list(records[0]) == [*rows[1], "prism"]

    def test_what_utf8_or_line_readers_cannot_take(self, tmp_path: Path) -> None:
        rows = [
            {"prompt": "q", "completion": "one\u2028two\x85three", "id": "a"},
            {"prompt": "q", "completion": "a", "note": "\ud800 and ☀", "id": "b"},
        ]
        first, second = saved(select(make_scores(rows, [2, 1]), budget=2), tmp_path)
        assert first["completion"] == rows[0]["completion"]
        assert second["note"] == rows[1]["note"]

    def test_dates_and_bytes_of_parquet(self, tmp_path: Path) -> None:
        extra = {"when": datetime.date(2024, 2, 29), "at": datetime.datetime(2024, 2, 29, 12, 30), "raw": b"\x00\xff"}
        pq.write_table(pa.Table.from_pylist(make_rows("a", **extra)), tmp_path / "pool.parquet")
        (record,) = saved(select(make_scores(tmp_path / "pool.parquet", [1]), budget=1), tmp_path)
        assert (record["when"], record["at"], record["raw"]) == ("2024-02-29", "2024-02-29 12:30:00", "00ff")

    def test_an_earlier_mark_is_kept(self, tmp_path: Path) -> None:
        rows = make_rows("a", prism={"score": 5})
        (record,) = saved(select(make_scores(rows, [1]), budget=1), tmp_path)
        assert record["prism"] == {"id": "a", "score": 1.0, "rank": 1, "previous": {"score": 5}}

    def test_csv_rows_keep_their_empty_cells(self, tmp_path: Path) -> None:
        (tmp_path / "pool.csv").write_text("id,instruction,input,output\n,i,,o\n")
        (record,) = saved(select(make_scores(tmp_path / "pool.csv", [1]), budget=1), tmp_path)
        assert {k: v for k, v in record.items() if k != "prism"} == {
            "id": "", "instruction": "i", "input": "", "output": "o",
        }  # fmt: skip

    def test_a_selection_can_be_a_pool_again(self, tmp_path: Path) -> None:
        scores = make_scores(make_rows("abc"), [1, 2, 3])
        select(scores, budget=2).save(tmp_path / "selected.jsonl")
        again = make_scores(tmp_path / "selected.jsonl", [0, 0])
        assert list(again.column("content")) == [scores.column("content")[i] for i in (2, 1)]

    def test_a_place_that_cannot_be_written(self, tmp_path: Path) -> None:
        selection = select(make_scores(make_rows("a"), [1]), budget=1)
        with pytest.raises(RunError, match=r"missing/selected\.jsonl can't be written"):
            selection.save(tmp_path / "missing" / "selected.jsonl")

    @pytest.mark.parametrize(
        ("now", "reason"), [("bac", "changed since it was scored: row 0 is b, not a"), ("", "gone")]
    )
    def test_a_pool_that_changed(self, now: str, reason: str, tmp_path: Path) -> None:
        path = tmp_path / "pool.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in make_rows("abc")))
        selection = select(make_scores(path, [3, 2, 1]), budget=2)
        path.write_text("".join(json.dumps(row) + "\n" for row in make_rows(now)))
        with pytest.raises(DataError, match=reason):
            selection.save(tmp_path / "selected.jsonl")
        assert not (tmp_path / "selected.jsonl").exists()


class TestMany:
    """Large selections against the rule, row by row."""

    @pytest.mark.parametrize("seed", range(8))
    def test_the_rule(self, seed: int) -> None:
        draw = random.Random(seed)
        rows = [
            {"id": f"{i:04}", "prompt": "q", "completion": f"a{draw.randrange(300)}", "source": f"s{draw.randrange(4)}"}
            for i in range(400)
        ]
        values = [draw.choice([NAN, *map(float, range(20))]) for _ in rows]
        cap, budget, keep = draw.choice([None, 5, 40]), draw.choice([10, 100, 400]), draw.random() < 0.3
        selection = select(make_scores(rows, values), budget=budget, cap_per_source=cap, keep_duplicates=keep)
        expected: list[dict[str, Any]] = []
        finite = [(-value, row["id"], row) for value, row in zip(values, rows, strict=True) if not math.isnan(value)]
        for _, _, row in sorted(finite, key=lambda ranked: ranked[:2]):
            same = [r for r in expected if r["completion"] == row["completion"]]
            full = cap is not None and sum(r["source"] == row["source"] for r in expected) >= cap
            if not (same and not keep) and not full and len(expected) < budget:
                expected.append(row)
        assert selection.ids == [row["id"] for row in expected]

    def test_saving_takes_no_memory(self, tmp_path: Path) -> None:
        def peak(count: int) -> int:
            path = tmp_path / f"{count}.jsonl"
            rows = ({"id": str(i), "prompt": "q", "completion": f"{i} " + "a" * 1000} for i in range(count))
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
            selection = select(make_scores(path, [float(i % 7) for i in range(count)]), budget="100%")
            tracemalloc.start()
            try:
                selection.save(tmp_path / "selected.jsonl")
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

        assert peak(3000) - peak(1500) < 300 * 1500  # the rows take more than 1,000 bytes each
        assert len((tmp_path / "selected.jsonl").read_text().splitlines()) == 1500
