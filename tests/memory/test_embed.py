"""The built-in embedder, and what of a turn is embedded."""

from datetime import UTC, datetime, timedelta

import numpy as np

from memory.embed import EARLIER, LONG, TAIL, SentenceEmbedder, passages
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
    assert embedder.id.startswith("all-MiniLM-L6-v2@53aa51172d14/")
    assert "p1" in embedder.id


def test_a_short_turn_is_embedded_alone_and_after_its_predecessors() -> None:
    before = [turn(1, "Ever been to Rome?", speaker="Ben"), turn(2, "Which Rome?", speaker="Anna")]
    assert passages(turn(3, " Yes, last week! ", speaker="Ben"), before) == [
        "Yes, last week!",
        "Ben: Ever been to Rome?\nAnna: Which Rome?\nBen: Yes, last week!",
    ]


def test_only_two_predecessors_are_told_and_only_their_beginnings() -> None:
    before = [turn(1, "oldest"), turn(2, "x" * 1000), turn(3, "newest")]
    context = passages(turn(4, "yes"), before)[1]
    assert "oldest" not in context
    assert context.count("x") == EARLIER
    assert "newest" in context


def test_predecessors_of_another_day_are_no_context() -> None:
    yesterday = turn(1, "Ever been to Rome?", at=NOON - timedelta(days=1))
    assert passages(turn(2, "Good morning"), [yesterday])[1] == "user: Good morning"


def test_a_turn_of_middling_length_explains_itself() -> None:
    text = "otter " * 60
    assert passages(turn(2, text), [turn(1, "before")]) == [text.strip()]


def test_the_end_of_a_long_turn_is_embedded_too() -> None:
    text = "a" * LONG + "b" * TAIL
    assert passages(turn(1, text), []) == [text, "b" * TAIL]
