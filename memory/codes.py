"""The approximate index: short codes of many vectors in a file that is mapped, never read whole.

FAISS's inverted file: vectors are sorted into lists around centroids, and a search scans the lists
near the query. Of each vector it keeps its id and, by RaBitQ (arXiv 2405.12497), its difference
from the centroid in 1 bit a number, so what it finds must be scored again from the stored vectors.
Knows ids, files and codes; nothing of turns, databases or which file counts.
"""

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from memory.durable import sync
from memory.vectors import Bitmap, Ids, Vectors

SCANNED = 0.15  # of the lists: questions lie far from what was said, so few lists miss much
QUERY_BITS = 4  # for each number of a query
MINIMUM = 32  # lists that are scanned in any case
TRAINING = 50  # vectors to train with, for each list
_ROUNDS = 10  # of k-means
_LENGTH = 0.99  # of a centroid
_GONE = -1  # the id of a code that was blanked; FAISS's own mark for "nothing"


class Codes:
    """A file of codes, mapped. Stays valid when the file is replaced. Not thread-safe.

    Errors: OSError when the file isn't there or isn't such a file.
    """

    def __init__(self, path: Path, dimension: int | None = None) -> None:
        import faiss

        self._faiss: Any = faiss
        self._path = path
        try:
            flags = faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY
            self._index = self._faiss.read_index(str(path), flags)
        except RuntimeError as error:
            raise OSError(f"{path} is no index") from error
        if dimension not in (None, self._index.d):
            raise OSError(f"{path} has dimension {self._index.d}, not {dimension}")
        self._has_blanks = False  # that were seen
        self._lists = self._faiss.downcast_InvertedLists(self._index.invlists)
        self._lists.prefetch_nthread = 0  # pages come as they are touched; 32 threads cost more

    @property
    def dimension(self) -> int:
        """Numbers in a vector that a code stands for."""
        return int(self._index.d)

    def __len__(self) -> int:
        """How many codes there are, blanked ones counted."""
        return int(self._index.ntotal)

    def search(
        self, query: Vectors, k: int, among: Bitmap | None = None, share: float = 1.0
    ) -> Ids:
        """The ids of about the k nearest to `query` (dimension,), roughly best first.

        `among` has the bits of the ids that count, `share` says how many of all they are: the
        fewer, the more lists are scanned, which costs little since the others are only skipped.
        """
        lists = self._index.nlist
        parameters = self._faiss.IVFRaBitQSearchParameters()
        parameters.nprobe = min(
            lists, max(MINIMUM, round(lists * SCANNED / max(share, 1e-4) ** 0.5))
        )
        parameters.qb = QUERY_BITS
        selector = None  # kept until the search has ended: FAISS has only its address
        if among is not None:
            selector = self._faiss.IDSelectorBitmap(among)
        elif self._has_blanks:
            selector = self._faiss.IDSelectorRange(0, np.iinfo(np.int64).max)
        if selector is not None:
            parameters.sel = selector
        _, found = self._index.search(query[None, :].astype(np.float32), k, params=parameters)
        ids: Ids = found[0]
        real: Ids = ids[ids != _GONE]
        if len(real) < k and among is None and not self._has_blanks:
            self._has_blanks = True  # perhaps; they took the places of others
            return self.search(query, k)
        return real

    def ids(self) -> Ids:
        """The ids of all codes that aren't blanked."""
        lists = [ids for _, ids in self._each_list()]
        every: Ids = np.concatenate([np.empty(0, dtype=np.int64), *lists])
        standing: Ids = every[every != _GONE]
        return standing

    def codes_of(self, ids: Ids) -> dict[int, bytes]:
        """The code of each of `ids` that is there, as it stands in the file."""
        found: dict[int, bytes] = {}
        size = self._lists.code_size
        for number, there in self._each_list():
            at = np.flatnonzero(np.isin(there, ids))
            if len(at):
                codes = self._faiss.rev_swig_ptr(self._lists.get_codes(number), len(there) * size)
                found |= {int(there[i]): codes[i * size : (i + 1) * size].tobytes() for i in at}
        return found

    def nearest_centroid(self, rows: Vectors) -> Vectors:
        """For each unit row (n, dimension) its cosine to the nearest centroid, (n,)."""
        centroids = self._index.quantizer.reconstruct_n(0, self._index.nlist)
        lengths = np.linalg.norm(centroids, axis=1).clip(min=1e-9)
        nearest: Vectors = (rows @ centroids.T / lengths).max(axis=1)
        return nearest

    def blank(self, ids: Ids) -> int:
        """Overwrite the codes and ids of `ids` in the file; return how many there were."""
        file = os.open(self._path, os.O_RDWR)
        size = self._lists.code_size
        gone = 0
        try:
            for number, there in self._each_list():
                for at in np.flatnonzero(np.isin(there, ids)):
                    place = self._lists.lists.at(number)
                    os.pwrite(file, bytes(size), place.offset + int(at) * size)
                    label = place.offset + place.capacity * size + int(at) * 8
                    os.pwrite(file, np.int64(_GONE).tobytes(), label)
                    gone += 1
            os.fsync(file)
        finally:
            os.close(file)
        return gone

    def _each_list(self) -> Iterator[tuple[int, Ids]]:
        for number in range(self._index.nlist):
            if size := self._lists.list_size(number):
                yield number, self._faiss.rev_swig_ptr(self._lists.get_ids(number), size)


def lists_for(count: int) -> int:
    """How many lists suit `count` vectors: a power of two near 1.5 times the square root."""
    return int(2 ** max(2, round(np.log2(1.5 * np.sqrt(max(1, count))))))


def sample_of(count: int) -> int:
    """How many of `count` vectors to train with."""
    return min(count, TRAINING * lists_for(count))


def build(
    path: Path,
    sample: Vectors,
    count: int,
    batches: Iterable[tuple[Ids, Vectors]],
    progress: Callable[[int], None],
) -> None:
    """Write the codes of `batches`, about `count` vectors, to a new file `path`, safe on disk.

    `sample` (n, dimension) is what the centroids are made from. `progress` hears how many are done.
    Errors: OSError.
    """
    import faiss

    dimension = sample.shape[1]
    lists = min(lists_for(count), max(1, len(sample) // 4))
    centroids = faiss.IndexFlatIP(dimension)
    index: Any = faiss.IndexIVFRaBitQ(centroids, dimension, lists, faiss.METRIC_INNER_PRODUCT)
    index.cp.niter = _ROUNDS
    index.cp.min_points_per_centroid = 1  # said by `lists` already
    index.train(sample)
    _shorten(centroids)
    done = 0
    for ids, rows in batches:
        index.add_with_ids(np.ascontiguousarray(rows), ids)
        done += len(ids)
        progress(done)
    path.touch(mode=0o600)
    try:
        faiss.write_index(index, str(path))
    except RuntimeError as error:  # so FAISS says that the disk is full
        raise OSError(errno.ENOSPC, "the index can't be written", str(path)) from error
    sync(path)


def _shorten(centroids: Any) -> None:
    """Keep every vector away from its centroid, by 0.01 at least.

    A text that is said again and again makes a centroid of its own vector, and of what is left
    then, but for rounding, FAISS 1.15 makes a code that is near to everything.
    """
    rows = centroids.reconstruct_n(0, centroids.ntotal)
    centroids.reset()
    centroids.add(_LENGTH * rows)
