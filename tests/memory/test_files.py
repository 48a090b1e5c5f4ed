"""The approximate index: the handover, and what may happen to its file."""

import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from filelock import FileLock

from memory import files, nearest, store, within
from memory.codes import Codes
from memory.interaction import nearness
from memory.log import Log
from memory.schema import dropped, embedders, turns, vectors
from memory.store import Memory
from memory.vectors import from_bytes, pack
from tests.stand_ins import WordEmbedder

NOW = datetime(2026, 11, 22, tzinfo=UTC)
SOME = "red green blue fox dog cat tea milk bread lake hill road sun rain snow wind".split()


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a memory shall be, whose index is handed over to a file at 100 vectors."""
    monkeypatch.setattr(store, "EXACT", 100)
    monkeypatch.setattr(store, "AT_ONCE", 2000)
    monkeypatch.setattr(nearest, "SMALL", 10)
    return tmp_path / "home" / "chatbot.db"


@pytest.fixture
def large(path: Path) -> Iterator[Memory]:
    memory = Memory(path, WordEmbedder)
    tell(memory, 120)
    memory.catch_up(seen := Seen())
    assert seen.built
    yield memory
    memory.close()


class Seen:
    """Progress that remembers, and may stop what it is told of."""

    def __init__(self, stop: str = "") -> None:
        self.told: list[tuple[str, int, int]] = []
        self._stop = stop

    def __call__(self, what: str, done: int, total: int) -> None:
        self.told.append((what, done, total))
        if what == self._stop:
            raise KeyboardInterrupt

    @property
    def built(self) -> bool:
        return any(what == "building the index" for what, _, _ in self.told)


def tell(memory: Memory, count: int, start: int = 0) -> None:
    """Turns of four words, in conversations of 20, an hour apart."""
    for number in range(start, start + count):
        rng = np.random.default_rng(number)
        if number % 20 == 0:
            conversation = None
        text = " ".join([*rng.choice(SOME, 4), f"note{number}"])
        at = NOW + timedelta(hours=number - 5000)
        turn = memory.remember("user", text, conversation=conversation, at=at)
        conversation = turn.conversation


def exact(memory: Memory, query: str, k: int, among: set[int] | None = None) -> list[float]:
    """The cosines of the k nearest stored vectors, best first."""
    with memory.log.reading() as connection:
        rows = connection.execute(sa.select(vectors.c.turn, vectors.c.vector)).all()
    blobs = [blob for turn, blob in rows if among is None or turn in among]
    cosines = from_bytes(blobs, WordEmbedder.dimension) @ memory.embedder.embed([query])[0]
    return sorted(cosines.tolist(), reverse=True)[:k]


def nearest_of(memory: Memory, query: str, k: int, scope: object = None) -> list[float]:
    index = memory.vectors
    with memory.log.reading() as connection:
        among = None if scope is None else within.within(connection, scope)  # type: ignore[arg-type]
        return index.search(memory.embedder.embed([query])[0], k, among)[2].tolist()


def in_folder(memory: Memory) -> set[str]:
    return {one.name for one in files.folder(memory.log).iterdir()} - {"build.lock"}


def test_what_is_found_through_the_file_is_what_exact_search_finds(large: Memory) -> None:
    assert len(large.vectors.recent) == 0 and len(large.vectors) == 240
    for query in ("red fox", "tea milk bread", "rain on the lake", "note77"):
        assert nearest_of(large, query, 10) == pytest.approx(exact(large, query, 10), abs=1e-5)
    assert [hit.turn.text.split()[-1] for hit in large.recall("note77", k=1)] == ["note77"]
    assert large.vectors.turns == set(range(1, 121))


def test_the_parts_of_some_turns_are_read_with_their_tokens(large: Memory) -> None:
    with large.log.reading() as connection:
        own, tokens = large.vectors.stored.parts(connection, [9, 8, 777])
        assert large.vectors.stored.parts(connection, []) == ({}, {})
    assert own.keys() == tokens.keys() == {8, 9}
    asked = large.embedder.read(["note7"])[0]
    assert own[8].shape == (2, WordEmbedder.dimension)
    assert (own[8] @ asked.vector).max() == pytest.approx(exact(large, "note7", 1, {8})[0])
    # The speaker's name, four words and the note's: said once, though there are two parts.
    assert len(tokens[8]) == len(tokens[9]) == 6 * WordEmbedder.dimension // 8
    near = nearness(asked.tokens, [tokens[8], tokens[9]])[:, 0]
    assert near[0] > 0.8 > near[1]  # turn 8 says note7


def test_vectors_of_another_embedder_are_no_parts(large: Memory) -> None:
    other = Memory(large.log.path, lambda: WordEmbedder("words@2"))
    stored = other.vectors.stored
    with large.log.writing() as connection:
        connection.execute(vectors.update().where(vectors.c.turn == 8).values(embedder=1))
        own, tokens = stored.parts(connection, [8, 9])
    assert own.keys() == tokens.keys() == {9}
    other.close()


def test_the_file_is_private(large: Memory) -> None:
    folder = files.folder(large.log)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for name in in_folder(large):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600


def test_a_file_is_built_only_where_somebody_sees_it_or_nothing_works_without(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Memory(path, WordEmbedder)
    tell(memory, 40)
    memory.catch_up(seen := Seen())
    assert not seen.built and memory.backlog() == 0  # 80 vectors are few
    tell(memory, 20, start=40)
    assert memory.recall("note50", k=1) and not (path.parent / "index").exists()
    assert memory.backlog() > 100
    monkeypatch.setattr(store, "AT_ONCE", 110)
    tell(memory, 1, start=60)
    assert memory.recall("note60", k=1) and len(in_folder(memory)) == 1
    assert memory.backlog() == 0
    memory.close()


def test_later_turns_are_found_beside_the_file_until_there_are_enough_for_a_new_one(
    large: Memory,
) -> None:
    before = in_folder(large)
    tell(large, 40, start=120)
    large.catch_up(seen := Seen())
    assert not seen.built and len(large.vectors.recent) == 80
    for query in ("red fox", "note130", "note30"):
        assert nearest_of(large, query, 10) == pytest.approx(exact(large, query, 10), abs=1e-5)
    tell(large, 20, start=160)
    large.catch_up(seen)
    assert seen.built and len(large.vectors.recent) == 0 and len(large.vectors) == 360
    assert len(in_folder(large)) == 1 and not in_folder(large) & before


def test_an_interrupted_build_leaves_the_old_file_and_nothing_else(large: Memory) -> None:
    before = in_folder(large)
    (files.folder(large.log) / "0123.part").write_bytes(b"of a killed process")
    tell(large, 60, start=120)
    with pytest.raises(KeyboardInterrupt):
        large.catch_up(Seen(stop="building the index"))
    assert in_folder(large) == before
    for query in ("red fox", "note130"):
        assert nearest_of(large, query, 10) == pytest.approx(exact(large, query, 10), abs=1e-5)
    large.catch_up(seen := Seen())
    assert seen.built and len(in_folder(large)) == 1


def test_another_process_may_build_while_this_one_has_the_old_file(large: Memory) -> None:
    before = in_folder(large)
    tell(large, 60, start=120)
    assert nearest_of(large, "red fox", 5) and len(large.vectors.recent) == 120
    code = (
        "import sys, pathlib\n"
        "from memory import store\n"
        "from tests.stand_ins import WordEmbedder\n"
        "store.EXACT = 100\n"
        "other = store.Memory(pathlib.Path(sys.argv[1]), WordEmbedder)\n"
        "other.forget([7])\n"
        "other.catch_up(lambda *_: None)\n"
        "other.close()\n"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code, str(large.log.path)], check=True, cwd=root)
    assert len(in_folder(large)) == 1 and not in_folder(large) & before
    assert len(large.vectors.recent) == 0
    assert 7 not in large.vectors.turns
    assert nearest_of(large, "red fox", 10) == pytest.approx(exact(large, "red fox", 10), abs=1e-5)


def test_what_is_dropped_while_another_blanks_is_blanked_later(
    large: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    blank = files._blank

    def interrupted(log: Log, gone: Sequence[int]) -> None:
        blank(log, gone)
        monkeypatch.setattr(files, "_blank", blank)
        other = Memory(large.log.path, WordEmbedder)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(files, "settle", lambda _: None)  # it comes to that later
            other.forget([60])
        other.close()

    monkeypatch.setattr(files, "_blank", interrupted)
    large.forget([50])
    large.catch_up()
    large.catch_up()
    assert large.verify(repair=False).sound
    assert {50, 60}.isdisjoint(large.vectors.turns)


def test_a_forgotten_turn_leaves_no_code_in_the_file(large: Memory) -> None:
    (name,) = in_folder(large)
    file = files.folder(large.log) / name
    codes = Codes(file)
    ids = pack(np.array([50]), np.array([0]))
    untouched = file.read_bytes()
    large.forget([50])
    changed = file.read_bytes()
    assert len(changed) == len(untouched)
    # Two vectors of the turn, and one each of the two that were embedded with it.
    assert len(codes.ids()) == 240 - 2 - 2 * 2 and not np.isin(codes.ids(), ids).any()
    assert untouched.count(ids.tobytes()) == 1 and changed.count(ids.tobytes()) == 0
    differing = np.frombuffer(untouched, np.uint8) != np.frombuffer(changed, np.uint8)
    assert set(np.frombuffer(changed, np.uint8)[differing]) <= {0, 255}
    assert differing.sum() > 6 * 8  # the codes, not the ids alone
    standing = codes.ids()
    for text in ("red fox", "tea with milk"):  # what is blanked takes no one's place
        found = Codes(file).search(large.embedder.embed([text])[0], len(standing))
        assert sorted(found.tolist()) == sorted(standing.tolist())
    assert exact(large, "note50", 1) == pytest.approx(nearest_of(large, "note50", 1), abs=1e-5)
    assert large.vectors.turns == set(range(1, 121)) - {50}
    assert large.verify(repair=False).sound
    with large.log.reading() as connection:
        assert connection.execute(sa.select(dropped)).all() == []


def test_what_is_forgotten_during_a_build_is_blanked_in_the_new_file(large: Memory) -> None:
    tell(large, 60, start=120)
    other = Memory(large.log.path, WordEmbedder)

    def forget(what: str, done: int, total: int) -> None:
        if what == "building the index" and done == total:
            other.forget([50])

    large.catch_up(forget)
    assert 50 not in large.vectors.turns and large.verify(repair=False).sound
    other.close()


def test_while_another_process_builds_the_dropped_stay_on_the_list(large: Memory) -> None:
    lock = FileLock(files.folder(large.log) / "build.lock")
    with lock:
        large.forget([50])
        assert 50 not in large.vectors.turns
        with large.log.reading() as connection:
            assert 50 in connection.scalars(sa.select(dropped.c.turn)).all()
    large.log.retract([60])
    large.catch_up()
    with large.log.reading() as connection:
        assert connection.execute(sa.select(dropped)).all() == []
    assert {50, 60}.isdisjoint(large.vectors.turns)


@pytest.mark.parametrize("listed", [1000, 30])
def test_scopes_of_any_size_never_starve(
    large: Memory, monkeypatch: pytest.MonkeyPatch, listed: int
) -> None:
    monkeypatch.setattr(within, "LISTED", listed)
    monkeypatch.setattr(nearest, "FEWEST", 1)
    monkeypatch.setattr(nearest, "PROPOSED", 10)
    for least, most in ((1, 6), (21, 60), (100, 110), (115, 120)):
        scope = sa.select(turns.c.id).where(turns.c.id.between(least, most))
        inside = set(range(least, most + 1))
        for query in ("red fox", "note3"):
            found = nearest_of(large, query, 8, scope)
            assert found == pytest.approx(exact(large, query, 8, inside), abs=1e-5)
    (hit, *_) = large.recall("note100 red fox", k=5, scope=[2], now=NOW)
    assert hit.turn.conversation == 2


def test_vectors_of_another_embedder_get_a_file_of_their_own(large: Memory) -> None:
    before = in_folder(large)
    other = Memory(large.log.path, lambda: WordEmbedder("words@2"))
    other.catch_up(seen := Seen())
    assert seen.built and not in_folder(other) & before and len(in_folder(other)) == 1
    assert nearest_of(other, "red fox", 5) == pytest.approx(exact(other, "red fox", 5), abs=1e-5)
    assert other.verify(repair=False).sound
    other.close()


@pytest.mark.parametrize("harm", ["missing", "damaged", "another dimension"])
def test_a_file_that_cannot_be_used_is_not_and_is_built_anew(large: Memory, harm: str) -> None:
    (name,) = in_folder(large)
    file = files.folder(large.log) / name
    if harm == "missing":
        shutil.rmtree(file.parent)
    elif harm == "damaged":
        file.write_bytes(b"no index")
    else:
        import faiss

        faiss.write_index(faiss.index_factory(8, "Flat"), str(file))
    again = Memory(large.log.path, WordEmbedder)
    assert nearest_of(again, "red fox", 5) == pytest.approx(exact(again, "red fox", 5), abs=1e-5)
    again.catch_up(seen := Seen())
    assert seen.built and len(again.vectors.recent) == 0
    again.close()


@pytest.mark.parametrize("harm", ["cut", "emptied"])
def test_forgetting_with_a_broken_file_lets_go_of_it(large: Memory, harm: str) -> None:
    (name,) = in_folder(large)
    file = files.folder(large.log) / name
    data = file.read_bytes()
    again = Memory(large.log.path, WordEmbedder)
    file.write_bytes(data[: len(data) // 2] if harm == "cut" else b"")
    assert again.forget([3]) == 1
    assert name not in in_folder(again)
    assert nearest_of(again, "red fox", 5) == pytest.approx(exact(again, "red fox", 5), abs=1e-5)
    again.close()


def test_verify_and_stats_know_the_file(large: Memory) -> None:
    (name,) = in_folder(large)
    file = files.folder(large.log) / name
    assert large.stats()["index_bytes"] == file.stat().st_size
    Codes(file).blank(pack(np.array([3, 4]), np.array([0, 0])))
    with large.log.writing() as connection:
        connection.execute(vectors.delete().where(vectors.c.turn == 9))
    report = large.verify(repair=False)
    assert (report.file_missing, report.file_orphaned, report.vectors_missing) == (2, 2, 1)
    assert large.verify().repaired and large.verify(repair=False).sound


def test_opening_looks_at_few_rows(large: Memory) -> None:
    """The mark stands for the turns before it; a look at some of them tells when it is wrong."""
    again = Memory(large.log.path, WordEmbedder)
    assert again.catch_up() == 0
    with again.log.reading() as connection:
        assert connection.scalar(sa.select(embedders.c.indexed)) == 120
    again.close()
    for cache in ("vectors", "words"):
        with large.log.writing() as connection:
            connection.exec_driver_sql(f"DELETE FROM {cache}")
        opened = Memory(large.log.path, WordEmbedder)
        assert opened.catch_up() == 120
        assert opened.verify(repair=cache == "vectors").turns == 120
        opened.close()
