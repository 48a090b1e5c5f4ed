"""What enters the context window and what stays out: prompts, pins, history, memories.

Knows how memories are quoted and how tight a window is; nothing about where memories come from or
how tokens are counted (it is given a function for that).
"""

import bisect
import math
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from chatbot.engines import Message
from chatbot.errors import WindowFull
from chatbot.unseen import without
from memory.times import dated, resolved
from memory.types import PINNED, Hit, Turn

# Chosen by measuring what the built-in model makes of them: docs/experiments.md.
SYSTEM = "You are a helpful AI assistant. You chat with the user."
OPENING, CLOSING = "<memory>", "</memory>"  # the fence: plain text, never control tokens
NOTHING_FOUND = "\n\n(No memory of this was found.)"  # behind a prompt that asked for one
QUESTION = "Using this, answer: "  # between the memories and the prompt
CLIP = 600  # characters of one memory
READ = 10 * CLIP  # characters of it that are looked at
NAME = 40  # characters of a speaker's name
MEMORY_SHARE = 0.4  # of the room beside the front and the prompt
PIN_SHARE = 0.2  # of the room beside the system prompt
PIN_ODDS = 10.0  # log-odds of a pinned turn: it is given whatever is asked
SLACK = 0.7  # history is cut down to this share of its room, so that the cut holds for a while

ROLES = frozenset("system user assistant developer tool model memory".split())  # no one's name

Count = Callable[[Sequence[Message]], int]


@dataclass(frozen=True, slots=True)
class Contents:
    """What a window is made of, so that it can be made again without one of its memories.

    `pins` are the pinned turns in its front, `used` the memories that found room before the
    prompt, `history` the turns that stayed. `missed` says that the model is told that nothing was
    found once there is no memory before the prompt.
    """

    system: str
    history: tuple[Turn, ...]
    pins: tuple[Hit, ...]
    used: tuple[Hit, ...]
    prompt: str
    now: datetime
    missed: bool = False

    def messages(self) -> tuple[Message, ...]:
        """What the model reads."""
        prompt = unfenced(self.prompt)
        if self.used:
            last = quote(self.used, self.now) + prompt
        else:
            last = prompt + (NOTHING_FOUND if self.missed else "")
        start = front(self.system, self.history, self.pins, self.now)
        return (*start, Message("user", last))

    def without(self, turn_id: int) -> "Contents":
        """The same had one memory not been there, pinned or recalled; all else stays as it is, and
        nothing takes the room it leaves."""
        pins = tuple(hit for hit in self.pins if hit.turn.id != turn_id)
        used = tuple(hit for hit in self.used if hit.turn.id != turn_id)
        return replace(self, pins=pins, used=used)

    def without_any(self) -> "Contents":
        """The same without any memory."""
        return replace(self, pins=(), used=())


@dataclass(frozen=True, slots=True)
class Window:
    """What the model is shown.

    `tokens` of `limit` are taken by the messages; the rest is the reply's. `contents` are what they
    were made of; `dropped` counts the turns of the history that left, oldest first.
    """

    contents: Contents
    messages: tuple[Message, ...]
    tokens: int
    limit: int
    dropped: int = 0

    @property
    def pins(self) -> tuple[Hit, ...]:
        """The pinned turns in its front."""
        return self.contents.pins

    @property
    def used(self) -> tuple[Hit, ...]:
        """The memories that found room before the prompt."""
        return self.contents.used

    @property
    def hits(self) -> tuple[Hit, ...]:
        """All that it quotes, pinned turns first, each once: a pin that was recalled as well has
        the score of its recall."""
        return tuple({hit.turn.id: hit for hit in (*self.pins, *self.used)}.values())


def pack(
    system: str,
    history: Sequence[Turn],
    hits: Sequence[Hit],
    prompt: str,
    *,
    count: Count,
    limit: int,
    reserve: int,
    now: datetime,
    pins: Sequence[Hit] = (),
    missed: bool = False,
) -> Window:
    """Fill a window of `limit` tokens, of which `reserve` are kept for the reply.

    Whole turns only. When it gets tight the lowest-ranked memories go first, then the oldest
    exchanges, several at once, so that what stays is stable and the KV cache holds; pins (see
    `choose_pins`) go when the prompt needs their room. `missed` says that the prompt asks for a
    memory: with no hits the model is then told that nothing was found. (Told so before small talk,
    a small model does nothing but apologise.) Errors: WindowFull when system prompt and prompt
    alone don't fit.
    """
    room = limit - reserve
    used = tuple(hits)

    def messages(kept: Sequence[Turn]) -> tuple[Message, ...]:
        return Contents(system, tuple(kept), tuple(pins), used, prompt, now, missed).messages()

    alone = count([*front(system, ()), Message("user", prompt)])
    if alone > room:
        raise WindowFull(
            f"the prompt takes {alone} tokens, the window has room for {room}: shorten it"
        )
    bare = count([*front(system, (), pins, now), Message("user", prompt)])
    if bare > room:
        pins, bare = (), alone
    while used and count(messages(())) - bare > (room - bare) * MEMORY_SHARE:
        used = tuple(sorted(used, key=lambda hit: hit.score, reverse=True)[:-1])
    dropped = 0
    empty = count(messages(()))
    if count(messages(history)) > room:
        target = empty + (room - empty) * SLACK
        starts = [history.index(exchange[0]) for exchange in exchanges_of(history)]
        # The first start from which what is kept fits: the longer the history, the more tokens.
        first = bisect.bisect_left(
            starts, True, key=lambda start: count(messages(history[start:])) <= target
        )
        dropped = starts[first] if first < len(starts) else len(history)
    kept = tuple(history[dropped:])
    fits = empty <= room  # or else the line that nothing was found is all that is over
    contents = Contents(system, kept, _quoted(kept, pins), used, prompt, now, missed and fits)
    shown = contents.messages()
    return Window(contents, shown, count(shown), limit, dropped)


