"""Forgetting: what is chosen, what goes, and a receipt that is true when something stays."""

import sqlite3
import subprocess
import sys
import zlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from memory import files, forgetting, schema, store, traces
from memory.embed import Reading
from memory.errors import UnknownConversation, UnknownTurn
from memory.log import Log
from memory.schema import vectors
from memory.store import Memory
from memory.traces import Traces
from memory.types import Hit
from memory.vectors import Vectors
from tests.stand_ins import WordReader

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
SECRET = "The safe opens with zanzibarquux."
OTHERS = [f"Today I walked {n} miles with the dog and had soup." for n in range(40)]


class Drawn(WordReader):
    """An embedder that draws a vector for each word; a token's also hangs on the whole text."""

    id = "drawn@1"
    dimension = 64

    def embed(self, texts: Sequence[str]) -> Vectors:
        rows = [sum(map(self._word, text.casefold().split()), self._word("")) for text in texts]
        summed = np.array(rows, dtype=np.float32).reshape(-1, self.dimension)
        unit: Vectors = summed / np.linalg.norm(summed, axis=1, keepdims=True)
        return unit

    def _read(self, text: str) -> Reading:
        whole, words, spans, at = self.embed([text])[0], text.split(), [], 0
        for word in words:
            at = text.index(word, at)
            spans.append((at, at + len(word)))
            at += len(word)
        tokens = self.embed(words).reshape(-1, self.dimension) + whole
        return Reading(
            whole,
            tokens / np.linalg.norm(tokens, axis=1, keepdims=True),
            np.ones(len(words), dtype=np.float32),
            np.array(spans, dtype=np.int64).reshape(-1, 2),
        )

    def _word(self, word: str) -> Vectors:
        rng = np.random.default_rng(zlib.crc32(word.strip(".?!").encode()))
        return rng.standard_normal(self.dimension).astype(np.float32)


@pytest.fixture
def memory(tmp_path: Path) -> Memory:
    """A memory without any model, whose home is a folder of its own."""
    return Memory(tmp_path / "home" / "chatbot.db", Drawn)


def tell(memory: Memory, texts: Sequence[str] = OTHERS) -> list[int]:
    ids = [
        memory.remember("user", text, at=NOW - timedelta(days=len(texts) - n)).id
        for n, text in enumerate(texts)
    ]
    memory.catch_up()
    return ids


def secret(memory: Memory) -> int:
    (id_,) = tell(memory, [SECRET])
    return id_


def folder(memory: Memory) -> Path:
    assert memory.log.path is not None
    return memory.log.path.parent


# -- what to forget -------------------------------------------------------------------------------


def test_turns_are_chosen_by_what_they_hold_by_conversation_and_by_time(memory: Memory) -> None:
    ids = tell(memory)
    id_ = secret(memory)
    talk = memory.log.turn(id_).conversation

    def chosen(**by: object) -> list[int]:
        return [turn.id for turn in forgetting.choose(memory, **by)]  # type: ignore[arg-type]

    assert id_ in chosen(search="ZANZIBARQUUX") and id_ in chosen(search="opens with Zanz")
    assert chosen(search="100%_") == []
    assert chosen(conversation=talk) == [id_]
    assert chosen(since=NOW - timedelta(days=2), until=NOW - timedelta(days=1)) == [ids[-2]]
    assert chosen(search="miles", conversation=talk) == []
    memory.log.retract([id_])
    assert chosen(conversation=talk) == chosen(search="zanzibarquux") == [id_]
    with pytest.raises(UnknownConversation, match="999"):
        chosen(conversation=999)


