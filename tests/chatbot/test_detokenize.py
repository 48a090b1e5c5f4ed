"""Ids to text as they arrive: the pieces add up, and nothing is held that needn't be."""

from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from chatbot.detokenize import ByBytes, ByText, decode, detokenizer
from chatbot.local import LocalEngine
from tests.chatbot.tiny import gpt2_like, llama_like, t5_like

TEXTS = st.one_of(
    st.text(max_size=40),
    st.text(alphabet="가나다안녕하세요 고양이", max_size=30),
    st.lists(
        st.sampled_from(["👨‍👩‍👧‍👦", "🇰🇷", "é", "é", "각", "한국어", " hello", "\n", "�", "  "]),
        max_size=10,
    ).map("".join),
)


KINDS = {"gpt2": gpt2_like(), "llama": llama_like(), "t5": t5_like()}


def pieces(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> Iterator[str]:
    stream = detokenizer(tokenizer)
    for token in ids:
        yield stream.add(token)
    yield stream.end()


def ids_of(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert isinstance(ids, list)
    return ids


def test_each_vocabulary_is_read_the_way_that_fits_it() -> None:
    found = {kind: type(detokenizer(tokenizer)) for kind, tokenizer in KINDS.items()}
    assert found == {"gpt2": ByBytes, "llama": ByBytes, "t5": ByText}


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=200)
@given(text=TEXTS)
@example(text="")
@example(text="  two  spaces ")
@example(text="안녕하세요오늘날씨가좋네요")
def test_pieces_add_up(kind: str, text: str) -> None:
    tokenizer = KINDS[kind]
    ids = ids_of(tokenizer, text)
    assert "".join(pieces(tokenizer, ids)) == decode(tokenizer, ids)


@settings(deadline=None, max_examples=100)
@given(text=TEXTS)
def test_pieces_of_the_built_in_model_add_up(gpt: LocalEngine, text: str) -> None:
    ids = ids_of(gpt.tokenizer, text)
    assert "".join(pieces(gpt.tokenizer, ids)) == decode(gpt.tokenizer, ids)


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_any_ids_of_bytes_add_up(data: st.DataObject) -> None:
    """Also those no text becomes: half syllables, bytes that are no UTF-8, special tokens."""
    tokenizer = KINDS["gpt2"]
    ids = data.draw(st.lists(st.integers(0, len(tokenizer) - 1), max_size=20))
    assert "".join(pieces(tokenizer, ids)) == decode(tokenizer, ids)


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_any_ids_of_words_add_up(data: st.DataObject) -> None:
    tokenizer = KINDS["t5"]
    ids = data.draw(st.lists(st.integers(0, len(tokenizer) - 1), max_size=20))
    assert "".join(pieces(tokenizer, ids)) == decode(tokenizer, ids)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_korean_without_spaces_streams(kind: str) -> None:
    text = "안녕하세요오늘날씨가좋네요반갑습니다"
    tokenizer = KINDS[kind]
    out = [piece for piece in pieces(tokenizer, ids_of(tokenizer, text)) if piece]
    assert "".join(out) == text
    assert len(out) > len(text) // 3


def test_only_incomplete_utf8_is_held_back() -> None:
    """After every token, what is out is all of the text that is certain."""
    tokenizer = KINDS["gpt2"]
    ids = ids_of(tokenizer, "a 한국 👩‍🚀 b")
    stream, out = detokenizer(tokenizer), ""
    for place, token in enumerate(ids, 1):
        out += stream.add(token)
        assert out == decode(tokenizer, ids[:place]).rstrip("�")


def test_a_syllable_in_bytes_is_shown_with_its_last_byte() -> None:
    tokenizer = KINDS["llama"]
    assert list(pieces(tokenizer, ids_of(tokenizer, "안 한국"))) == [
        *("", "안", " "),  # the space that is put before every text is taken off again
        *("", "", "한", "", "", "국", ""),
    ]


def test_a_syllable_cut_off_becomes_a_replacement_at_the_end() -> None:
    tokenizer = KINDS["llama"]
    ids = ids_of(tokenizer, "안한")
    out = list(pieces(tokenizer, ids[:-1]))
    assert out[-1] == "�"
    assert "".join(out) == "안�"


def test_bytes_that_are_no_utf8_are_let_through() -> None:
    """A syllable already shown stays, where decoding all at once would throw it away."""
    tokenizer = KINDS["llama"]
    run = [tokenizer.convert_tokens_to_ids(f"<0x{byte:02X}>") for byte in b"\xed\x95\x9c\xff\xff"]
    stream = detokenizer(tokenizer)
    assert [stream.add(token) for token in run] == ["", "", "한", "�", "�"]


def test_words_made_of_replacements_are_held_only_so_long() -> None:
    stream = ByText(lambda ids: "�" * len(ids))
    out = [stream.add(7) for _ in range(12)]
    assert sum(map(len, out)) >= 9


def test_work_per_token_doesnt_grow() -> None:
    longest = 0

    def counting(ids: list[int]) -> str:
        nonlocal longest
        longest = max(longest, len(ids))
        return "x" * len(ids)

    stream = ByText(counting)
    for token in range(500):
        stream.add(token)
    assert longest <= 12
