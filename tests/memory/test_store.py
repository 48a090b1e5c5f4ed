"""Memory: remembering, recalling, forgetting, and caches that agree with the log."""

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from memory import store, words
from memory.embed import Reading, SentenceEmbedder
from memory.errors import UnknownConversation, UnknownTurn, WordsDamaged
from memory.schema import counters, embedders, vectors
from memory.store import Memory
from memory.types import Hit
from memory.vectors import Vectors, from_bytes
from tests.stand_ins import WordEmbedder

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)

FACTS = (
    "My dog is called Biscuit.",
    "I am allergic to shellfish, so no prawns for me.",
    "My sister Clara moved to Lisbon in spring.",
    "The locker code at the gym is 4417.",
    "I play the cello in an amateur orchestra.",
    "내 고양이 이름은 모모야.",
    "다음 달에 부산으로 이사해.",
    "The weather has been dreadful all week.",
    "Can you explain how bread rises?",
    "I had soup for lunch again.",
)


def tell(memory: Memory, texts: Sequence[str] = FACTS, days: float = 1) -> list[int]:
    """Each text in a conversation of its own, `days` apart, the last one a day ago."""
    ids = []
    for place, text in enumerate(texts):
        at = NOW - timedelta(days=1 + days * (len(texts) - 1 - place))
        ids.append(memory.remember("user", text, at=at).id)
    return ids


def best(memory: Memory, query: str, **options: object) -> str:
    return memory.recall(query, now=NOW, **options)[0].turn.text  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("query", "fact"),
    [
        ("What is the name of my pet dog?", "Biscuit"),
        ("Which foods must I avoid?", "shellfish"),
        ("Where does Clara live?", "Lisbon"),
        ("What's my locker code?", "4417"),
        ("Which instrument do I play?", "cello"),
        ("고양이 이름이 뭐였지?", "모모"),
        ("내가 어디로 이사한다고 했지?", "부산"),
    ],
)
def test_facts_are_found_in_other_words(memory: Memory, query: str, fact: str) -> None:
    tell(memory)
    assert fact in best(memory, query)


def test_a_hit_explains_its_score(memory: Memory) -> None:
    tell(memory)
    hits = memory.recall("What is my dog called?", k=4, now=NOW)
    assert len(hits) == 4
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    for hit in hits:
        odds = sum(hit.parts.values())
        assert hit.score == pytest.approx(1 / (1 + np.exp(-odds)))
        assert 0 < hit.score < 1
        own = memory.embedder.embed(["What is my dog called?", hit.turn.text])
        assert hit.dense >= float(own[0] @ own[1]) - 2e-3  # float16 is stored
    assert hits[0].lexical > 0 and hits[0].turn.text == FACTS[0]


def test_nothing_relevant_is_nothing_given(memory: Memory) -> None:
    tell(memory)
    assert memory.relevant("How do I sharpen the blade of a jigsaw?", now=NOW) == []
    assert memory.relevant("What is my dog called?", now=NOW)[0].turn.text == FACTS[0]


@pytest.mark.parametrize(
    ("told", "asked", "chat"),
    [
        (
            "I sold the old Volvo for 20,000 kroner.",
            "How much did I get for the car?",
            "hello again",
        ),
        ("I work as a nurse.", "What do I do for a living?", "What a lovely day!"),
        ("지훈이는 간호사야", "지훈이는 무슨 일을 하지?", "오늘 진짜 피곤하다"),
    ],
)
def test_a_young_memory_answers_in_other_words_and_keeps_out_of_small_talk(
    memory: Memory, told: str, asked: str, chat: str
) -> None:
    tell(memory, [told])
    assert [hit.turn.text for hit in memory.relevant(asked)] == [told]
    assert memory.relevant(chat) == []


def test_an_empty_memory_and_an_empty_query_find_nothing(memory: Memory) -> None:
    assert memory.recall("anything") == []
    tell(memory)
    assert memory.recall("  ") == []


