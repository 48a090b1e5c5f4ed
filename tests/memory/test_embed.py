"""The built-in embedder, and what of a turn is embedded."""

import hashlib
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from numpy.typing import NDArray

from memory.adapter import ENGLISH
from memory.embed import (
    EARLIER,
    PIECE,
    PIECES,
    SHORT,
    STRIDE,
    Passage,
    SentenceEmbedder,
    passages,
)
from memory.korean import KOREAN
from memory.trained import trained
from memory.types import Turn

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def turn(id_: int, text: str, *, speaker: str = "user", at: datetime = NOON) -> Turn:
    return Turn(id=id_, conversation=1, role="user", speaker=speaker, text=text, at=at)


def test_rows_have_unit_length_and_the_stated_shape(embedder: SentenceEmbedder) -> None:
    rows = embedder.embed(["one", "two words", ""])
    assert rows.shape == (3, embedder.dimension) == (3, 384)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def test_nothing_gives_no_rows(embedder: SentenceEmbedder) -> None:
    assert embedder.embed([]).shape == (0, 384)


def test_paraphrases_are_nearer_than_strangers(embedder: SentenceEmbedder) -> None:
    dog, hound, tax = embedder.embed(
        ["My dog is ill.", "The vet says my puppy is sick.", "Taxes are due in May."]
    )
    assert dog @ hound > 0.5 > dog @ tax


def test_order_and_batches_change_nothing(embedder: SentenceEmbedder) -> None:
    texts = [" ".join(["otter"] * (1 + n * 7 % 40)) + f" {n}" for n in range(40)]
    together = embedder.embed(texts)
    alone = np.concatenate([embedder.embed([text]) for text in texts[:5]])
    np.testing.assert_allclose(together[:5], alone, atol=1e-4)


def test_what_lies_beyond_the_limit_is_not_read(embedder: SentenceEmbedder) -> None:
    head = "otter " * 300
    one, two = embedder.embed([head + "tea", head + "a long story about the sea"])
    np.testing.assert_allclose(one, two, atol=1e-4)


def test_the_id_names_weights_and_preparation(embedder: SentenceEmbedder) -> None:
    english, korean = (
        hashlib.sha256(trained(name).read_bytes()).hexdigest()[:8] for name in (ENGLISH, KOREAN)
    )
    assert embedder.id == f"all-MiniLM-L6-v2@53aa51172d14+{english}+{korean}/mean-unit-p3"


TEXTS = ("My dog is called Biscuit.", "내 고양이 이름은 모모야!", "Tee, café & 3 otters", "", " \n")


def test_reading_gives_the_same_vectors_as_embedding(embedder: SentenceEmbedder) -> None:
    readings = embedder.read(TEXTS)
    np.testing.assert_array_equal([one.vector for one in readings], embedder.embed(TEXTS))


@pytest.mark.parametrize("text", TEXTS)
def test_every_token_has_a_unit_vector_a_weight_and_a_place_in_the_text(
    embedder: SentenceEmbedder, text: str
) -> None:
    (reading,) = embedder.read([text])
    count = len(reading.tokens)
    assert reading.tokens.shape == (count, embedder.dimension)
    assert reading.telling.shape == (count,) and reading.spans.shape == (count, 2)
    np.testing.assert_allclose(np.linalg.norm(reading.tokens, axis=1), 1, atol=1e-5)
    assert (reading.telling >= 0).all()
    told = set()
    for start, end in reading.spans:
        assert 0 <= start < end <= len(text) and text[start:end] == text[start:end].strip()
        told |= set(range(start, end))
    assert told == {at for at, one in enumerate(text) if not one.isspace()}


def test_tokens_stand_where_their_words_do(embedder: SentenceEmbedder) -> None:
    text = "My dog is called Rex."
    (reading,) = embedder.read([text])
    assert _words(text, reading.spans) == ["My", "dog", "is", "called", "Rex", "."]  # no [CLS]
    alone, among = embedder.read(["tea", "tea " * 30])  # padded in one batch
    assert (len(alone.tokens), len(among.tokens)) == (1, 30)
    np.testing.assert_allclose(alone.tokens, embedder.read(["tea"])[0].tokens, atol=1e-4)


def _words(text: str, spans: NDArray[np.int64]) -> list[str]:
    return [text[start:end] for start, end in spans]