def choose_pins(
    pinned: Sequence[Turn], system: str, *, count: Count, room: int, now: datetime
) -> tuple[Hit, ...]:
    """Those of `pinned`, the one pinned last first, that may stand in every window.

    As many as fit into PIN_SHARE of the room beside the system prompt, so that they hang on nothing
    that changes from turn to turn; one that is too long lets the others pass.
    """
    bare = count(front(system, ())) if system else 0
    chosen: tuple[Hit, ...] = ()
    for turn in pinned:
        more = (*chosen, Hit(turn, 1 / (1 + math.exp(-PIN_ODDS)), parts={PINNED: PIN_ODDS}))
        if count(front(system, (), more, now)) - bare <= (room - bare) * PIN_SHARE:
            chosen = more
    return chosen


def front(
    system: str,
    history: Sequence[Turn],
    pins: Sequence[Hit] = (),
    now: datetime | None = None,
) -> list[Message]:
    """The stable front of the window: system prompt, pinned turns that aren't in the history, then
    the history. `now` is needed with pins alone."""
    if pins := _quoted(history, pins):
        assert now is not None
        system = f"{system}\n\n{fenced(pins, now)}".strip()
    start = [Message("system", system)] if system else []
    said = (turn for exchange in exchanges_of(history) for turn in exchange)
    return start + [Message(turn.role, unfenced(turn.text)) for turn in said]


def _quoted(history: Sequence[Turn], pins: Sequence[Hit]) -> tuple[Hit, ...]:
    """The pins that have to be quoted, since they don't stand in the history."""
    # A private conversation numbers its turns from 1, too.
    there = {(turn.id, turn.at) for exchange in exchanges_of(history) for turn in exchange}
    return tuple(hit for hit in pins if (hit.turn.id, hit.turn.at) not in there)


def exchanges_of(history: Sequence[Turn]) -> list[list[Turn]]:
    """History in whole exchanges: a prompt and the reply it got.

    A prompt without a reply (its text is empty, or the process died) is left out, since templates
    want the roles to alternate.
    """
    exchanges: list[list[Turn]] = []
    prompt: Turn | None = None
    for turn in history:
        if turn.role == "user":
            prompt = turn
        elif prompt is not None and turn.text.strip():
            exchanges.append([prompt, turn])
            prompt = None
    return exchanges


def quote(hits: Sequence[Hit], now: datetime) -> str:
    """Memories as they stand before the prompt that they are for."""
    return "\n".join([fenced(hits, now), "", QUESTION])


def fenced(hits: Sequence[Hit], now: datetime) -> str:
    """Memories as the model reads them: dated, speaker-labelled, fenced.

    The dates that they tell in words ("yesterday") are given as dates, too, all of them as an
    answer would; one that a newer turn supersedes is marked as earlier. Before one that answers a
    question stands the question.
    """
    lines = []
    there = {hit.turn.id for hit in hits}
    for hit in as_quoted(hits):
        turn, said = hit.turn, _said(hit.turn)
        if hit.asked is not None and hit.asked.id not in there:
            said = f"{_said(_only_question(hit.asked))} {said}"
        day = dated(turn.at.astimezone(), turn.text[:READ])
        earlier = ", earlier" if hit.superseded_by is not None else ""
        lines.append(f"[{ago(turn.at, now)}, {day}{earlier}] {said}")
    return "\n".join([OPENING, *lines, CLOSING])


def _said(turn: Turn) -> str:
    return f'{_speaker(turn)}: "{told(turn)}"'


def _only_question(turn: Turn) -> Turn:
    """A turn that ends in a question, without what stands before it."""
    return replace(turn, text=re.split(r"(?<=[.!?…。？])\s+", turn.text.strip())[-1])


def as_quoted(hits: Sequence[Hit]) -> list[Hit]:
    """Hits in the order in which they are quoted: the best stands last, next to the question, since
    where a memory stands is all that a model learns of its rank."""
    return sorted(hits, key=lambda hit: (hit.score, hit.turn.at, hit.turn.id))


def told(turn: Turn) -> str:
    """What a turn says, as it is quoted: in one line, its days with their dates, clipped."""
    return clip(_quotable(resolved(clip(_quotable(turn.text)), turn.at)))