def test_scope_and_time_apply_before_the_search(memory: Memory) -> None:
    ids = tell(memory, ["the red fox", *(f"the blue fox is here, {n}" for n in range(400))])
    turn = memory.log.turn(ids[0])
    for found in (
        memory.recall("the blue fox", scope=[turn.conversation], now=NOW),
        memory.recall("the blue fox", until=turn.at + timedelta(minutes=1), now=NOW),
        memory.recall("the blue fox", since=turn.at, until=turn.at + timedelta(hours=1), now=NOW),
        memory.recall("the blue fox", k=500, exclude=ids[1:], now=NOW),
    ):
        assert [hit.turn.id for hit in found] == [ids[0]]
    assert memory.recall("fox", scope=[], now=NOW) == []
    assert memory.recall("fox", since=NOW, now=NOW) == []


def test_a_bare_answer_is_found_by_its_question(memory: Memory) -> None:
    for text in ("How are you?", "Fine, thanks."):
        memory.remember("user", text)
    asked = memory.remember("user", "When did you go to the opera?")
    memory.remember("assistant", "Last Thursday!", conversation=asked.conversation)
    hits = memory.recall("when was the visit to the opera", k=3)
    assert "Last Thursday!" in [hit.turn.text for hit in hits]


def test_the_same_said_again_is_one_hit_the_newest(memory: Memory) -> None:
    ids = tell(memory, ["I like green tea."] * 5 + ["I bought a kettle."])
    hits = memory.recall("Which tea do I like?", now=NOW)
    assert [hit.turn.id for hit in hits if "green tea" in hit.turn.text] == [ids[4]]


def test_another_process_sees_new_turns_on_its_next_recall(memory: Memory) -> None:
    tell(memory)
    assert "Biscuit" in best(memory, "What is my dog called?")
    code = (
        "import sys, pathlib, memory.log as m, datetime as d\n"
        "log = m.Log(pathlib.Path(sys.argv[1]))\n"
        "log.append(None, 'user', 'The wifi password is tangerine.', speaker='user',"
        " at=d.datetime.now(d.UTC))\n"
    )
    subprocess.run([sys.executable, "-c", code, str(memory.log.path)], check=True)
    assert "tangerine" in best(memory, "what is the wifi password")


def test_what_another_process_forgets_is_found_no_more(
    memory: Memory, embedder: SentenceEmbedder
) -> None:
    ids = tell(memory)
    assert "Biscuit" in best(memory, "What is my dog called?")
    other = Memory(memory.log.path, lambda: embedder)  # type: ignore[arg-type]
    other.forget([ids[0]])
    other.log.retract([ids[1]])
    other.close()
    texts = [hit.turn.text for hit in memory.recall("dog shellfish", k=100, now=NOW)]
    assert FACTS[0] not in texts and FACTS[1] not in texts
    assert memory.vectors.turns == set(ids[2:])


def test_forgetting_leaves_no_trace_in_the_files(memory: Memory) -> None:
    ids = tell(memory, [*FACTS, "The canary word is zanzibarquux."])
    hit = memory.recall("canary word", now=NOW)[0]
    reply = memory.remember("assistant", "I see.", used=[hit])
    assert memory.log.recalled(reply.id) == [hit]
    assert memory.forget([ids[-1]]) == 1
    assert memory.log.recalled(reply.id) == []
    folder = Path(str(memory.log.path)).parent
    memory.close()
    for file in folder.iterdir():
        assert b"zanzibarquux" not in file.read_bytes(), file


def test_unknown_ids_forget_nothing(memory: Memory) -> None:
    ids = tell(memory)
    with pytest.raises(UnknownTurn, match="999"):
        memory.forget([ids[0], 999])
    assert len(memory.log.turns()) == len(FACTS)
    with pytest.raises(UnknownConversation, match="999"):
        memory.forget_conversation(999)


def test_a_conversation_is_forgotten_whole(memory: Memory) -> None:
    first = memory.remember("user", "one")
    memory.remember("user", "two", conversation=first.conversation)
    memory.remember("user", "three")
    assert memory.forget_conversation(first.conversation) == 2
    assert [turn.text for turn in memory.log.turns()] == ["three"]
    assert len(memory.log.conversations()) == 1


