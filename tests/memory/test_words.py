"""Tokens of English and Korean, and the word index on a real SQLite file."""

import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from memory import words
from memory.schema import open_database
from memory.within import within


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


def test_hangul_becomes_the_bigrams_and_syllables_of_its_stem() -> None:
    assert words.tokenize("결혼식에서") == ["결혼", "혼식", "결", "혼", "식"]


@pytest.mark.parametrize(
    ("said", "stem"),
    [
        ("토토가", "토토"),
        ("토토까지는", "토토"),
        ("고양이한테", "고양"),
        ("고양이가", "고양"),
        ("대화하는", "대화"),
        ("대화했어요", "대화"),
        ("대화하다", "대화"),
        ("확정된", "확정"),
        ("먹었더라", "먹"),
        ("먹는데", "먹"),
        ("먹으면", "먹"),
        ("샀었나요", "샀"),
        ("기다렸잖아요", "기다렸"),
        ("병원이에요", "병원"),
    ],
)
def test_korean_particles_and_endings_are_cut(said: str, stem: str) -> None:
    tokens = words.tokenize(said)
    assert tokens[0] == stem[:2]
    assert {syllable for token in tokens for syllable in token} == set(stem)


@pytest.mark.parametrize("noun", ["아이", "나이", "사고", "포도", "바다"])
def test_a_korean_noun_of_two_syllables_keeps_what_looks_like_an_ending(noun: str) -> None:
    assert words.tokenize(noun)[0] == noun
    assert words.tokenize(noun + "는")[0] == noun


def test_a_korean_noun_of_one_syllable_is_kept() -> None:
    assert words.tokenize("집에서 만나")[0] == "집"
    assert "집" in words.tokenize("집이 멀어")
    assert words.tokenize("집") == ["집"]


def test_korean_stop_words_are_dropped() -> None:
    assert words.tokenize("언제 어디서 무엇을 했어?") == []


@pytest.mark.parametrize(
    "asked",
    "뭐였지 어디였더라? 언제더라 누구였죠 얼마나 왜 알려줘 알려주세요! 기억나? 말해줘".split(),
)
def test_korean_question_words_do_not_count(asked: str) -> None:
    assert words.tokenize(asked) == []
    assert words.tokenize(f"반장 이름 {asked}") == words.tokenize("반장 이름")


def test_what_is_counted_is_left_of_a_korean_question_word() -> None:
    assert words.tokenize("몇킬로였지?") == words.tokenize("킬로")
    assert words.tokenize("무슨요일이야") == words.tokenize("요일")
    assert words.tokenize("반장이름뭐였더라")[:3] == ["반장", "장이", "이름"]


def test_korean_numerals_before_a_counter_are_digits() -> None:
    assert words.tokenize("세 시에") == words.tokenize("세시에") == words.tokenize("3시에")
    assert words.tokenize("서른다섯 포기") == words.tokenize("35 포기")
    assert words.tokenize("스무 살") == words.tokenize("20살")
    assert words.tokenize("열 번") == words.tokenize("10번")
    told = words.tokenize("두통약 마리 세탁소 하나로마트 다섯째")
    assert not any(token.isdigit() for token in told)


def test_mixed_script_is_split() -> None:
    assert words.tokenize("PR리뷰") == ["pr", "리뷰", "리", "뷰"]
    assert words.tokenize("SQLite를 3개") == ["sqlite", "3", "개"]


def test_what_is_no_particle_after_a_latin_word_is_kept() -> None:
    assert words.tokenize("를 SQLite판 3대") == ["를", "sqlite", "판", "3", "대"]


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


@pytest.mark.parametrize("query", ["두부 병원비", "두부병원비", "두부 병원 비", "두 부 병 원 비"])
@pytest.mark.parametrize(
    "said", ["두부 병원비가 비싸요", "두부병원비가비싸요", "두부 병원 비가 비싸요"]
)
def test_korean_is_found_whatever_its_spaces(
    connection: sa.Connection, query: str, said: str
) -> None:
    words.add(connection, 1, "아침에 병아리를 보았어요")
    words.add(connection, 2, said)
    words.add(connection, 3, "부산에서 원피스를 샀어요")
    assert found(connection, query)[0] == 2


def test_a_korean_verb_is_found_in_another_form(connection: sa.Connection) -> None:
    words.add(connection, 1, "사랑니를 뽑으러 갔어요")
    words.add(connection, 2, "책을 읽는 중이에요")
    assert found(connection, "뽑았더라?") == [1]
    assert found(connection, "읽었지") == [2]


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
    among = within(connection, sa.select(sa.literal_column("98", sa.Integer).label("id")))
    assert [turn for turn, _ in words.search(connection, "tea", among=among).best(9)] == [98]


def test_common_words_count_where_a_rare_one_stands(
    connection: sa.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(words, "ROW_BUDGET", 5)
    monkeypatch.setattr(words, "FEW", 1)
    for turn in range(1, 20):
        words.add(connection, turn, "tea" if turn % 7 else "tea otter" if turn == 7 else "otter")
    search = words.search(connection, "tea otter")
    assert sorted(zip(search.turns.tolist(), search.terms.tolist(), strict=True)) == [
        (7, 0),
        (7, 1),
        (14, 1),
    ]
    assert set(search.rarity) == {"tea", "otter"}


def test_of_common_words_alone_the_turns_with_several_come_first_and_then_the_newest(
    connection: sa.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(words, "ROW_BUDGET", 5)
    monkeypatch.setattr(words, "FEW", 3)
    said = {3: "tea milk", 8: "milk tea"}
    for turn in range(1, 40):
        words.add(connection, turn, said.get(turn, "milk" if turn % 3 else "tea"))
    assert [turn for turn, _ in words.search(connection, "tea milk").best(3)] == [8, 3, 39]


def test_common_words_are_scored_exactly_in_the_turns_that_are_asked_for(
    connection: sa.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["running late", "he runs and runs", "a café", "the Cafe was full of people", "otter"]
    for turn in range(60):
        words.add(connection, turn + 1, texts[turn % 5])
    connection.commit()
    query = "cafés to run to, late"
    exact = words.search(connection, query).of(range(1, 11))
    monkeypatch.setattr(words, "ROW_BUDGET", 5)
    search = words.search(connection, query)
    assert set(search.common) == {0, 1, 2}
    np.testing.assert_allclose(words.scores(connection, search, range(1, 11)), exact, rtol=1e-6)


def test_what_is_stemmed_here_is_stemmed_as_in_the_schema(connection: sa.Connection) -> None:
    made = "SELECT sql FROM sqlite_master WHERE name = 'words'"
    assert f"tokenize='{words._TOKENIZER}'" in connection.exec_driver_sql(made).scalar_one()


def test_many_are_counted_by_how_densely_they_lie(
    connection: sa.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    words.add_all(connection, {turn: "tea" if turn % 4 else "otter" for turn in range(1, 2001)})
    connection.commit()
    exact = words.search(connection, "tea otter").rarity
    monkeypatch.setattr(words, "COUNTED", 50)
    estimated = words.search(connection, "tea otter").rarity
    assert estimated == pytest.approx(exact, rel=0.05)


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