def _quotable(text: str) -> str:
    """`text` in one line, without what isn't seen, that can't end its quotation or its fence.

    Only as much of it as a quotation may show, and a bit more.
    """
    seen = "".join(c for c in without(text[:READ]) if c.isspace() or not _is_control(c))
    line = " ".join(seen.split(None, CLIP)[:CLIP])
    line = _LIKE_LABEL.sub("'", line)  # else what follows would look like a label
    return unfenced(line, anywhere=True)


# A quotation mark behind which another turn, or another speaker, seems to begin.
_LIKE_LABEL = re.compile(r'["“”](?=\s*(?:\[|[^"“”\n]{1,40}[:：]\s*["“”]))')


def _is_control(character: str) -> bool:
    return unicodedata.category(character) == "Cc"


def _speaker(turn: Turn) -> str:
    """Who said it, as a label: the role where a name would pass for one, or for the label's end."""
    name = clip(" ".join(re.sub(r'[]["“”:{}<>|]', " ", _quotable(turn.speaker)).split()), NAME)
    words = re.findall(r"[a-z]+", name.translate(_SKELETON).replace(GONE, ""))
    is_role = ROLES.intersection([*words, "".join(words)])
    return turn.role.title() if is_role or not name else name


def unfenced(text: str, *, anywhere: bool = False) -> str:
    """`text` in which nothing reads as the fence, however it is spelled; as long as it was.

    The sign that would open the fence's tag becomes a round bracket. An opening tag within a line
    is left, as in `#include <memory>`, unless it counts `anywhere`.
    """
    skeleton = text.translate(_SKELETON)
    tags = [
        found.start()
        for found in _LIKE_FENCE.finditer(skeleton)
        if anywhere or "/" in found["gap"] or _begins_line(skeleton, found.start())
    ]
    starts, ends = [0, *(at + 1 for at in tags)], [*tags, len(text)]
    return "(".join(text[start:end] for start, end in zip(starts, ends, strict=True))


def _begins_line(skeleton: str, at: int) -> bool:
    while at and skeleton[at - 1] in f" {GONE}<[{{":
        at -= 1
    return at == 0 or skeleton[at - 1] == "\n"


class _Skeleton(dict[int, int]):
    """Characters → the small Latin letter or the sign that they look like, or GONE if they show
    nothing of their own; a table for `str.translate` that is filled as it is used."""

    def __missing__(self, code: int) -> int:
        self[code] = ord(self._look(chr(code)))
        return self[code]

    def _look(self, character: str) -> str:
        if character.isspace():
            return "\n" if character.splitlines() == [""] else " "
        if not without(character):
            return GONE
        looks = unicodedata.normalize("NFKD", character).lower().translate(_LOOKS)
        base = [c for c in looks if unicodedata.category(c) not in ("Mn", "Me", "Cc")]
        return (base[0] if len(base) == 1 else character) if base else GONE


GONE = "\0"
_LOOKS = {
    ord(sign): look
    for look, signs in {
        "a": "аαɑᴀ", "c": "сϲᴄ", "d": "ԁᴅ", "e": "еεᴇℯ", "i": "іιıɪ", "k": "кκᴋ", "l": "ӏᴌʟ",
        "m": "мᴍ", "n": "ոɴ", "o": "оοօᴏ", "p": "рρᴘ", "r": "гꭇʀ", "s": "ѕꜱ", "t": "тτᴛ",
        "u": "սυᴜ", "v": "νѵᴠ", "y": "уүγʏ", "/": "⁄∕⧸╱", "<": "‹«〈⟨❮❬ᐸ˂⧼≺⟪《˱⦑",
    }.items()
    for sign in signs
}  # fmt: skip
_SKELETON = _Skeleton()
# As tags, as entities, as the escapes of JSON and of addresses; letters set apart, or overlaid.
_LIKE_FENCE = re.compile(
    r"(?:<|[\[{](?=[ \0]*/)|&(?:lt|#0*60|#x0*3c);?|\\(?:u00|x)3c|%3c)"
    r"(?=(?P<gap>[\s\0<[{/\\|!?.*_-]{,99})" + r"[\s\0]{,9}".join("memory") + ")"
)


def clip(text: str, length: int = CLIP) -> str:
    """`text`, cut at a word where it is longer than `length` characters."""
    if len(text) <= length:
        return text
    cut = text[: length - 1]
    return (cut.rsplit(" ", 1)[0] if " " in cut[length // 2 :] else cut) + "…"


def ago(at: datetime, now: datetime) -> str:
    """How long ago, in the words people use: 'today', 'yesterday', '3 weeks ago'.

    Counted in calendar days of the user's time zone.
    """
    days = (now.astimezone().date() - at.astimezone().date()).days
    if days <= 0:
        return "today"
    if days == 1:
        return "yesterday"
    for length, unit in ((365, "year"), (30, "month"), (7, "week"), (1, "day")):
        if days >= length * (2 if unit == "week" else 1):
            number = days // length
            return f"{number} {unit}{'s' if number > 1 else ''} ago"
    raise AssertionError("unreachable: every positive number of days has a unit")