# Times in the query

WEDNESDAY = datetime(2026, 11, 18, 12, tzinfo=UTC)
FOOD = ("leeks", "beans", "peas", "carrots", "lentils", "beets", "chard", "corn")


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("What did I cook last week?", "I cooked a stew with {}."),
        ("지난주에 내가 무슨 요리를 했지?", "오늘은 {} 요리를 했어."),
    ],
)
def test_of_equals_the_turn_of_the_time_that_is_named_comes_first(
    memory: Memory, query: str, text: str
) -> None:
    said = [WEDNESDAY - timedelta(weeks=weeks) for weeks in range(1, len(FOOD) + 1)]
    ids = tell_all(memory, [text.format(one) for one in FOOD], said)
    tell(memory)  # and more than as many other turns
    for weeks in (0, 3, 6):
        first = memory.recall(query, now=WEDNESDAY - timedelta(weeks=weeks))[0]
        assert first.turn.id == ids[weeks]


@pytest.mark.parametrize("query", ["What did I cook last week?", "지난주에 내가 뭘 요리했지?"])
def test_the_time_that_is_named_is_searched_apart(memory: Memory, query: str) -> None:
    """What was said then is found though far more of the same was said before."""
    dinners = [f"I cooked dinner number {n} 요리했어." for n in range(300)]
    tell_all(memory, dinners, [WEDNESDAY - timedelta(days=40 + n) for n in range(300)])
    said = [WEDNESDAY - timedelta(weeks=1), WEDNESDAY - timedelta(weeks=4)]
    then, before = tell_all(memory, ["Tacos!", "Soup!"], said)
    found = [hit.turn.id for hit in memory.recall(query, k=1000, now=WEDNESDAY)]
    assert then in found and before not in found


def test_turns_in_the_window_leave_room_for_others_of_the_time(memory: Memory) -> None:
    dinners = [f"I cooked dinner number {n}." for n in range(300)]
    tell_all(memory, dinners, [WEDNESDAY - timedelta(days=40 + n) for n in range(300)])
    shown = [f"What did I cook today, take {n}?" for n in range(60)]
    ids = tell_all(memory, shown, [WEDNESDAY] * 60)
    (then,) = tell_all(memory, ["Tacos!"], [WEDNESDAY])
    hits = memory.recall("What did I cook today?", k=1000, exclude=ids, now=WEDNESDAY)
    assert then in [hit.turn.id for hit in hits]


def tell_all(memory: Memory, texts: Sequence[str], times: Sequence[datetime]) -> list[int]:
    """Each text in a conversation of its own."""
    both = zip(texts, times, strict=True)
    return [memory.remember("user", text, at=at).id for text, at in both]


# The caches


