"""The log of conversations: append, read, retract and delete turns. The truth of the memory.

Knows nothing about vectors, words or ranking: what else hangs on a turn is deleted by the store.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from memory import cipher, encryption
from memory.errors import UnknownConversation, UnknownTurn
from memory.schema import (
    UtcTime,
    conversations,
    counters,
    drafts,
    open_database,
    pins,
    reading,
    recalled,
    turns,
    unlock,
    writing,
)
from memory.types import Conversation, Hit, Role, Source, Status, Turn

TITLE_LENGTH = 60  # characters of the first prompt that name a conversation
Query = TypeVar("Query", bound=sa.Select[*tuple[Any, ...]])


@dataclass(frozen=True, slots=True)
class Making:
    """How a reply is made: the model's name, its decoding settings, the seed."""

    model: str | None = None
    decoding: Mapping[str, Any] | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """A reply that is being generated."""

    id: int
    conversation: int
    speaker: str
    at: datetime
    making: Making


class Log:
    """Turns and conversations in one SQLite file, or with no path in this process's memory.

    Safe to use from several processes and threads. `key` is asked for the key of an encrypted file,
    unless `unlocked` is what schema.unlock made of it.

    Errors of every method: DatabaseFault; UnknownTurn and UnknownConversation where an id is given.
    """

    def __init__(
        self,
        path: Path | None,
        key: cipher.Key | None = None,
        unlocked: bytes | None = None,
    ) -> None:
        raw = unlocked or unlock(path, key)
        self.path = path
        self.encrypted = raw is not None
        self.engine = open_database(path, raw)
        if path is not None and raw is not None:
            encryption.tidy(path)
        self._adopt_drafts()

    def close(self) -> None:
        self.engine.dispose()

    def reading(self) -> AbstractContextManager[sa.Connection]:
        """A connection with one consistent view."""
        return reading(self.engine, self.path)

    def writing(self) -> AbstractContextManager[sa.Connection]:
        """One write transaction."""
        return writing(self.engine, self.path)

    # -- turns --------------------------------------------------------------------------------

    def append(
        self,
        conversation: int | None,
        role: Role,
        text: str,
        *,
        speaker: str,
        at: datetime,
        status: Status = "complete",
        making: Making = Making(),
        used: Sequence[Hit] = (),
        source: Source | None = None,
    ) -> Turn:
        """Store one turn and commit it.

        With `conversation` None, or forgotten meanwhile, it opens a new one.
        `used` are the memories that a reply was given; `source` is where a text came from that
        wasn't typed or generated here.
        """
        with self.writing() as connection:
            if conversation is None or not _exists(connection, conversation):
                conversation = _start(connection, title_of(text), at)
            turn = Turn(0, conversation, role, speaker, text, at, status, source=source)
            return _insert(connection, turn, making, used)

    def extend(self, conversations_: Iterable[tuple[str, Sequence[Turn]]]) -> list[Turn]:
        """Store whole conversations, (title, turns), in one transaction; ids are given anew.

        A conversation without a title is named after its first turn.
        """
        stored = []
        with self.writing() as connection:
            for title, some in conversations_:
                conversation = _start(connection, title or title_of(some[0].text), some[0].at)
                for turn in some:
                    making = Making(turn.model, turn.decoding, turn.seed)
                    placed = replace(turn, conversation=conversation)
                    stored.append(_insert(connection, placed, making, ()))
        return stored

    def get(self, ids: Iterable[int]) -> dict[int, Turn]:
        """The turns with these ids that exist and stand, by id."""
        with self.reading() as connection:
            return get_turns(connection, ids)

    def standing(self, ids: Iterable[int]) -> set[int]:
        """Which of these turns exist and stand."""
        found: set[int] = set()
        with self.reading() as connection:
            for some in at_most(list(ids)):
                query = sa.select(turns.c.id)
                query = query.where(turns.c.id.in_(some), turns.c.retracted == sa.false())
                found |= set(connection.scalars(query))
        return found

    def turn(self, id_: int) -> Turn:
        """One turn, retracted or not."""
        with self.reading() as connection:
            row = connection.execute(_TURNS.where(turns.c.id == id_)).first()
        if row is None:
            raise UnknownTurn(f"no turn {id_}: `chatbot memory list` shows the ids")
        return Turn(*row)

    def turns(
        self,
        conversation: int | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        pinned: bool = False,
        limit: int | None = None,
    ) -> list[Turn]:
        """The standing turns in the order they were said; with `limit`, only the newest."""
        query = _TURNS.where(turns.c.retracted == sa.false()).order_by(turns.c.id.desc())
        query = within(query, conversation, since, until)
        if pinned:
            query = query.where(pins.c.turn.is_not(None))
        with self.reading() as connection:
            if conversation is not None:
                _require(connection, conversation)
            rows = connection.execute(query.limit(limit)).all()
        return [Turn(*row) for row in reversed(rows)]

    def retract(self, ids: Iterable[int]) -> None:
        """Take turns back: they stay in the log but are neither history nor memory any more, and
        no title of a conversation."""
        with self.writing() as connection:
            found = get_turns(connection, list(ids))
            for turn in found.values():
                connection.execute(
                    turns.update().where(turns.c.id == turn.id).values(retracted=True)
                )
            for turn in found.values():
                _retitle(connection, turn.conversation, {title_of(turn.text)} - {""})
            bump_removals(connection)

    def pin(self, id_: int, at: datetime) -> None:
        with self.writing() as connection:
            if not get_turns(connection, [id_]):
                raise UnknownTurn(f"no turn {id_}: `chatbot memory list` shows the ids")
            connection.execute(pins.delete().where(pins.c.turn == id_))
            connection.execute(pins.insert().values(turn=id_, at=at))

    def unpin(self, id_: int) -> None:
        with self.writing() as connection:
            if connection.execute(pins.delete().where(pins.c.turn == id_)).rowcount == 0:
                raise UnknownTurn(f"turn {id_} isn't pinned: `chatbot memory list --pinned`")

    def pinned(self) -> list[Turn]:
        """The standing turns that are pinned, the one pinned last first."""
        query = _TURNS.where(turns.c.retracted == sa.false(), pins.c.turn.is_not(None))
        with self.reading() as connection:
            rows = connection.execute(query.order_by(pins.c.at.desc(), turns.c.id.desc())).all()
        return [Turn(*row) for row in rows]

    def recalled(self, reply: int) -> list[Hit]:
        """The memories that a reply was given, best first; those forgotten since are left out."""
        query = (
            sa.select(recalled).where(recalled.c.reply == reply).order_by(recalled.c.score.desc())
        )
        with self.reading() as connection:
            rows = connection.execute(query).all()
            found = get_turns(connection, [row.memory for row in rows], retracted=True)
        return [
            Hit(found[row.memory], row.score, row.dense, row.lexical, row.parts) for row in rows
        ]

    # -- replies in the making ------------------------------------------------------------------

    def begin_reply(
        self, conversation: int, *, speaker: str, at: datetime, making: Making
    ) -> Draft:
        """Open a draft for a reply that is about to be generated.

        Should this process die, the next one to open the log keeps what `save_draft` last stored,
        as an interrupted reply.
        """
        row = _values(making) | {"conversation": conversation, "speaker": speaker, "at": at}
        with self.writing() as connection:
            result = connection.execute(
                drafts.insert().values(process=_process(os.getpid()), text="", **row)
            )
            return Draft(int(result.lastrowid), conversation, speaker, at, making)

    def save_draft(self, draft: Draft, text: str) -> None:
        with self.writing() as connection:
            connection.execute(drafts.update().where(drafts.c.id == draft.id).values(text=text))

    def drop_reply(self, draft: Draft) -> None:
        """Let go of a draft of which nothing is to be kept."""
        with self.writing() as connection:
            connection.execute(drafts.delete().where(drafts.c.id == draft.id))

    def finish_reply(
        self,
        draft: Draft,
        text: str,
        status: Status,
        *,
        seed: int | None = None,
        used: Sequence[Hit] = (),
    ) -> Turn:
        """Turn a draft into a turn, with the memories it was given, in one transaction.

        Of a reply that was given a memory that has been forgotten meanwhile no text is kept.
        """
        making = replace(draft.making, seed=seed)
        given = {hit.turn.id for hit in used}
        with self.writing() as connection:
            if given - get_turns(connection, given, retracted=True).keys():
                text, status = "", "interrupted"
            return _adopt(connection, replace(draft, making=making), text, status, used)

    def _adopt_drafts(self) -> None:
        """Keep, as interrupted replies, the drafts of processes that are no more."""
        with self.reading() as connection:
            rows = connection.execute(sa.select(drafts)).all()
        if not any(_is_gone(row.process) for row in rows):
            return
        with self.writing() as connection:
            for row in connection.execute(sa.select(drafts)).all():
                if _is_gone(row.process):
                    making = Making(row.model, row.decoding, row.seed)
                    draft = Draft(row.id, row.conversation, row.speaker, row.at, making)
                    _adopt(connection, draft, row.text, "interrupted", ())

    # -- conversations --------------------------------------------------------------------------

    def conversations(self) -> list[Conversation]:
        """All conversations, the one last spoken in at the end."""
        latest = sa.func.coalesce(sa.func.max(turns.c.at), conversations.c.started)
        query = _CONVERSATIONS.order_by(latest, conversations.c.id)
        with self.reading() as connection:
            return [_conversation(row) for row in connection.execute(query)]

    def conversation(self, id_: int) -> Conversation:
        query = _CONVERSATIONS.where(conversations.c.id == id_)
        with self.reading() as connection:
            row = connection.execute(query).first()
        if row is None or row.id is None:
            raise _unknown_conversation(id_)
        return _conversation(row)

    def rename(self, id_: int, title: str) -> None:
        with self.writing() as connection:
            _require(connection, id_)
            connection.execute(
                conversations.update().where(conversations.c.id == id_).values(title=title)
            )

    def removals(self) -> int:
        """How often turns have left the log, by whatever process."""
        query = sa.select(counters.c.value).where(counters.c.name == "removals")
        with self.reading() as connection:
            return connection.scalar(query) or 0

    def counts(self) -> dict[str, int]:
        """How many conversations, standing turns and pins there are."""
        standing = sa.select(sa.func.count()).where(turns.c.retracted == sa.false())
        with self.reading() as connection:
            return {
                "conversations": connection.scalar(
                    sa.select(sa.func.count()).select_from(conversations)
                )
                or 0,
                "turns": connection.scalar(standing) or 0,
                "pins": connection.scalar(sa.select(sa.func.count()).select_from(pins)) or 0,
            }