def test_replies_that_quote_are_offered(memory: Memory) -> None:
    tell(memory)
    id_ = secret(memory)
    hit = Hit(memory.log.turn(id_), 0.9)
    given = memory.remember("assistant", "It opens with zanzibarquux!", used=[hit])
    silent = memory.remember("assistant", "I can't say.", used=[hit])
    talk = memory.log.turn(id_).conversation
    beside = memory.remember("assistant", "So, zanzibarquux it is.", conversation=talk)
    again = memory.remember("assistant", "Zanzibarquux, as I said.", used=[Hit(given, 0.9)])
    memory.log.retract([beside.id])
    plan = forgetting.plan(memory, [id_])
    assert [turn.id for turn in plan.turns] == [id_]
    assert [turn.id for turn in plan.quoting] == [given.id, beside.id, again.id]
    assert silent.id not in plan.repeating
    with pytest.raises(UnknownTurn, match="999"):
        forgetting.plan(memory, [id_, 999])


def test_words_that_stay_elsewhere_are_no_traces(memory: Memory) -> None:
    tell(memory)
    first, second, third = tell(memory, [SECRET, SECRET, "I said zanzibarquux, my dog knows it."])
    plan = forgetting.plan(memory, [first])
    assert plan.repeating == (second,)
    receipt = forgetting.forget(memory, [first])
    assert receipt.clean and receipt.kept == (second,)
    receipt = forgetting.forget(memory, [second])
    assert receipt.clean and receipt.kept == () and receipt.before > 0
    assert memory.log.turn(third).text.startswith("I said zanzi")


# -- what goes ------------------------------------------------------------------------------------


def test_a_receipt_says_what_went_and_that_nothing_is_left(memory: Memory) -> None:
    tell(memory)
    id_ = secret(memory)
    memory.pin(id_)
    memory.remember("assistant", "Fine.", used=[Hit(memory.log.turn(id_), 0.9)])
    memory.catch_up()
    kept = memory.log.conversations()[0]
    memory.log.rename(kept.id, "about zanzibarquux and soup")
    receipt = forgetting.forget(memory, [id_])
    assert receipt.clean and receipt.before > 10 and receipt.scanned >= 1
    assert (receipt.turns, receipt.vectors, receipt.words) == (1, 2, 1)
    assert (receipt.links, receipt.pins, receipt.titles) == (1, 1, 2)
    assert memory.log.conversation(kept.id).title == OTHERS[0]
    assert memory.verify().sound


def test_what_is_too_short_to_look_for_is_said(memory: Memory) -> None:
    tell(memory)
    texts = ("네", "ok?", "!!!!!!!!!", "좋아요", "It is 7.")
    short = [memory.remember("user", text).id for text in texts]
    memory.catch_up()
    receipt = forgetting.forget(memory, short)
    assert receipt.clean and receipt.turns == 5
    assert receipt.short == tuple(short[:3])
    assert forgetting.forget(memory, [secret(memory)]).short == ()


def test_text_files_beside_the_database_lose_it_in_place(memory: Memory) -> None:
    tell(memory)
    id_ = secret(memory)
    note, other = folder(memory) / "notes.jsonl", folder(memory) / "settings.toml"
    note.write_text(f'{{"text": "{SECRET}"}}\n{{"text": "soup and \\u2026"}}\n', "utf-8")
    size = note.stat().st_size
    (folder(memory) / "wide.txt").write_text(SECRET, "utf-16")
    other.write_text(f'system = "{SECRET}"', "utf-8")
    plan = forgetting.plan(memory, [id_])
    assert {file for file, _ in plan.files} == {"notes.jsonl", "wide.txt", "settings.toml"}
    receipt = forgetting.forget(memory, [id_])
    assert sorted(receipt.files) == ["notes.jsonl", "wide.txt"]
    assert {remnant.file for remnant in receipt.remains} == {"settings.toml"}  # it is the user's
    assert "zanzibarquux" in other.read_text("utf-8")
    assert note.stat().st_size == size
    assert "soup" in note.read_text("utf-8") and "zanzibarquux" not in note.read_text("utf-8")
    assert (folder(memory) / "wide.txt").read_text("utf-16") == "x" * len(SECRET)


