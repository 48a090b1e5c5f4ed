"""Late interaction: how nearly each token of a query is met by some token of a turn.

One vector for a whole turn blurs what it tells; the vectors of its tokens don't. A query's token is
compared with every token of a turn and keeps the best cosine (MaxSim of ColBERT: Khattab and
Zaharia 2020, arXiv 2004.12832). A turn's tokens are stored as the signs of their vectors, a bit a
number, from which cosines are estimated (as RaBitQ does: Gao and Long 2024, arXiv 2405.12497).
Pure functions over arrays and bytes.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from memory.embed import Floats, Reading


def to_codes(reading: Reading, own: int) -> bytes:
    """The tokens of a text from its character `own` on, dimension / 8 bytes each."""
    kept = reading.tokens[reading.spans[:, 0] >= own]
    return np.packbits(kept > 0, axis=1).tobytes()


def nearness(query: Floats, coded: Sequence[bytes]) -> NDArray[np.float64]:
    """For each of n turns the best cosine, as estimated, to each of the query's tokens (T,
    dimension): (n, T), 0 for a turn without tokens."""
    dimension = query.shape[1]
    size = dimension // 8
    counts = np.array([len(one) // size for one in coded], dtype=np.int64)
    near = np.zeros((len(coded), len(query)))
    if not counts.sum() or not len(query):
        return near
    whole = b"".join(one[: count * size] for one, count in zip(coded, counts, strict=True))
    bits = np.frombuffer(whole, dtype=np.uint8).reshape(-1, size)
    signs = np.unpackbits(bits, axis=1).astype(np.float32)  # (tokens, dimension)
    # The signs as a vector are 2 bits - 1; a unit vector's mean magnitude is sqrt(2 / pi d).
    scale = np.sqrt(np.pi / 2 / dimension)
    cosines = scale * (2 * (signs @ query.T) - query.sum(1))  # (tokens, T)
    there = np.flatnonzero(counts)
    starts = np.concatenate([[0], np.cumsum(counts[there])[:-1]])
    near[there] = np.maximum.reduceat(cosines, starts, axis=0)
    return near