_TURNS = sa.select(  # in the order of Turn's fields
    *(turns.c[name] for name in Turn.__dataclass_fields__ if name != "pinned"),
    pins.c.turn.is_not(None).label("pinned"),
).select_from(turns.outerjoin(pins))

_CONVERSATIONS = (
    sa.select(
        conversations,
        sa.func.count(turns.c.id).label("turns"),
        sa.func.max(turns.c.at, type_=UtcTime()).label("latest"),
    )
    .select_from(
        conversations.outerjoin(
            turns,
            (turns.c.conversation == conversations.c.id) & (turns.c.retracted == sa.false()),
        )
    )
    .group_by(conversations.c.id)
)


def title_of(text: str) -> str:
    """A conversation's first title: the first line of its first prompt, shortened."""
    line = " ".join((text.strip().splitlines() or [""])[0].split())
    return line if len(line) <= TITLE_LENGTH else line[: TITLE_LENGTH - 1].rstrip() + "…"


def at_most(ids: Sequence[int], count: int = 500) -> Iterator[Sequence[int]]:
    """`ids` in runs of at most `count`: SQLite caps the variables of a statement."""
    for start in range(0, len(ids), count):
        yield ids[start : start + count]


def within(
    query: Query, conversation: int | None, since: datetime | None, until: datetime | None
) -> Query:
    """Of the turns that `query` selects, those of a conversation and of [since, until)."""
    if conversation is not None:
        query = query.where(turns.c.conversation == conversation)
    if since is not None:
        query = query.where(turns.c.at >= since)
    if until is not None:
        query = query.where(turns.c.at < until)
    return query


