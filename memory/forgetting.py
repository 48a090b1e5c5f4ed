"""Forgetting, with proof: which turns, which replies quote them, and a receipt of what was found.

What goes is gone from the log, its caches, the index files, titles, and text files that lie beside
the database. Then every file there is read, byte by byte: for the text and for words that nobody
else said (UTF-8, UTF-16, escaped as in JSON), for the stored vectors and for codes made of them;
and the word index is asked for its tokens. In the bytes of an encrypted database nothing can be
looked for: there every row is read instead, but no free page. Knows the log and its caches; nothing
of terminals, nor of the format of any file that isn't the memory's own.

What can't be told from what stays isn't looked for: words that another turn says too, lines that it
holds letter by letter, and by themselves fewer than 6 bytes.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa

from memory import traces, words
from memory.errors import DatabaseFault, UnknownTurn
from memory.log import at_most, get_turns, within
from memory.schema import conversations, embedders, pins, recalled, turns, vectors
from memory.store import Memory
from memory.traces import Find, Piece, Scan, Traces
from memory.types import Turn
from memory.weights import THRESHOLD

FOUND = 100  # turns that a search for what to forget finds at most
EXPLAINED = 40  # pieces that were found after all: so many are looked up among what stays
CENTROID = 0.9999  # cosine from which on a centroid of an index file is a turn's vector

_OWN = (".db", ".db-wal", ".db-shm", ".db-journal", ".codes", ".part", ".lock", ".toml")


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be forgotten: `turns`, and if the user wants it `quoting`, which are replies that
    say what only `turns` tell. `repeating` are other turns that hold a line of `turns`; `files` lie
    beside the database and hold something of them, with how many places."""

    turns: tuple[Turn, ...]
    quoting: tuple[Turn, ...] = ()
    repeating: tuple[int, ...] = ()
    files: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Remnant:
    """Where something is after all: a file, below the folder of the database, and what."""

    file: str
    kind: str
    places: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was removed, and what a look through all files found.

    `turns` counts them; `vectors`, `words`, `links` (replies and the memories they were given) and
    `pins` are rows that went with them; `titles` changed, `prompts` typed before and `files` of
    text were blanked. `before` and `remains` are what was found before and afterwards of `pieces`
    pieces, in `scanned` files of `size` bytes. `kept` are turns that stay and hold a line of it;
    the texts of `short` are too short to be told from others' bytes, and weren't looked for.
    """

    turns: int
    vectors: int
    words: int
    links: int
    pins: int
    titles: int
    prompts: int
    files: tuple[str, ...]
    pieces: int
    before: int
    scanned: int
    size: int
    kept: tuple[int, ...]
    remains: tuple[Remnant, ...]
    short: tuple[int, ...] = ()
    rows: int = 0  # that were read in an encrypted database, whose bytes tell nothing

    @property
    def clean(self) -> bool:
        return not self.remains


@dataclass(frozen=True, slots=True)
class Doomed:
    """Turns that are about to go, what they leave, and which others hold a line of them."""

    turns: tuple[Turn, ...]
    traces: Traces
    tokens: frozenset[str]
    repeating: tuple[int, ...]


# -- what to forget -------------------------------------------------------------------------------


def choose(
    memory: Memory,
    search: str | None = None,
    conversation: int | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[Turn]:
    """The turns of a conversation and of [since, until), those taken back included.

    With `search` only those of them that hold it letter by letter; if none does, those that a
    recall finds above the threshold. Errors: UnknownConversation.
    """
    if conversation is not None:
        memory.log.conversation(conversation)
    query = within(sa.select(turns.c.id).order_by(turns.c.id), conversation, since, until)
    if search is not None:
        query = query.where(turns.c.text.icontains(search.strip(), autoescape=True))
    with memory.log.reading() as connection:
        found = get_turns(connection, connection.scalars(query).all(), retracted=True)
    if search is not None and not found:
        scope = None if conversation is None else [conversation]
        hits = memory.recall(search, FOUND, scope, since, until)
        found |= {hit.turn.id: hit.turn for hit in hits if hit.score >= THRESHOLD}
    return [found[id_] for id_ in sorted(found)]


def plan(memory: Memory, ids: Iterable[int]) -> Plan:
    """What forgetting these turns means. Errors: UnknownTurn."""
    wanted = list(dict.fromkeys(ids))
    with memory.log.reading() as connection:
        known = _known(connection, wanted)
        replies = _replies(connection, known)
        telling = _telling(connection, [turn.text for turn in known.values()], {*known, *replies})
        said = [line for turn in known.values() for line in traces.lines(turn.text)]
        quoting = [
            reply
            for _, reply in sorted(replies.items())
            if not telling.isdisjoint(words.tokenize(reply.text))
            or any(line in reply.text for line in said if words.tokenize(line))
        ]
        doomed = _doomed(connection, [*known.values(), *quoting])
    files = _files(_scan(memory, doomed.traces)) if memory.log.path else ()
    return Plan(tuple(known.values()), tuple(quoting), doomed.repeating, files)


def _known(connection: sa.Connection, ids: Sequence[int]) -> dict[int, Turn]:
    found = get_turns(connection, ids, retracted=True)
    if unknown := [id_ for id_ in ids if id_ not in found]:
        raise UnknownTurn(f"no turn {unknown[0]}: `chatbot memory list` shows the ids")
    return {id_: found[id_] for id_ in sorted(found)}


def _replies(connection: sa.Connection, known: Collection[int]) -> dict[int, Turn]:
    """Replies that may quote these turns: that were given them, or followed in a conversation; and
    those that were given such a reply."""
    found: set[int] = set()
    fresh = set(known)
    while fresh:
        some = {id_ for few in at_most(sorted(fresh)) for id_ in _following(connection, few)}
        fresh = some - found - set(known)
        found |= fresh
    return get_turns(connection, found, retracted=True)


def _following(connection: sa.Connection, ids: Sequence[int]) -> Iterator[int]:
    yield from connection.scalars(sa.select(recalled.c.reply).where(recalled.c.memory.in_(ids)))
    first = (
        sa.select(turns.c.conversation, sa.func.min(turns.c.id).label("id"))
        .where(turns.c.id.in_(ids))
        .group_by(turns.c.conversation)
        .subquery()
    )
    yield from connection.scalars(
        sa.select(turns.c.id)
        .join(first, first.c.conversation == turns.c.conversation)
        .where(turns.c.role == "assistant", turns.c.id > first.c.id)
    )


# -- what they leave ------------------------------------------------------------------------------


def _doomed(connection: sa.Connection, doomed: Sequence[Turn]) -> Doomed:
    """What these turns leave that nothing else does."""
    ids = {turn.id for turn in doomed}
    texts = [turn.text for turn in doomed]
    telling = _telling(connection, texts, ids)
    said = {run for text in texts for run in traces.runs(text)}
    own = {run for run in said if not telling.isdisjoint(words.tokenize(run))} | telling
    schema = " ".join(
        connection.exec_driver_sql("SELECT coalesce(sql, '') FROM sqlite_schema").scalars()
    )
    own = {run for run in own if run.casefold() not in schema.casefold()}  # as "conversation"
    lines, repeating = _lines(connection, texts, telling, ids)
    found = Traces(frozenset(lines), frozenset(own), _vectors(connection, sorted(ids)))
    return Doomed(tuple(doomed), found, frozenset(telling), tuple(sorted(repeating)))


def _telling(connection: sa.Connection, texts: Iterable[str], ids: set[int]) -> set[str]:
    """The tokens of `texts` that no turn but `ids` has."""
    tokens = {token for text in texts for token in words.tokenize(text)}
    for _, text in _unworded(connection, ids):
        tokens -= set(words.tokenize(text))
    return {token for token in tokens if not _held_elsewhere(connection, token, ids)}


def _held_elsewhere(connection: sa.Connection, token: str, ids: set[int]) -> bool:
    holders = connection.exec_driver_sql(_HOLDERS, (f'"{token}"',)).scalars()
    return any(holder not in ids for holder in holders)


def _lines(
    connection: sa.Connection, texts: Iterable[str], telling: set[str], ids: set[int]
) -> tuple[set[str], set[int]]:
    """The lines of `texts` that no turn but `ids` holds; and the turns that hold the others."""
    found, repeating = set(), set()
    unworded = _unworded(connection, ids)
    for line in {line for text in texts for line in traces.lines(text)}:
        tokens = list(dict.fromkeys(words.tokenize(line)))
        if not tokens:
            continue
        holders = {id_ for id_, text in unworded if line in text}
        if telling.isdisjoint(tokens):
            every = " AND ".join(f'"{token}"' for token in tokens[: words.MAX_TERMS])
            near = connection.exec_driver_sql(_HOLDERS, (every,)).scalars().all()
            others = get_turns(connection, [row for row in near if row not in ids])
            holders |= {turn.id for turn in others.values() if line in turn.text}
        repeating |= holders
        if not holders:
            found.add(line)
    return found, repeating


def _has_lines(text: str) -> bool:
    """Whether a text has a line with words in it that is long enough to look for."""
    return any(words.tokenize(line) for line in traces.lines(text))


def _unworded(connection: sa.Connection, ids: set[int]) -> list[tuple[int, str]]:
    """The turns but `ids` that the word index doesn't have: taken back, or yet to be indexed."""
    rows = connection.exec_driver_sql(_UNWORDED).all()
    return [(id_, text) for id_, text in rows if id_ not in ids]


