"""The vector index: exact inner product over float16 unit vectors, in FAISS, several a turn.

A cache in this process's memory of the vectors in the database. Knows turn ids and parts, nothing
of texts or ranking. FAISS takes a duplicate id silently, pads short answers with -1, and answers a
zero vector with anything: all three are kept out here.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_PART_BITS = 3  # a FAISS id is turn << 3 | part: at most 8 vectors a turn

Ids = NDArray[np.int64]
Vectors = NDArray[np.float32]
Bitmap = NDArray[np.uint8]


class VectorIndex:
    """Unit vectors of `dimension` numbers, found by cosine. Not thread-safe."""

    def __init__(self, dimension: int) -> None:
        import faiss

        self._faiss: Any = faiss
        self.dimension = dimension
        # float16, as the vectors are stored: exact for them, and searched in half the memory.
        flat = faiss.IndexScalarQuantizer(
            dimension, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
        )
        self._index: Any = faiss.IndexIDMap2(flat)
        self._ids: set[int] = set()

    def __len__(self) -> int:
        """How many vectors there are, all parts counted."""
        return len(self._ids)

    @property
    def ids(self) -> Ids:
        """An id for each vector, as `pack` makes it, in any order."""
        return np.fromiter(self._ids, dtype=np.int64, count=len(self._ids))

    @property
    def turns(self) -> set[int]:
        """The ids of the turns that have a vector."""
        return {id_ >> _PART_BITS for id_ in self._ids}

    def add(self, turns: Ids, parts: Ids, vectors: Vectors) -> None:
        """Add vectors, shape (n, dimension), of `turns` and `parts`, both (n,).

        One that is there already is replaced. Errors: ValueError for a shape that doesn't fit.
        """
        if vectors.ndim != 2 or vectors.shape != (len(turns), self.dimension):
            raise ValueError(f"shape {vectors.shape} != ({len(turns)}, {self.dimension})")
        ids = pack(turns, parts)
        self._remove_ids(self._ids.intersection(ids.tolist()))
        self._index.add_with_ids(np.ascontiguousarray(vectors, dtype=np.float32), ids)
        self._ids.update(ids.tolist())

    def keep(self, ids: Iterable[int]) -> None:
        """Take out every vector whose id isn't among these."""
        self._remove_ids(self._ids.difference(ids))

    def search(self, query: Vectors, k: int, among: Ids | None = None) -> tuple[Ids, Ids, Vectors]:
        """The k vectors nearest to `query` (dimension,), best first: turns, parts and cosines.

        `among`, turn ids (n,), is applied before the search, so a small scope never starves.
        Fewer than k come back when there are fewer. A zero query finds nothing.
        """
        k = min(k, len(self._ids))
        if k <= 0 or not np.any(query) or (among is not None and not len(among)):
            empty = np.empty(0, dtype=np.int64)
            return empty, empty, np.empty(0, dtype=np.float32)
        options = {}
        if among is not None:
            selector = self._faiss.IDSelectorBitmap(bitmap(among))
            options["params"] = self._faiss.SearchParameters(sel=selector)
        cosines, found = self._index.search(query[None, :].astype(np.float32), k, **options)
        real = found[0] >= 0
        return *unpack(found[0][real]), cosines[0][real]

    def _remove_ids(self, ids: set[int]) -> None:
        if ids:
            self._index.remove_ids(np.fromiter(ids, dtype=np.int64))
            self._ids -= ids


def pack(turns: Ids, parts: Ids) -> Ids:
    """One id for each vector."""
    return turns.astype(np.int64) << _PART_BITS | parts.astype(np.int64)


def unpack(ids: Ids) -> tuple[Ids, Ids]:
    """The turns and parts of ids."""
    return ids >> _PART_BITS, ids & ((1 << _PART_BITS) - 1)


def bitmap(turns: Ids) -> Bitmap:
    """One bit for each id, lowest first, set for every part of `turns`: a turn is a byte."""
    bits = np.zeros(int(turns.max(initial=0)) + 1, dtype=np.uint8)
    bits[turns] = 255
    return bits


def to_bytes(vector: Vectors) -> bytes:
    """A vector as it is stored: float16, little-endian."""
    return vector.astype("<f2").tobytes()


def from_bytes(blobs: Sequence[bytes], dimension: int) -> Vectors:
    """Stored vectors, shape (n, dimension). Errors: ValueError when one has another length."""
    rows = np.frombuffer(b"".join(blobs), dtype="<f2")
    return rows.reshape(len(blobs), dimension).astype(np.float32)