def get_turns(
    connection: sa.Connection, ids: Iterable[int], *, retracted: bool = False
) -> dict[int, Turn]:
    """The turns with these ids, by id; those taken back only if `retracted`."""
    found: dict[int, Turn] = {}
    for some in at_most(list(ids)):
        query = _TURNS.where(turns.c.id.in_(some))
        if not retracted:
            query = query.where(turns.c.retracted == sa.false())
        found |= {row[0]: Turn(*row) for row in connection.execute(query).all()}
    return found


def bump_removals(connection: sa.Connection) -> None:
    """Tell every process that turns have left, so that their indexes drop them too."""
    connection.execute(
        counters.update().where(counters.c.name == "removals").values(value=counters.c.value + 1)
    )


def delete_turns(
    connection: sa.Connection, ids: Sequence[int], quotes: Callable[[str], bool] | None = None
) -> int:
    """Delete turns, their pins and their provenance; return how many there were.

    Conversations left empty go too, and a title that was made of one of the turns changes, as does
    any that `quotes` says has something of them in it.
    """
    gone = 0
    quoted = get_turns(connection, ids, retracted=True).values()
    for some in at_most(ids):
        connection.execute(
            recalled.delete().where(recalled.c.reply.in_(some) | recalled.c.memory.in_(some))
        )
        connection.execute(pins.delete().where(pins.c.turn.in_(some)))
        gone += connection.execute(turns.delete().where(turns.c.id.in_(some))).rowcount
    used = sa.union(sa.select(turns.c.conversation), sa.select(drafts.c.conversation))
    connection.execute(conversations.delete().where(conversations.c.id.not_in(used)))
    for conversation in {turn.conversation for turn in quoted if turn.text.strip()}:
        titles = {title_of(turn.text) for turn in quoted if turn.conversation == conversation}
        _retitle(connection, conversation, titles)
    if quotes is not None:
        for id_, title in connection.execute(sa.select(conversations.c.id, conversations.c.title)):
            if quotes(title):
                _retitle(connection, id_, {title})
    bump_removals(connection)
    return gone