def _vectors(connection: sa.Connection, ids: Sequence[int]) -> dict[bytes, bytes]:
    """The bytes that are stored for turns, and what the token codes are cut from."""
    found: dict[bytes, bytes] = {}
    for some in at_most(ids):
        query = sa.select(vectors.c.vector, vectors.c.tokens).where(vectors.c.turn.in_(some))
        for vector, tokens in connection.execute(query):
            found |= {blob: blob for blob in (vector, tokens) if blob}
    return found


def _codes(memory: Memory, ids: Sequence[int]) -> dict[bytes, bytes]:
    """The codes of turns in the index files, with the vectors that they were made of."""
    import numpy as np

    from memory import files
    from memory.vectors import pack

    found: dict[bytes, bytes] = {}
    with memory.log.reading() as connection:
        rows = connection.execute(
            sa.select(embedders.c.id, embedders.c.file).where(embedders.c.file.is_not(None))
        ).all()
        for maker, name in rows:
            if (codes := files.open_codes(memory.log, name)) is None:
                continue
            packed = pack(np.repeat(np.array(ids), 8), np.tile(np.arange(8), len(ids)))
            for id_, code in codes.codes_of(packed).items():
                stored = connection.scalar(
                    sa.select(vectors.c.vector).where(
                        vectors.c.turn == id_ >> 3,
                        vectors.c.part == id_ & 7,
                        vectors.c.embedder == maker,
                    )
                )
                found[code] = stored or code
    return found


