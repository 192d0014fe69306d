"""A sealed table comes back as it was, or not at all."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prism.errors import BadRow
from prism.sealed import BLANK, seal, unseal

NAN = float("nan")
TABLES: dict[str, pa.Table] = {
    "numbers": pa.table({"n": pa.array([1, None, 3]), "x": pa.array([0.1, -0.0, NAN]), "b": [True, None, False]}),
    "strings": pa.table({"s": ["a", None, "ü☀"], "d": pa.array(["x", "x", None]).dictionary_encode()}),
    "no rows": pa.table({"s": pa.array([], pa.string()), "x": pa.array([], pa.float64())}),
    "matrix": pa.table({"m": pa.FixedSizeListArray.from_arrays(pa.array(np.array([1, 2, NAN, 4, 5, 6], "f4")), 2)}),
    "a checksum of its own": pa.table({"s": [BLANK.decode(), BLANK.decode() * 2]}),
}
ASIDE = [BadRow("a.jsonl", 3, f"odd: {BLANK.decode()}", None), BadRow("b.csv", 1, "\u2028", "x")]


def same(a: pa.Table, b: pa.Table) -> bool:
    return bool(a.schema.equals(b.schema)) and a.to_pydict().__repr__() == b.to_pydict().__repr__()


@pytest.mark.parametrize("name", TABLES)
def test_it_comes_back(name: str, tmp_path: Path) -> None:
    table = TABLES[name]
    seal(tmp_path / "t.parquet", table, ASIDE, "f", "beside")
    found = unseal(tmp_path / "t.parquet", table.schema, "f", "beside")
    assert found is not None and same(found[0], table) and found[1] == ASIDE
    assert same(pq.read_table(tmp_path / "t.parquet").replace_schema_metadata(None), table), "others can read it too"


@pytest.mark.parametrize("name", TABLES)
def test_any_changed_bit_is_seen(name: str, tmp_path: Path) -> None:
    path, table = tmp_path / "t.parquet", TABLES[name]
    seal(path, table, [], "f")
    raw = path.read_bytes()
    for place in range(len(raw)):
        path.write_bytes(raw[:place] + bytes([raw[place] ^ (1 << place % 8)]) + raw[place + 1 :])
        assert unseal(path, table.schema, "f") is None, place
    for end in (0, 1, 100, len(raw) - 1):
        path.write_bytes(raw[:end])
        assert unseal(path, table.schema, "f") is None
    path.write_bytes(raw)
    assert unseal(path, table.schema, "f") is not None


@pytest.mark.parametrize(
    "change",
    [{"fingerprint": "g"}, {"beside": "other"}, {"schema": pa.schema([("n", pa.int32())])}, {"path": "missing"}],
)
def test_what_belongs_elsewhere_is_not_taken(change: dict[str, Any], tmp_path: Path) -> None:
    table = pa.table({"n": [1, 2]})
    seal(tmp_path / "t.parquet", table, [], "f", "beside")
    given = {"path": "t.parquet", "schema": table.schema, "fingerprint": "f", "beside": "beside", **change}
    assert unseal(**{**given, "path": tmp_path / given["path"]}) is None


def test_a_table_that_prism_did_not_seal(tmp_path: Path) -> None:
    table = pa.table({"n": [1, 2]})
    pq.write_table(table, tmp_path / "t.parquet")
    assert unseal(tmp_path / "t.parquet", table.schema, "f") is None


def test_the_same_table_makes_the_same_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        seal(tmp_path / name, TABLES["strings"], ASIDE, "f")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