def _retitle(connection: sa.Connection, conversation: int, forgotten: set[str]) -> None:
    """If the title is one of the `forgotten`, name the conversation after the turn now first."""
    first = (
        sa.select(turns.c.text)
        .where(turns.c.conversation == conversation, turns.c.retracted == sa.false())
        .order_by(turns.c.id)
        .limit(1)
    )
    text = connection.scalar(first) or ""
    connection.execute(
        conversations.update()
        .where(conversations.c.id == conversation, conversations.c.title.in_(forgotten))
        .values(title=title_of(text))
    )


def _conversation(row: Any) -> Conversation:
    return Conversation(row.id, row.title, row.started, row.latest or row.started, row.turns)


def _start(connection: sa.Connection, title: str, at: datetime) -> int:
    result = connection.execute(conversations.insert().values(title=title, started=at))
    return int(result.lastrowid)


def _exists(connection: sa.Connection, conversation: int) -> bool:
    query = sa.select(conversations.c.id).where(conversations.c.id == conversation)
    return connection.execute(query).first() is not None


def _require(connection: sa.Connection, conversation: int) -> None:
    if not _exists(connection, conversation):
        raise _unknown_conversation(conversation)


def _unknown_conversation(id_: int) -> UnknownConversation:
    return UnknownConversation(f"no conversation {id_}: `chatbot conversations list` shows the ids")


def _values(making: Making) -> dict[str, Any]:
    return {"model": making.model, "decoding": making.decoding, "seed": making.seed}


def _insert(connection: sa.Connection, turn: Turn, making: Making, used: Sequence[Hit]) -> Turn:
    """Store `turn`, whose id is given anew, and return it as it is stored."""
    result = connection.execute(
        turns.insert().values(
            conversation=turn.conversation,
            role=turn.role,
            speaker=turn.speaker,
            text=turn.text,
            at=turn.at,
            status=turn.status,
            retracted=False,
            source=turn.source,
            **_values(making),
        )
    )
    id_ = int(result.lastrowid)
    # A memory may have been forgotten, perhaps by another process, since it was recalled.
    standing = get_turns(connection, [hit.turn.id for hit in used], retracted=True)
    rows = [
        {
            "reply": id_,
            "memory": hit.turn.id,
            "score": hit.score,
            "dense": hit.dense,
            "lexical": hit.lexical,
            "parts": dict(hit.parts),
        }
        for hit in used
        if hit.turn.id in standing
    ]
    if rows:
        connection.execute(recalled.insert(), rows)
    return replace(turn, id=id_, at=turn.at.astimezone(UTC), pinned=False, **_values(making))


def _adopt(
    connection: sa.Connection, draft: Draft, text: str, status: Status, used: Sequence[Hit]
) -> Turn:
    connection.execute(drafts.delete().where(drafts.c.id == draft.id))
    if not _exists(connection, draft.conversation):  # only if somebody took the draft away
        raise _unknown_conversation(draft.conversation)
    turn = Turn(0, draft.conversation, "assistant", draft.speaker, text, draft.at, status)
    return _insert(connection, turn, draft.making, used)


def _process(id_: int) -> str:
    """A name for a process: its id, and when it began, in seconds."""
    return f"{id_}@{_began(id_):.0f}"


def _is_gone(process: str) -> bool:
    """Whether the process of this name has ended, though its id may have been given anew."""
    import psutil

    id_, _, began = process.partition("@")
    try:
        return abs(_began(int(id_)) - float(began)) > 10
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:  # alive, and somebody else's
        return False


def _began(id_: int) -> float:
    """When a process began, in seconds: on Linux since the system was booted, since what it says
    of the time of day changes when the clock is set. Errors: those of psutil."""
    import psutil

    began: float = psutil.Process(id_).create_time()
    return began - psutil.boot_time() if sys.platform == "linux" else began
