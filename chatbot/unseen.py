"""Characters that aren't seen: which of them a text needs, and which only hide something.

Format characters, fillers and tags take no room on a screen, yet a model reads them, and two texts
that look the same differ by them. Those that writing needs stay: a joiner behind an emoji or behind
a letter of a script that is written with joiners, a selector behind what it selects. Knows Unicode;
nothing about terminals or models.
"""

import re

_HIDING = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e00ff\U000e01f0-\U000e0fff"
)
_SYMBOLS = "\u00a9\u00ae\u203c\u2049\u2100-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001faff"
_JOINED = "\u0620-\u06dc\u0710-\u088f\u0900-\u0dff\u0f40-\u109f\u1780-\u17b3\u1800-\u180a"
_HAN = "\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_UNSEEN = re.compile(
    f"[{_HIDING}]"
    f"|(?<![{_SYMBOLS}{_JOINED}\ufe0f])[\u200c\u200d]"
    f"|(?<![{_SYMBOLS}0-9#*])[\ufe0e\ufe0f]"
    f"|(?<![{_HAN}])[\ufe00-\ufe0d\U000e0100-\U000e01ef]"
)


def revealed(text: str, before: str = "") -> str:
    """`text` with what hides in it written as code points; `before` is what stands before it."""
    if text.isascii():
        return text
    last = before[-1:]  # a joiner behind it may be meant; it has been shown itself
    return _UNSEEN.sub(
        lambda found: found[0] if found.start() < len(last) else f"⟨{ord(found[0]):04X}⟩",
        last + text,
    )[len(last) :]


def without(text: str) -> str:
    """`text` without what hides in it."""
    return text if text.isascii() else _UNSEEN.sub("", text)