_HOLDERS = "SELECT rowid FROM words WHERE words MATCH ?"
_UNWORDED = """
    SELECT id, text FROM turns
    WHERE retracted OR NOT EXISTS (SELECT 1 FROM words_docsize WHERE words_docsize.id = turns.id)"""


# -- forgetting -----------------------------------------------------------------------------------


def forget(
    memory: Memory, ids: Iterable[int], also: Callable[[Traces], int] | None = None
) -> Receipt:
    """Delete turns for good, and look for them in every file beside the database.

    `also` is what else shall lose them, before the log does: it is given their traces, and returns
    how many things it blanked. Turns that quote them stay unless they are among `ids`. Errors:
    UnknownTurn, and then nothing is forgotten.
    """
    wanted = list(dict.fromkeys(ids))
    with memory.log.reading() as connection:
        doomed = _doomed(connection, list(_known(connection, wanted).values()))
        rows = _rows(connection, wanted)
        titles = _titles(connection, doomed.traces)
    if memory.log.path is None:
        gone = memory.forget(wanted, doomed.traces.quoted_in)
        return Receipt(gone, *rows, titles, 0, (), 0, 0, 0, 0, doomed.repeating, ())
    coded = {**doomed.traces.vectors, **_codes(memory, wanted)}
    left = Traces(doomed.traces.lines, doomed.traces.words, coded)
    before = _scan(memory, left)
    prompts = also(left) if also else 0
    blanked = _blank_files(memory.log.path.parent, before, left)
    _let_go_of_centroids(memory, wanted)
    gone = memory.forget(wanted, left.quoted_in)
    after = _scan(memory, left)
    remains = _remains(memory, after, left, doomed.tokens)
    if any(remnant.file == memory.log.path.name for remnant in remains):
        with suppress(DatabaseFault):  # as on a full disk: then the receipt says what is left
            memory.rewrite()
        after = _scan(memory, left)
        remains = _remains(memory, after, left, doomed.tokens)
    return Receipt(
        gone,
        *rows,
        titles=titles,
        prompts=prompts,
        files=blanked,
        pieces=len(traces.pieces(left)),
        before=sum(find.places for find in before.finds),
        scanned=after.files,
        size=after.size,
        kept=doomed.repeating,
        remains=remains,
        short=tuple(turn.id for turn in doomed.turns if not _has_lines(turn.text)),
        rows=after.rows,
    )


