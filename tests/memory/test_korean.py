"""The Korean encoder: one space with the English one, which it leaves as it was."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest

from chatbot.models import embedder_folder
from memory import adapter, korean
from memory.adapter import Adapter, find_adapter
from memory.embed import SentenceEmbedder
from memory.korean import KOREAN, PIECES, korean_encoder
from memory.store import Memory
from memory.trained import trained

BASE = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TRANSLATIONS = {
    "My cat is called Momo.": "우리 고양이 이름은 모모야.",
    "I moved to Busan last spring.": "나 작년 봄에 부산으로 이사했어.",
    "The meeting starts at nine.": "회의는 아홉 시에 시작해요.",
    "She is allergic to peanuts.": "그 사람은 땅콩 알레르기가 있어요.",
    "How much did the bicycle cost?": "자전거 얼마였어?",
    "We ate noodles in the rain.": "비 오는데 국수를 먹었다.",
}


@pytest.fixture(scope="module")
def english_alone() -> SentenceEmbedder:
    """The embedder as it is where the Korean file is missing."""
    with pytest.MonkeyPatch.context() as patch:
        there = adapter.trained
        patch.setattr(adapter, "trained", lambda n: there("none" if n == KOREAN else n))
        return SentenceEmbedder(embedder_folder(), name="all-MiniLM-L6-v2")


def test_a_sentence_lies_nearest_to_its_translation(embedder: SentenceEmbedder) -> None:
    english = embedder.embed(list(TRANSLATIONS))
    hangul = embedder.embed(list(TRANSLATIONS.values()))
    near = english @ hangul.T
    assert near.argmax(0).tolist() == near.argmax(1).tolist() == list(range(len(TRANSLATIONS)))


def test_a_question_in_one_language_finds_a_turn_in_the_other(memory: Memory) -> None:
    for at, (english, hangul) in enumerate(TRANSLATIONS.items()):
        memory.remember("user", hangul if at % 2 else english)
    moved = memory.recall("Which city did I move to?")[0]
    cat = memory.recall("우리 고양이 이름이 뭐라고 했지?")[0]
    assert moved.turn.text == TRANSLATIONS["I moved to Busan last spring."]
    assert cat.turn.text == "My cat is called Momo."


def test_a_paraphrase_is_nearer_than_what_shares_its_words(embedder: SentenceEmbedder) -> None:
    asked, other, shares = embedder.embed(
        ["강아지가 아파서 병원에 갔어", "우리 개를 수의사한테 데려갔어요", "병원에 주차장이 있어"]
    )
    assert asked @ other > asked @ shares


def test_english_texts_are_read_as_before(
    embedder: SentenceEmbedder, english_alone: SentenceEmbedder
) -> None:
    texts = [*TRANSLATIONS, "Tee, café & 3 otters", "где это?", ""]
    np.testing.assert_array_equal(embedder.embed(texts), english_alone.embed(texts))
    assert embedder.id != english_alone.id


def test_korean_is_read_otherwise_and_in_few_tokens(
    embedder: SentenceEmbedder, english_alone: SentenceEmbedder
) -> None:
    for text in TRANSLATIONS.values():
        (now,), (before,) = embedder.read([text]), english_alone.read([text])
        assert len(now.tokens) < 0.75 * len(before.tokens)


def test_it_is_loaded_when_it_is_needed() -> None:
    embedder = SentenceEmbedder(embedder_folder())
    embedder.embed(["an otter"])
    assert embedder._hangul is None
    embedder.embed(["an otter", "수달"])
    assert embedder._hangul is not None


@pytest.mark.parametrize("text", ["수달이 café에서 GPT를 봤다!", "ㅋㅋ 맞아", "뷁 뙇", "김밥 3줄"])
def test_composed_and_decomposed_text_are_one(embedder: SentenceEmbedder, text: str) -> None:
    apart = unicodedata.normalize("NFD", text)
    one, other = embedder.read([text, apart])
    np.testing.assert_allclose(one.tokens, other.tokens, atol=1e-4)
    starts = [apart[:at] for at in other.spans[:, 0]]
    assert [unicodedata.normalize("NFC", start) for start in starts] == [
        text[:at] for at in one.spans[:, 0]
    ]


def test_particles_are_tokens_of_their_own(embedder: SentenceEmbedder) -> None:
    text = "부산으로 이사했어요"
    (reading,) = embedder.read([text])
    said = [text[start:end] for start, end in reading.spans]
    assert said[:3] == ["부산", "으로", "이사"]
    telling = dict(zip(said, reading.telling.tolist(), strict=True))
    assert telling["부산"] > telling["으로"]


def test_pieces_and_vectors_must_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = trained(PIECES).read_text("utf-8").splitlines()
    (tmp_path / PIECES).write_text("\n".join(pieces[:-1]), "utf-8")
    monkeypatch.setattr(korean, "trained", lambda name: tmp_path / name)
    found = find_adapter(BASE, KOREAN)
    assert isinstance(found, Adapter)
    with pytest.raises(ValueError, match=rf"{len(pieces)} vectors != {len(pieces) - 1} of"):
        korean_encoder(embedder_folder(), found, np.ones(30522, np.float32))
