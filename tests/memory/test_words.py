"""Tokens of English and Korean, and the word index on a real SQLite file."""

import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from memory import words
from memory.schema import open_database


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sa.Connection]:
    engine = open_database(tmp_path / "chatbot.db")
    with engine.connect() as opened:
        yield opened
    engine.dispose()


def found(connection: sa.Connection, query: str) -> list[int]:
    return [turn for turn, _ in words.search(connection, query).best(10)]


def test_stop_words_and_contractions_are_dropped() -> None:
    assert words.tokenize("Don't you think it's Caroline's café?") == ["think", "caroline", "café"]


def test_a_name_with_an_apostrophe_stays_one_word() -> None:
    assert words.tokenize("O'Brien") == words.tokenize("o’brien") == ["obrien"]


def test_hangul_becomes_bigrams_without_particles() -> None:
    assert words.tokenize("토토가 대화하는") == ["토토", "대화", "화하"]


def test_a_korean_noun_of_one_syllable_is_kept() -> None:
    assert "집" in words.tokenize("집에서 만나")
    assert "집" in words.tokenize("집이 멀어")
    assert words.tokenize("집") == ["집"]


def test_korean_stop_words_are_dropped() -> None:
    assert words.tokenize("언제 어디서 무엇을 했어?") == []


def test_mixed_script_is_split() -> None:
    assert words.tokenize("SQLite를 3개") == ["sqlite", "를", "3", "개"]


def test_laughter_is_no_word() -> None:
    assert words.tokenize("ㅋㅋㅋ ㅠㅠ") == []


@given(st.text())
def test_composed_and_decomposed_text_give_the_same_tokens(text: str) -> None:
    decomposed = unicodedata.normalize("NFD", text)
    assert words.tokenize(decomposed) == words.tokenize(unicodedata.normalize("NFC", text))


def test_a_noun_is_found_inside_a_longer_word(connection: sa.Connection) -> None:
    words.add(connection, 1, "같이 대화하는 게 좋아")
    words.add(connection, 2, "강아지 토토가 아파")
    assert found(connection, "대화") == [1]
    assert found(connection, "토토") == [2]
    assert found(connection, unicodedata.normalize("NFD", "토토는?")) == [2]


def test_english_is_stemmed_and_accents_are_folded(connection: sa.Connection) -> None:
    words.add(connection, 1, "We were running past the Café")
    assert found(connection, "runs") == [1]
    assert found(connection, "cafe") == [1]


@pytest.mark.parametrize("query", ['"', "NEAR(a b)", "cat* OR dog", "tokens:cat", "a AND (", "-x"])
def test_search_syntax_is_plain_text(connection: sa.Connection, query: str) -> None:
    words.add(connection, 1, "a cat, near the dog")
    expected = [1] if {"cat", "dog", "near"} & set(words.tokenize(query)) else []
    assert found(connection, query) == expected


def test_rare_words_count_more(connection: sa.Connection) -> None:
    for turn in range(1, 30):
        words.add(connection, turn, "tea with milk")
    words.add(connection, 30, "an otter")
    assert found(connection, "tea otter")[0] == 30
    rarity = words.search(connection, "tea otter unheard").rarity
    assert rarity["tea"] < rarity["otter"] < rarity["unheard"]


def test_scores_are_positive_in_a_memory_of_one_turn(connection: sa.Connection) -> None:
    words.add(connection, 1, "an otter")
    [(turn, score)] = words.search(connection, "otter").best(5)
    assert turn == 1
    assert score > 1.0


def test_the_scope_is_applied_before_the_limit(
    connection: sa.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(words, "ROW_BUDGET", 5)
    for turn in range(1, 100):
        words.add(connection, turn, "tea")
    among = sa.select(sa.literal_column("98", sa.Integer))
    assert [turn for turn, _ in words.search(connection, "tea", among=among).best(9)] == [98]


def test_common_words_are_left_out_beyond_the_budget(
    connection: sa.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(words, "ROW_BUDGET", 5)
    for turn in range(1, 20):
        words.add(connection, turn, "tea otter" if turn == 7 else "tea")
    search = words.search(connection, "tea otter")
    assert search.turns.tolist() == [7]
    assert set(search.rarity) == {"tea", "otter"}


def test_of_gives_a_row_to_each_turn_in_the_order_asked(connection: sa.Connection) -> None:
    words.add(connection, 1, "tea")
    words.add(connection, 2, "otter")
    scores = words.search(connection, "tea otter").of([2, 9, 1])
    assert (scores > 0).tolist() == [[False, True], [False, False], [True, False]]


def test_even_scores_put_the_newer_turn_first(connection: sa.Connection) -> None:
    words.add(connection, 1, "tea")
    words.add(connection, 2, "tea")
    assert found(connection, "tea") == [2, 1]


def test_removed_words_leave_nothing_behind(connection: sa.Connection) -> None:
    words.add(connection, 1, "xylophone")
    words.add(connection, 2, "otter")
    words.remove(connection, [1])
    assert found(connection, "xylophone") == []
    assert found(connection, "otter") == [2]
    segments = connection.exec_driver_sql("SELECT block FROM words_data").scalars()
    assert not any(b"xylophon" in bytes(block) for block in segments)


def test_clear_empties_the_index(connection: sa.Connection) -> None:
    words.add(connection, 1, "otter")
    words.clear(connection)
    assert found(connection, "otter") == []
    words.check(connection)


def test_a_query_without_words_finds_nothing(connection: sa.Connection) -> None:
    words.add(connection, 1, "otter")
    search = words.search(connection, "where is it?")
    assert search.best(5) == []
    assert search.of([1]).shape == (1, 0)