def test_a_token_is_nearest_to_the_same_word_elsewhere(embedder: SentenceEmbedder) -> None:
    asked, told = embedder.read(["Who fed the otter?", "She saw an otter on the river bank."])
    otter = _words("Who fed the otter?", asked.spans).index("otter")
    nearest = int((told.tokens @ asked.tokens[otter]).argmax())
    assert _words("She saw an otter on the river bank.", told.spans)[nearest] == "otter"


def test_common_tokens_tell_less_than_rare_ones(embedder: SentenceEmbedder) -> None:
    text = "the otter of the harbour"
    (reading,) = embedder.read([text])
    telling = dict(zip(_words(text, reading.spans), reading.telling.tolist(), strict=True))
    assert max(telling["the"], telling["of"]) < min(telling["otter"], telling["harbour"])


def test_a_short_turn_is_embedded_alone_and_after_its_predecessors() -> None:
    before = [turn(1, "Ever been to Rome?", speaker="Ben"), turn(2, "Which Rome?", speaker="Anna")]
    context = "Ben: Ever been to Rome?\nAnna: Which Rome?\n"
    assert passages(turn(3, " Yes, last week! ", speaker="Ben"), before) == [
        Passage("Yes, last week!"),
        Passage(f"{context}Ben: Yes, last week!", own=len(context)),
    ]


def test_only_two_predecessors_are_told_and_only_their_beginnings() -> None:
    before = [turn(1, "oldest"), turn(2, "x" * 1000), turn(3, "newest")]
    context = passages(turn(4, "yes"), before)[1].text
    assert "oldest" not in context
    assert context.count("x") == EARLIER
    assert "newest" in context


def test_predecessors_of_another_day_are_no_context() -> None:
    yesterday = turn(1, "Ever been to Rome?", at=NOON - timedelta(days=1))
    assert passages(turn(2, "Good morning"), [yesterday])[1] == Passage("user: Good morning", 0)


def test_a_turn_of_middling_length_explains_itself() -> None:
    text = "otter " * 60
    assert passages(turn(2, text), [turn(1, "before")]) == [Passage(f"user: {text.strip()}", 0)]
    assert len(passages(turn(2, "x" * (SHORT - 1)), [])) == 2
    assert len(passages(turn(2, "x" * SHORT), [])) == 1


def test_a_syllable_counts_as_two_letters() -> None:
    assert len(passages(turn(2, "가" * (SHORT // 2 - 1)), [])) == 2
    assert len(passages(turn(2, "가" * (SHORT // 2)), [])) == 1
    context = passages(turn(2, "yes"), [turn(1, "나" * 1000)])[1].text
    assert context.count("나") == EARLIER // 2
    said, pieces = "user: " + "다" * PIECE, passages(turn(2, "다" * PIECE), [])
    assert [piece.text for piece in pieces] == [said[:553], said[503:1053], said[1003:]]


@pytest.mark.parametrize("length", [PIECE - 6, PIECE - 5, 2000, 2 * STRIDE + PIECE, 7 * STRIDE])
def test_a_long_turn_is_embedded_in_pieces_that_overlap_and_reach_its_end(length: int) -> None:
    text = "".join(chr(0x4E00 + at) for at in range(length))  # each character once
    pieces = passages(turn(1, text), [turn(2, "before")])
    assert 1 <= len(pieces) <= PIECES
    assert all(len(piece.text) <= PIECE and piece.own == 0 for piece in pieces)
    said = "user: " + text
    starts = [said.index(piece.text) for piece in pieces]
    assert starts == [at * STRIDE for at in range(len(pieces))]
    assert pieces[-1].text.endswith(text[-1])
    assert all(len(piece.text) > PIECE - STRIDE for piece in pieces)  # none is a mere overlap
    assert (len(pieces) > 1) == (len(said) > PIECE)


def test_of_a_very_long_turn_the_end_is_the_last_of_eight_pieces() -> None:
    text = "".join(chr(0x4E00 + at) for at in range(15_000))
    pieces = passages(turn(1, text), [])
    assert len(pieces) == PIECES == 8
    assert pieces[-1].text == text[-PIECE:]
    assert pieces[-2].text.startswith(text[6 * STRIDE - len("user: ")])
