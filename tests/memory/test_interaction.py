"""Late interaction: what codes of tokens say of cosines, and which turns meet a query's tokens."""

import numpy as np
import pytest

from memory.embed import Floats, Reading, SentenceEmbedder
from memory.interaction import nearness, to_codes

DIMENSION = 384


def unit(rng: np.random.Generator, count: int) -> Floats:
    rows = rng.standard_normal((count, DIMENSION)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def reading(tokens: Floats) -> Reading:
    """Each token is one character of the text, and a space follows it."""
    starts = 2 * np.arange(len(tokens))
    spans = np.stack([starts, starts + 1], axis=1)
    return Reading(tokens[0], tokens, np.ones(len(tokens), dtype=np.float32), spans)


def coded(tokens: Floats) -> bytes:
    return to_codes(reading(tokens), 0)


def test_codes_estimate_cosines() -> None:
    """As RaBitQ has it: no bias, and an error of .6 sqrt(pi / 2 d) at the most, here .038."""
    rng = np.random.default_rng(1)
    query, other = unit(rng, 2)
    other -= (other @ query) * query
    other /= np.linalg.norm(other)
    cosines = np.linspace(0, 1, 500, dtype=np.float32)
    rest = unit(rng, 500)
    rest -= (rest @ query)[:, None] * query
    rest /= np.linalg.norm(rest, axis=1, keepdims=True)
    tokens = cosines[:, None] * query + np.sqrt(1 - cosines**2)[:, None] * rest
    found = nearness(query[None], [coded(token[None]) for token in tokens])[:, 0]
    errors = found - cosines
    assert abs(errors.mean()) < 0.01
    assert np.sqrt((errors**2).mean()) < 0.04
    assert np.abs(errors).max() < 0.15


def test_real_tokens_are_estimated_as_well(embedder: SentenceEmbedder) -> None:
    asked, told = embedder.read(["Which instrument do I play?", "I took up the cello in 2019."])
    exact = (told.tokens @ asked.tokens.T).max(axis=0)
    (found,) = nearness(asked.tokens, [to_codes(told, 0)])
    assert np.abs(found - exact).max() < 0.15
    assert np.sqrt(((found - exact) ** 2).mean()) < 0.07


def test_a_token_takes_one_bit_a_number() -> None:
    assert len(coded(unit(np.random.default_rng(2), 5))) == 5 * DIMENSION // 8


def test_the_turn_that_holds_the_token_is_nearer() -> None:
    rng = np.random.default_rng(3)
    query, filler = unit(rng, 2), unit(rng, 20)
    holding = np.concatenate([filler[:10], query[:1], filler[10:]])
    found = nearness(query, [coded(filler), coded(holding)])
    assert found[1, 0] == pytest.approx(1, abs=0.1) and found[0, 0] < 0.3
    assert found[1, 1] == found[0, 1] < 0.3  # the other token is in neither


def test_a_fact_is_met_by_its_question(embedder: SentenceEmbedder) -> None:
    text = "Who has a cello?"
    asked, *told = embedder.read([text, "Clara bought a cello.", "Clara bought a melon."])
    cello = [text[start:end] for start, end in asked.spans].index("cello")
    near = nearness(asked.tokens, [to_codes(one, 0) for one in told])[:, cello]
    assert near[0] > near[1] + 0.1


def test_a_turn_without_tokens_is_near_to_nothing() -> None:
    rng = np.random.default_rng(4)
    query, tokens = unit(rng, 3), unit(rng, 4)
    tokens[:] = query[0]
    found = nearness(query, [b"", coded(tokens), b"", b""])
    assert not found[[0, 2, 3]].any() and found[1, 0] > 0.5
    assert nearness(query, []).shape == (0, 3)
    assert nearness(query, [b""]).tolist() == [[0, 0, 0]]
    assert nearness(query[:0], [coded(tokens)]).shape == (1, 0)


def test_many_turns_at_once_equal_one_by_one() -> None:
    rng = np.random.default_rng(5)
    query = unit(rng, 6)
    turns = [coded(unit(rng, 1 + at % 7)) if at % 5 else b"" for at in range(40)]
    together = nearness(query, turns)
    alone = np.concatenate([nearness(query, [one]) for one in turns])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert together.shape == (40, 6)


def test_only_the_turns_own_words_are_coded() -> None:
    tokens = unit(np.random.default_rng(6), 5)
    whole = coded(tokens)
    size = DIMENSION // 8
    assert to_codes(reading(tokens), 4) == whole[2 * size :]  # the third begins at character 4
    assert to_codes(reading(tokens), 5) == whole[3 * size :]
    assert to_codes(reading(tokens), 99) == b""