def test_a_word_within_a_longer_one_stays(memory: Memory) -> None:
    (id_,) = tell(memory, ["I hate cheese."])
    tell(memory, ["My favourite dessert is cheesecake."])
    memory.catch_up()
    file = folder(memory) / "export.jsonl"
    said = '{"text": "My favourite dessert is cheesecake.\\ncheese, 생cheese, cheese는"}'
    file.write_text(said, "utf-8")
    receipt = forgetting.forget(memory, [id_])
    assert receipt.clean and receipt.files == (file.name,)
    changed = file.read_text("utf-8")
    assert "cheesecake" in changed and "생cheese" in changed
    assert "\\nxxxxxx," in changed and "xxxxxx는" in changed


def test_a_file_that_cannot_be_changed_is_named(memory: Memory) -> None:
    id_ = secret(memory)
    (folder(memory) / "zanzibarquux.txt").write_text("empty", "utf-8")
    (folder(memory) / "copy.db").write_text(SECRET, "utf-8")
    receipt = forgetting.forget(memory, [id_])
    assert {remnant.file for remnant in receipt.remains} == {"zanzibarquux.txt", "copy.db"}


def test_a_long_text_is_found_in_pieces(memory: Memory) -> None:
    """The database splits it over pages, and JSON escapes its quotes and ends of lines."""
    long = "\n".join(f'word{n}xyz said "thing{n}" to nobody.' for n in range(2000))
    (id_,) = tell(memory, [long])
    plan = forgetting.plan(memory, [id_])
    assert plan.files == ()
    receipt = forgetting.forget(memory, [id_])
    assert receipt.clean and receipt.before > 2000


