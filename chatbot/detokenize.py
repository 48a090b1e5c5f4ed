"""Token ids → text as they arrive.

Only incomplete UTF-8 is held back, never a space or a word: byte-level vocabularies split a Hangul
syllable or an emoji over several tokens. The pieces, joined, equal `tokenizer.decode` of all ids
(special tokens skipped, no clean-up). Knows nothing about models.

One exception is meant: where a byte-fallback tokenizer is given bytes that are no UTF-8,
`tokenizer.decode` throws the whole run of bytes away, valid syllables before them included; here
those syllables have been shown, and only the invalid bytes become U+FFFD.
"""

import codecs
import json
import re
from collections.abc import Callable
from typing import Any, Protocol

from transformers import PreTrainedTokenizerBase

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
HELD = 4  # tokens held back at most, where text is all there is to go by
BYTE = re.compile(r"<0x([0-9A-F]{2})>")


class Detokenizer(Protocol):
    """One reply's ids, in order, to text."""

    def add(self, token: int) -> str:
        """The text that is certain once `token` is known; often empty, never taken back."""

    def end(self) -> str:
        """What is still held back."""


def detokenizer(tokenizer: PreTrainedTokenizerBase) -> Detokenizer:
    """A fresh detokenizer for one reply."""
    as_bytes, strip = bytes_of(tokenizer)
    if as_bytes is not None:
        return ByBytes(as_bytes, strip)
    return ByText(lambda ids: decode(tokenizer, ids))


def decode(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    """All of `ids` at once: what the pieces must add up to."""
    text = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert isinstance(text, str)
    return text


class ByBytes:
    """For vocabularies of bytes: each token is some bytes, whatever its neighbours."""

    def __init__(self, as_bytes: Callable[[int], bytes], strip: int = 0) -> None:
        self._as_bytes = as_bytes
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._strip = strip  # spaces that the decoder takes off the front

    def add(self, token: int) -> str:
        return self._stripped(self._utf8.decode(self._as_bytes(token)))

    def end(self) -> str:
        return self._stripped(self._utf8.decode(b"", final=True))

    def _stripped(self, text: str) -> str:
        while self._strip and text:
            if text[0] != " ":
                self._strip = 0
                break
            text, self._strip = text[1:], self._strip - 1
        return text


class ByText:
    """For any other vocabulary: decodes the last few tokens with and without the new one."""

    def __init__(self, decode: Callable[[list[int]], str]) -> None:
        self._decode = decode
        self._context: list[int] = []  # tokens whose text is out
        self._held: list[int] = []

    def add(self, token: int) -> str:
        self._held.append(token)
        text = self._text()
        if text.endswith(REPLACEMENT) and len(self._held) < HELD:
            return ""
        return self._release(text)

    def end(self) -> str:
        return self._release(self._text()) if self._held else ""

    def _text(self) -> str:
        before = self._decode(self._context)
        text = self._decode(self._context + self._held)
        return text[len(before) :] if text.startswith(before) else self._decode(self._held)

    def _release(self, text: str) -> str:
        # Tokens without text of their own (special ones) say nothing about what may follow.
        self._context = self._held if text else (self._context + self._held)[-2 * HELD :]
        self._held = []
        return text


def bytes_of(tokenizer: PreTrainedTokenizerBase) -> tuple[Callable[[int], bytes] | None, int]:
    """How each id becomes bytes, if it is that simple, and how many spaces go off the front."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None, 0
    kind = json.loads(backend.decoder.__getstate__()) if backend.decoder else {}
    parts = kind.get("decoders", [kind])
    names = {part.get("type") for part in parts}
    special = {
        token for token, added in backend.get_added_tokens_decoder().items() if added.special
    }
    if names == {"ByteLevel"}:
        return _byte_level(backend, special), 0
    if "ByteFallback" not in names or names - {"Replace", "ByteFallback", "Fuse", "Strip"}:
        return None, 0
    spaces = [part for part in parts if part["type"] == "Strip"]
    replaced = [part for part in parts if part["type"] == "Replace"]
    if any(part["content"] != " " or part["stop"] for part in spaces):
        return None, 0
    if any("String" not in part["pattern"] for part in replaced):
        return None, 0
    strip = sum(part["start"] for part in spaces)
    pairs = [(part["pattern"]["String"], part["content"]) for part in replaced]
    return _byte_fallback(backend, special, pairs), strip


def _byte_level(backend: Any, special: set[int]) -> Callable[[int], bytes]:
    def as_bytes(token: int) -> bytes:
        text = None if token in special else backend.id_to_token(token)
        if text is None:
            return b""
        try:
            return bytes(ALPHABET[letter] for letter in text)
        except KeyError:  # an added token stands for itself
            return bytes(text, "utf-8")

    return as_bytes


def _byte_fallback(
    backend: Any, special: set[int], replaced: list[tuple[str, str]]
) -> Callable[[int], bytes]:
    def as_bytes(token: int) -> bytes:
        text = None if token in special else backend.id_to_token(token)
        if text is None:
            return b""
        if byte := BYTE.fullmatch(text):
            return bytes([int(byte[1], 16)])
        for old, new in replaced:
            text = text.replace(old, new)
        return bytes(text, "utf-8")

    return as_bytes


def _alphabet() -> dict[str, int]:
    """GPT-2's letters for bytes: printable ones stand for themselves, the rest from U+0100 on.

    Source: Radford et al. 2019, https://github.com/openai/gpt-2/blob/master/src/encoder.py
    """
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    letters = {chr(byte): byte for byte in plain}
    return letters | {chr(256 + place): byte for place, byte in enumerate(others)}


ALPHABET = _alphabet()