def _rows(connection: sa.Connection, ids: Sequence[int]) -> tuple[int, int, int, int]:
    """How many vectors, rows of words, links and pins these turns have."""
    counted = [0, 0, 0, 0]
    for some in at_most(ids):
        worded = sa.column("id").in_(some)
        queries = (
            sa.select(sa.func.count()).where(vectors.c.turn.in_(some)),
            sa.select(sa.func.count()).select_from(sa.text("words_docsize")).where(worded),
            sa.select(sa.func.count()).where(
                recalled.c.reply.in_(some) | recalled.c.memory.in_(some)
            ),
            sa.select(sa.func.count()).where(pins.c.turn.in_(some)),
        )
        for place, query in enumerate(queries):
            counted[place] += connection.scalar(query) or 0
    return counted[0], counted[1], counted[2], counted[3]


def _titles(connection: sa.Connection, left: Traces) -> int:
    return sum(map(left.quoted_in, connection.scalars(sa.select(conversations.c.title))))


def _blank_files(folder: Path, before: Scan, left: Traces) -> tuple[str, ...]:
    """Blank files of text beside the database, as exports; the settings are the user's own."""
    blanked = []
    for name in dict.fromkeys(find.file for find in before.finds):
        with suppress(OSError):  # the scan that follows tells of what stays
            if not name.endswith(_OWN) and traces.blank(folder / name, left):
                blanked.append(name)
    return tuple(blanked)


def _let_go_of_centroids(memory: Memory, ids: Sequence[int]) -> None:
    """Give up an index file of which a centroid is the vector of one of these turns.

    One that lies apart from all others may have a list, and so a centroid, of its own.
    """
    from memory import files
    from memory.vectors import from_bytes

    with memory.log.reading() as connection:
        named = connection.execute(
            sa.select(embedders.c.id, embedders.c.file).where(embedders.c.file.is_not(None))
        ).all()
        blobs = [blob for some in at_most(ids) for blob in _blobs(connection, some)]
    for maker, name in named:
        codes = files.open_codes(memory.log, name)
        if codes is None:
            continue
        own = [blob for blob in blobs if len(blob) == 2 * codes.dimension]
        if own and codes.nearest_centroid(from_bytes(own, codes.dimension)).max() > CENTROID:
            with memory.log.writing() as connection:
                row = embedders.update().where(embedders.c.id == maker)
                connection.execute(row.values(file=None, filed=0))


def _blobs(connection: sa.Connection, ids: Sequence[int]) -> list[bytes]:
    return list(connection.scalars(sa.select(vectors.c.vector).where(vectors.c.turn.in_(ids))))


# -- the proof ------------------------------------------------------------------------------------