def large(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> int:
    """A memory with an index file, in which the secret lies apart from all others."""
    monkeypatch.setattr(store, "EXACT", 20)
    tell(memory)
    id_ = secret(memory)
    memory.catch_up(lambda *_: None)
    assert list(files.folder(memory.log).glob("*.codes"))
    return id_


def test_index_files_lose_codes_and_centroids(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_ = large(memory, monkeypatch)
    receipt = forgetting.forget(memory, [id_])
    assert receipt.clean
    codes = forgetting._codes(memory, [id_])
    assert codes == {}
    memory.catch_up(lambda *_: None)
    assert memory.verify().sound


def test_a_centroid_that_is_a_vector_gives_the_file_up(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_ = large(memory, monkeypatch)
    (before,) = files.folder(memory.log).glob("*.codes")
    monkeypatch.setattr("memory.codes.Codes.nearest_centroid", lambda self, rows: np.ones(1))
    assert forgetting.forget(memory, [id_]).clean
    assert not before.exists()


# -- a receipt of a broken program says so --------------------------------------------------------


def left_in(receipt: forgetting.Receipt) -> set[tuple[str, str]]:
    return {(remnant.file, remnant.kind) for remnant in receipt.remains}


def test_a_log_that_is_never_emptied_is_found(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_ = secret(memory)
    monkeypatch.setattr(Memory, "_scrub", lambda self: None)
    found = left_in(forgetting.forget(memory, [id_]))
    assert {("chatbot.db-wal", kind) for kind in ("text", "word", "vector")} <= found


def careless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Memory:
    """A memory that doesn't overwrite what it deletes."""

    def configure(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA secure_delete = OFF")

    monkeypatch.setattr(schema, "_configure", configure)
    memory = Memory(tmp_path / "home" / "chatbot.db", Drawn)
    tell(memory)
    return memory


def test_free_pages_that_are_not_overwritten_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Memory, "rewrite", lambda self: None)
    memory = careless(tmp_path, monkeypatch)
    found = left_in(forgetting.forget(memory, [secret(memory)]))
    assert ("chatbot.db", "text") in found or ("chatbot.db", "word") in found


def test_what_is_left_in_a_page_goes_when_the_database_is_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = careless(tmp_path, monkeypatch)
    assert forgetting.forget(memory, [secret(memory)]).clean
    assert memory.verify().sound


def test_an_index_of_words_that_keeps_them_is_found(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(memory)
    id_ = secret(memory)
    monkeypatch.setattr("memory.words.remove", lambda *_, **__: None)
    found = left_in(forgetting.forget(memory, [id_]))
    assert ("the word index", "token") in found


def test_a_code_that_stays_is_found(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    id_ = large(memory, monkeypatch)
    monkeypatch.setattr("memory.codes.Codes.nearest_centroid", lambda self, rows: np.zeros(1))
    monkeypatch.setattr(files, "settle", lambda log: None)
    ((file, kind),) = left_in(forgetting.forget(memory, [id_]))
    assert file.startswith("index") and file.endswith(".codes") and kind == "vector"


def test_a_title_that_stays_is_found(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = tell(memory)
    id_ = secret(memory)
    memory.log.rename(memory.log.turn(ids[0]).conversation, SECRET)
    whole = Memory.forget
    monkeypatch.setattr(Memory, "forget", lambda self, wanted, quotes: whole(self, wanted))
    receipt = forgetting.forget(memory, [id_])
    assert ("chatbot.db", "text") in left_in(receipt)


def test_vectors_that_stay_are_found(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    id_ = secret(memory)
    with memory.log.reading() as connection:
        blobs = list(connection.scalars(sa.select(vectors.c.vector)))
    (folder(memory) / "backup.db").write_bytes(b"".join(blobs))
    assert left_in(forgetting.forget(memory, [id_])) == {("backup.db", "vector")}


# -- looking for bytes ----------------------------------------------------------------------------


def test_pieces_are_found_wherever_they_lie(tmp_path: Path) -> None:
    """At any offset, across the blocks in which files are read, as often as they are there."""
    wanted = [b"abcdefgh", b"\x00\x01\x02\x03\x04\x05\x06"]
    places = [0, 1, 2, 3, traces.BLOCK - 5, traces.BLOCK + 7, 2 * traces.BLOCK - 1]
    for piece in wanted:
        for at in places:
            data = bytearray(2 * traces.BLOCK + 100)
            data[at : at + len(piece)] = piece
            (tmp_path / "file").write_bytes(data)
            (find,) = traces.scan(tmp_path, wanted).finds
            assert (find.file, find.piece, find.places) == ("file", piece, 1), at


def test_a_text_is_looked_for_as_programs_write_it(tmp_path: Path) -> None:
    said = Traces(frozenset(["내 고양이 이름은 모모야"]))
    for number, form in enumerate(sorted(traces._encoded("내 고양이 이름은 모모야"))):
        (tmp_path / str(number)).write_bytes(b"-" + form + b"-")
    found = traces.scan(tmp_path, traces.pieces(said))
    assert {find.file for find in found.finds} == {"0", "1", "2", "3"}
    assert found.files == 4 and found.unread == ()


def test_reading_the_database_keeps_its_locks(memory: Memory) -> None:
    """To close a database file drops the locks of the process that does it: another must."""
    secret(memory)
    code = (
        "import sqlite3, sys\nsqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN IMMEDIATE')\n"
    )
    other = [sys.executable, "-c", code, str(folder(memory) / "chatbot.db")]
    with memory.log.writing() as connection:
        connection.exec_driver_sql("UPDATE turns SET text = text")
        assert traces.scan(folder(memory), [b"zanzibarquux"]).finds
        tried = subprocess.run(other, capture_output=True, text=True, check=False)
    assert tried.returncode == 1 and "locked" in tried.stderr


def test_a_memory_without_a_file_forgets_too() -> None:
    memory = Memory(None, Drawn)  # type: ignore[arg-type]
    assert isinstance(memory.log, Log)
    receipt = forgetting.forget(memory, [secret(memory)])
    assert receipt.turns == 1 and receipt.clean and memory.log.turns() == []
