"""The FAISS index against exact search in NumPy."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory import codes
from memory.vectors import Ids, VectorIndex, Vectors, from_bytes, to_bytes

DIMENSION = 16


def unit(rng: np.random.Generator, count: int, dimension: int = DIMENSION) -> Vectors:
    rows = rng.standard_normal((count, dimension)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows.astype(np.float16).astype(np.float32)  # as they are stored


def exact(ids: Ids, rows: Vectors, query: Vectors, k: int) -> list[int]:
    return [int(ids[at]) for at in np.argsort(-(rows @ query), kind="stable")[:k]]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 200), k=st.integers(1, 30))
def test_it_finds_what_exact_search_finds(seed: int, count: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    rows, query = unit(rng, count), unit(rng, 1)[0]
    turns = rng.choice(10_000, count, replace=False) + 1
    parts = rng.integers(0, 2, count)
    index = VectorIndex(DIMENSION)
    index.add(turns, parts, rows)
    found, found_parts, cosines = index.search(query, k)
    assert found.tolist() == exact(turns, rows, query, k)
    part_of = dict(zip(turns.tolist(), parts.tolist(), strict=True))
    assert found_parts.tolist() == [part_of[turn] for turn in found.tolist()]
    np.testing.assert_allclose(cosines, np.sort(rows @ query)[::-1][:k], atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scope=st.integers(1, 10))
def test_a_small_scope_never_starves(seed: int, scope: int) -> None:
    rng = np.random.default_rng(seed)
    rows, query = unit(rng, 500), unit(rng, 1)[0]
    turns = np.arange(1, 501)
    index = VectorIndex(DIMENSION)
    index.add(turns, np.zeros(500, dtype=np.int64), rows)
    among = rng.choice(turns, scope, replace=False)
    found, _, _ = index.search(query, 10, among)
    rows_among = rows[among - 1]
    assert found.tolist() == exact(among, rows_among, query, 10)


def test_what_is_removed_is_found_no_more_and_what_is_added_twice_is_there_once() -> None:
    rng = np.random.default_rng(1)
    rows = unit(rng, 3)
    index = VectorIndex(DIMENSION)
    index.add(np.array([1, 1, 2]), np.array([0, 1, 0]), rows)
    index.add(np.array([2]), np.array([0]), rows[2:])
    assert len(index) == 3 and index.turns == {1, 2}
    index.keep(id_ for id_ in index.ids.tolist() if id_ >> 3 != 1)
    assert len(index) == 1
    assert index.search(rows[0], 10)[0].tolist() == [2]
    _, parts, cosines = index.search(rows[2], 10)
    assert parts.tolist() == [0] and cosines.tolist() == [pytest.approx(1.0, abs=1e-3)]


def test_an_empty_index_a_zero_query_and_an_empty_scope_find_nothing() -> None:
    index = VectorIndex(DIMENSION)
    query = unit(np.random.default_rng(2), 1)
    assert len(index.search(query[0], 5)[0]) == 0
    index.add(np.array([1]), np.array([0]), query)
    assert len(index.search(np.zeros(DIMENSION, dtype=np.float32), 5)[0]) == 0
    assert len(index.search(query[0], 5, np.array([], dtype=np.int64))[0]) == 0
    assert len(index.search(query[0], 5)[0]) == 1  # k larger than the index pads nothing


def test_a_wrong_shape_says_both_values() -> None:
    index = VectorIndex(DIMENSION)
    with pytest.raises(ValueError, match=r"\(1, 8\) != \(1, 16\)"):
        index.add(np.array([1]), np.array([0]), np.zeros((1, 8), dtype=np.float32))


def test_vectors_are_stored_as_float16() -> None:
    rows = unit(np.random.default_rng(3), 4)
    blobs = [to_bytes(row) for row in rows]
    assert {len(blob) for blob in blobs} == {2 * DIMENSION}
    np.testing.assert_array_equal(from_bytes(blobs, DIMENSION), rows.astype(np.float16))


def test_what_is_said_again_and_again_does_not_crowd_out_the_nearest(tmp_path: Path) -> None:
    """Texts of which a list has copies alone have its centroid's vector, but for rounding."""
    rng = np.random.default_rng(5)
    said = np.repeat(unit(rng, 20, 384), 50, axis=0)
    rows = np.concatenate([unit(rng, 100, 384), said])
    ids = np.arange(1, len(rows) + 1) << 3
    path = tmp_path / "some.codes"
    codes.build(path, rows, len(rows), [(ids, rows)], lambda _: None)
    built = codes.Codes(path)
    for told in rows[:20]:
        query = told + unit(rng, 1, 384)[0]
        found = built.search(query, 20, share=1e-4)  # in all lists
        assert exact(ids, rows, query, 1)[0] in found