def test_words_of_an_older_version_are_made_anew(
    memory: Memory, embedder: SentenceEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = tell(memory)
    memory.catch_up()
    assert words_version(memory) == words.TOKENS_VERSION
    with monkeypatch.context() as newer:
        newer.setattr(words, "TOKENS_VERSION", words.TOKENS_VERSION + 1)
        newer.setattr(words, "tokenize", lambda text: ["xylophone"])
        counting = Counting(embedder)
        again = Memory(memory.log.path, lambda: counting)  # type: ignore[arg-type]
        assert again.catch_up() == len(ids)  # looked at, though nothing is embedded
        assert counting.texts == []
        assert found_by(again, "xylophone") == sorted(ids, reverse=True)[:10]
        assert words_version(again) == words.TOKENS_VERSION
        assert again.verify(repair=False).sound and again.catch_up() == 0
        again.close()
    back = Memory(memory.log.path, lambda: embedder)
    back.catch_up()
    assert found_by(back, "xylophone") == [] and found_by(back, "locker") == [ids[3]]
    back.close()


def test_words_of_this_version_are_kept(memory: Memory, embedder: SentenceEmbedder) -> None:
    tell(memory)
    memory.catch_up()
    with memory.log.writing() as connection:
        connection.exec_driver_sql("INSERT INTO words (rowid, tokens) VALUES (999, 'stray')")
    again = Memory(memory.log.path, lambda: embedder)
    assert again.catch_up() == 0
    assert found_by(again, "stray") == [999]
    again.close()


def words_version(memory: Memory) -> int | None:
    with memory.log.reading() as connection:
        return connection.scalar(sa.select(counters.c.value).where(counters.c.name == "words"))


def found_by(memory: Memory, query: str) -> list[int]:
    with memory.log.reading() as connection:
        return [turn for turn, _ in words.search(connection, query).best(10)]


def test_the_codes_of_a_turns_own_tokens_are_stored_once(memory: Memory) -> None:
    first = memory.remember("user", "My dog is called Biscuit.", at=NOW)
    memory.remember("user", "Is it?", conversation=first.conversation, at=NOW)
    memory.remember("user", "otter " * 500, conversation=first.conversation, at=NOW)
    memory.catch_up()
    query = sa.select(vectors.c.turn, vectors.c.part, sa.func.length(vectors.c.tokens))
    with memory.log.reading() as connection:
        stored = {(turn, part): size for turn, part, size in connection.execute(query)}
    reading = memory.embedder.read(["user: Is it?"])[0]
    assert stored[2, 1] == len(reading.tokens) * memory.embedder.dimension // 8
    assert [key for key, size in stored.items() if size is None] == [(1, 0), (2, 0)]
    assert stored.keys() == {(1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2)}


def state(memory: Memory, query: str) -> list[tuple[int, float]]:
    return [(hit.turn.id, round(hit.score, 9)) for hit in memory.recall(query, k=50, now=NOW)]


def test_caches_that_are_deleted_are_made_anew_and_nothing_is_embedded_twice(
    memory: Memory, embedder: SentenceEmbedder
) -> None:
    tell(memory)
    memory.catch_up()  # in one batch: those of another size are padded, and round, otherwise
    before = state(memory, "dog and cello")
    with memory.log.writing() as connection:
        connection.exec_driver_sql("DELETE FROM words")
    counting = Counting(embedder)
    again = Memory(memory.log.path, lambda: counting)  # type: ignore[arg-type]
    assert state(again, "dog and cello") == before
    counting.texts.clear()
    again.rebuild()
    assert counting.texts == []
    with again.log.writing() as connection:
        connection.execute(vectors.delete())
    report = again.verify()
    assert report.vectors_missing == len(FACTS) and report.repaired
    assert state(again, "dog and cello") == before
    assert again.verify().sound
    again.close()


class Counting:
    """The embedder, with an id of its own if wanted, and a list of what it was given."""

    def __init__(self, inner: SentenceEmbedder, id_: str | None = None) -> None:
        self.inner, self.id, self.dimension = inner, id_ or inner.id, inner.dimension
        self.texts: list[str] = []

    def embed(self, texts: Sequence[str]) -> Vectors:
        self.texts += texts
        return self.inner.embed(texts)

    def read(self, texts: Sequence[str]) -> list[Reading]:
        self.texts += texts
        return self.inner.read(texts)


def test_a_memory_of_an_older_version_waits_as_a_whole(memory: Memory) -> None:
    ids = tell(memory, FACTS)
    memory.catch_up()
    assert memory.backlog() == 0
    with memory.log.writing() as connection:  # as a migration leaves it
        connection.execute(embedders.update().values(indexed=0))
    assert memory.backlog() == len(ids)


def test_vectors_of_another_embedder_are_made_anew_before_they_are_searched(
    memory: Memory, embedder: SentenceEmbedder
) -> None:
    ids = tell(memory, [*FACTS, *(f"This is note {number}." for number in range(70))])
    memory.catch_up()
    assert memory.backlog() == 0
    other = Counting(embedder, "another@1")
    again = Memory(memory.log.path, lambda: other)  # type: ignore[arg-type]
    steps: list[tuple[str, int, int]] = []
    assert again.catch_up(lambda *step: steps.append(step)) == len(ids)
    assert steps[-1][1:] == (len(ids), len(ids))
    with again.log.reading() as connection:
        makers = set(connection.scalars(sa.select(embedders.c.name).join(vectors)))
    assert makers == {"another@1"}
    assert "Biscuit" in best(again, "What is my dog called?")
    again.close()


def test_verify_names_what_differs_and_mends_it(memory: Memory) -> None:
    ids = tell(memory)
    memory.catch_up()
    with memory.log.writing() as connection:
        connection.execute(vectors.delete().where(vectors.c.turn == ids[0]))
        connection.exec_driver_sql(f"DELETE FROM words WHERE rowid IN ({ids[1]}, {ids[2]})")
        connection.exec_driver_sql("INSERT INTO words (rowid, tokens) VALUES (999, 'stray')")
    looked = memory.verify(repair=False)
    assert (looked.vectors_missing, looked.words_missing, looked.words_orphaned) == (1, 2, 1)
    assert not looked.sound and not looked.repaired
    assert memory.verify(repair=False) == looked
    memory.verify()
    assert memory.verify().sound


def test_verify_reads_every_row_and_mends_what_is_wrong_in_it(memory: Memory) -> None:
    ids = tell(memory)
    memory.catch_up()
    before = stored_vectors(memory)
    with memory.log.writing() as connection:
        connection.exec_driver_sql(f"UPDATE words SET tokens = 'other' WHERE rowid = {ids[2]}")
        for turn, byte in ((ids[4], "00"), (ids[5], "7e")):  # zeros, and what is no number
            blob = f"x'{byte * 2 * memory.embedder.dimension}'"
            connection.exec_driver_sql(f"UPDATE vectors SET vector = {blob} WHERE turn = {turn}")
    looked = memory.verify(repair=False)
    assert (looked.words_wrong, looked.vectors_wrong, looked.words_missing) == (1, 2, 0)
    assert memory.verify().repaired and memory.verify(repair=False).sound
    after = stored_vectors(memory)  # in another batch, figures are rounded otherwise
    for one, other in zip(before, after, strict=True):
        close = np.frombuffer(one, dtype="<f2") @ np.frombuffer(other, dtype="<f2").astype("f4")
        assert close > 0.999


def test_an_interrupted_catch_up_goes_on(memory: Memory, embedder: SentenceEmbedder) -> None:
    tell(memory, [f"note number {n}" for n in range(150)])

    class Stopped(Exception):
        pass

    def stop(what: str, done: int, total: int) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        memory.catch_up(stop)
    counting = Counting(embedder)
    again = Memory(memory.log.path, lambda: counting)  # type: ignore[arg-type]
    assert 0 < again.catch_up() < 150
    assert again.verify().sound
    again.close()


def test_turns_of_whitespace_are_kept_but_not_indexed(memory: Memory) -> None:
    memory.remember("assistant", " \n")
    tell(memory)
    assert memory.catch_up() == len(FACTS)
    assert memory.verify().sound
    assert len(memory.log.turns()) == len(FACTS) + 1


def test_hits_can_be_shown_as_json(memory: Memory) -> None:
    tell(memory)
    (hit,) = memory.recall("cello", k=1)
    assert isinstance(hit, Hit)
    assert json.loads(json.dumps(dict(hit.parts))) == dict(hit.parts)


def test_what_was_embedded_with_a_forgotten_turn_is_embedded_anew(memory: Memory) -> None:
    first = memory.remember("user", "The canary word is zanzibarquux.", at=NOW)
    talk = first.conversation
    for text in ("I see.", "Yes, last week!", "Good."):
        memory.remember("user", text, conversation=talk, at=NOW)

    def stored() -> dict[tuple[int, int], Vectors]:
        memory.catch_up()
        with memory.log.reading() as connection:
            rows = connection.execute(sa.select(vectors.c.turn, vectors.c.part, vectors.c.vector))
            return {
                (turn, part): from_bytes([vector], memory.embedder.dimension)[0]
                for turn, part, vector in rows
            }

    before = stored()
    memory.forget([first.id])
    after = stored()
    changed = {key for key in after if after[key] @ before[key] < 0.999}
    assert changed == {(first.id + 1, 1), (first.id + 2, 1)}
    assert memory.verify().sound


def test_a_title_does_not_quote_what_was_forgotten(memory: Memory) -> None:
    first = memory.remember("user", "my secret is 42")
    memory.remember("user", "something else", conversation=first.conversation)
    memory.forget([first.id])
    assert memory.log.conversation(first.conversation).title == "something else"
    memory.log.rename(first.conversation, "kept")
    memory.remember("user", "more", conversation=first.conversation)
    memory.forget([first.id + 1])
    assert memory.log.conversation(first.conversation).title == "kept"


def test_a_vector_of_a_wrong_length_is_made_anew(
    memory: Memory, embedder: SentenceEmbedder
) -> None:
    ids = tell(memory)
    memory.catch_up()
    with memory.log.writing() as connection:
        connection.execute(vectors.update().where(vectors.c.turn == ids[0]).values(vector=b"xx"))
    assert memory.verify(repair=False).vectors_missing == 1
    again = Memory(memory.log.path, lambda: embedder)  # type: ignore[arg-type]
    assert "Biscuit" in best(again, "What is my dog called?")
    assert again.verify().sound
    again.close()


class Interrupting(WordEmbedder):
    """An embedder that lets something happen while it reads."""

    def __init__(self, meanwhile: Callable[[], object]) -> None:
        super().__init__()
        self._meanwhile = meanwhile

    def read(self, texts: Sequence[str]) -> list[Reading]:
        meanwhile, self._meanwhile = self._meanwhile, lambda: None
        meanwhile()
        return super().read(texts)


@contextmanager
def in_company(
    path: Path, meanwhile: Callable[[Memory], object] = Memory.catch_up
) -> Iterator[Memory]:
    """A memory; another process does something with it when this one embeds first."""
    other = Memory(path, WordEmbedder)
    memory = Memory(path, lambda: Interrupting(lambda: meanwhile(other)))
    with closing(memory), closing(other):
        yield memory


def test_what_is_forgotten_while_its_neighbour_is_embedded_leaves_nothing_in_it(
    tmp_path: Path,
) -> None:
    """A turn is embedded with those before it, which another process may forget meanwhile."""
    with in_company(tmp_path / "chatbot.db", lambda other: other.forget([first.id])) as memory:
        first = memory.remember("user", "my cat is Momo")
        second = memory.remember("user", "she likes milk", conversation=first.conversation)
        memory.catch_up()
        memory.catch_up()
        with closing(Memory(tmp_path / "alone" / "chatbot.db", WordEmbedder)) as alone:
            alone.remember("user", second.text)
            alone.catch_up()
            assert stored_vectors(memory) == stored_vectors(alone)
        assert memory.verify(repair=False).sound


def test_what_another_process_embeds_meanwhile_is_not_stored_again(tmp_path: Path) -> None:
    with in_company(tmp_path / "chatbot.db") as memory:
        tell(memory, FACTS[:3])
        memory.catch_up()
        with memory.log.reading() as connection:
            seqs = connection.scalars(sa.select(vectors.c.seq).order_by(vectors.c.seq)).all()
        assert seqs == list(range(1, len(seqs) + 1)) and len(seqs) >= 3
        assert memory.verify(repair=False).sound


def test_a_recall_leaves_to_another_process_what_that_is_indexing(tmp_path: Path) -> None:
    texts = [f"note{n} about the {n}th red fox" for n in range(200)]
    with in_company(tmp_path / "chatbot.db") as memory:
        tell(memory, texts)
        read: list[int] = []
        count = memory.embedder.read
        memory.embedder.read = lambda some: read.append(len(some)) or count(some)  # type: ignore[method-assign,func-returns-value]
        assert texts[150] in best(memory, "note150")
        assert sum(read) < 50
        assert memory.verify(repair=False).sound


def test_a_recall_goes_on_while_another_program_holds_the_write_lock(tmp_path: Path) -> None:
    path = tmp_path / "chatbot.db"
    memory = Memory(path, WordEmbedder)
    tell(memory, FACTS[:3])
    memory.catch_up()
    told = memory.remember("user", "note7 about the red fox")
    again = Memory(path, WordEmbedder)
    with closing(sqlite3.connect(path, isolation_level=None)) as held:
        held.execute("BEGIN IMMEDIATE")
        for one in (memory, again):
            assert FACTS[0] in best(one, "What is my dog called?")
        held.execute("ROLLBACK")
    for one in (memory, again):
        assert told.id in {hit.turn.id for hit in one.recall("note7", 10)}
        one.close()


def test_a_damaged_word_index_keeps_nothing_from_being_forgotten(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "chatbot.db", WordEmbedder)
    ids = tell(memory, FACTS)
    memory.catch_up()
    with memory.log.writing() as connection:
        connection.exec_driver_sql("UPDATE words_data SET block = x'00' WHERE id > 10")
    assert memory.forget(ids[:1]) == 1
    assert FACTS[0] not in best(memory, "What is my dog called?")
    assert memory.verify(repair=False).sound
    memory.close()


def test_a_word_index_that_could_not_be_opened_once_is_kept(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(memory, FACTS)
    memory.catch_up()
    search, failed = words.search, []

    def failing_once(*arguments: Any, **options: Any) -> Any:
        if not failed:
            failed.append(True)
            raise WordsDamaged("vtable constructor failed: words")
        return search(*arguments, **options)

    monkeypatch.setattr(words, "search", failing_once)
    monkeypatch.setattr(words, "clear", lambda _: pytest.fail("was emptied"))
    assert FACTS[0] in best(memory, "What is my dog called?")
    assert failed


def test_what_is_told_with_remember_is_given(memory: Memory) -> None:
    told = "Remember that my locker code is 4471."
    tell(memory, ["I went running in the park.", told, "The weather was nice today."])
    assert memory.relevant("What is my locker code?")[0].turn.text == told


def test_the_day_that_is_asked_for_is_found_among_others_that_say_the_same(memory: Memory) -> None:
    now = datetime(2026, 11, 24, 12, tzinfo=UTC)
    for days in (6, 5, 3, 2, 1):
        memory.remember("user", "I took my pills.", at=now - timedelta(days=days))
    best_ = memory.recall("Did I take my pills on 18 November?", now=now)[0].turn
    assert best_.at.day == 18
    assert memory.recall("Did I take my pills?", now=now)[0].turn.at.day == 23


def test_a_search_for_a_turns_own_words_finds_it(memory: Memory) -> None:
    tell(memory, FACTS)
    assert memory.recall(FACTS[0])[0].turn.text == FACTS[0]
    assert FACTS[0] not in [hit.turn.text for hit in memory.relevant(FACTS[0])]


def test_a_first_recall_waits_for_another_process_that_writes(tmp_path: Path) -> None:
    path = tmp_path / "chatbot.db"
    memory, other = Memory(path, WordEmbedder), Memory(path, WordEmbedder)
    tell(memory, FACTS)
    with ThreadPoolExecutor() as pool, other.log.writing():
        asked = pool.submit(memory.recall, FACTS[0])
        time.sleep(2 * store.WAIT)
        assert not asked.done()
    assert asked.result()
    memory.close()
    other.close()


def test_a_cache_that_another_process_emptied_is_filled_again(tmp_path: Path) -> None:
    path = tmp_path / "chatbot.db"
    memory, other = Memory(path, WordEmbedder), Memory(path, WordEmbedder)
    tell(memory, FACTS)
    assert memory.recall(FACTS[0])[0].lexical > 0
    with other.log.writing() as connection:  # as a rebuild begins, that is killed then
        words.clear(connection)
        store._start_over(connection)
    assert memory.recall(FACTS[0])[0].lexical > 0
    memory.close()
    other.close()


def stored_vectors(memory: Memory) -> list[bytes]:
    with memory.log.reading() as connection:
        query = "SELECT vector FROM vectors ORDER BY turn, part"
        return [blob for (blob,) in connection.exec_driver_sql(query)]