def _scan(memory: Memory, left: Traces) -> Scan:
    assert memory.log.path is not None
    wanted = traces.pieces(left)
    found = traces.scan(memory.log.path.parent, wanted)
    if not memory.log.encrypted:
        return found
    with memory.log.reading() as connection:
        tables = connection.exec_driver_sql(_TABLES).scalars().all()
        rows = (
            row for name in tables for row in connection.exec_driver_sql(f'SELECT * FROM "{name}"')
        )
        count, places = traces.scan_rows(rows, wanted)
    inside = [Find(memory.log.path.name, piece, n) for piece, n in places.items()]
    return replace(found, finds=(*found.finds, *inside), rows=count)


def _files(found: Scan) -> tuple[tuple[str, int], ...]:
    """Files that aren't the memory's own, and in how many places something was found."""
    places: dict[str, int] = {}
    for find in found.finds:
        if not find.file.endswith(_OWN) or find.file.endswith(".toml"):
            places[find.file] = places.get(find.file, 0) + find.places
    return tuple(sorted(places.items()))


def _remains(
    memory: Memory, after: Scan, left: Traces, tokens: Collection[str]
) -> tuple[Remnant, ...]:
    """What was found although no row that stays has it in it."""
    pieces = traces.pieces(left)
    sources: dict[str | bytes, bool] = {}
    remains: dict[tuple[str, str], int] = {}
    with memory.log.reading() as connection:
        for find in after.finds:
            piece = pieces[find.piece]
            if piece.source not in sources and len(sources) < EXPLAINED:
                sources[piece.source] = _stays(connection, piece.source)
            if _is_database(memory, find):
                trace = not sources.get(piece.source)
            else:
                trace = piece.kind != "word" or _has_word(memory, find, piece)
            if trace:
                key = find.file, piece.kind
                remains[key] = remains.get(key, 0) + find.places
        if left_over := _indexed(connection, tokens):
            remains["the word index", "token"] = left_over
    remains |= {(file, "unreadable"): 1 for file in after.unread}
    return tuple(Remnant(*key, places) for key, places in sorted(remains.items()))


def _has_word(memory: Memory, find: Find, piece: Piece) -> bool:
    """Whether a file has a word there that isn't part of a longer one, in it or in its name."""
    assert memory.log.path is not None and isinstance(piece.source, str)
    if piece.source.casefold() in find.file.casefold():
        return True
    try:
        return traces.has_word(memory.log.path.parent / find.file, piece.source)
    except OSError:
        return True


def _is_database(memory: Memory, find: Find) -> bool:
    """Whether what stays may stand in this file."""
    assert memory.log.path is not None
    return find.file.startswith(memory.log.path.name) or find.file.endswith(".codes")


# All that hold rows, those of the word index, too.
_TABLES = "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0"

# Where a word that was forgotten may stand all the same: in other turns, and as a name.
_SAYING = (
    *((turns.name, column) for column in ("text", "speaker", "model", "decoding")),
    (recalled.name, "parts"),
    (embedders.name, "name"),
)


def _stays(connection: sa.Connection, source: str | bytes) -> bool:
    """Whether a row that stays has this in it: a word may be part of another word."""
    if isinstance(source, str):
        statements = [
            f"SELECT 1 FROM {table} WHERE instr({column}, ?) LIMIT 1" for table, column in _SAYING
        ]
    else:
        statements = [
            f"SELECT 1 FROM vectors WHERE instr({column}, ?) LIMIT 1"
            for column in ("vector", "tokens")
        ]
    return any(connection.exec_driver_sql(one, (source,)).first() for one in statements)


def _indexed(connection: sa.Connection, tokens: Collection[str]) -> int:
    """How many of the tokens the word index still knows."""
    connection.exec_driver_sql(
        "CREATE VIRTUAL TABLE IF NOT EXISTS temp.terms USING fts5vocab('main', 'words', 'row')"
    )
    known = "SELECT 1 FROM temp.terms WHERE term = ?"
    return sum(
        connection.exec_driver_sql(known, (words.kept_as(token),)).first() is not None
        for token in tokens
    )
