"""Echo: what is recalled and restated, a thousand times, never takes the place of the memory."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from memory.embed import SentenceEmbedder
from memory.rank import Candidate, _restates
from memory.store import Memory
from memory.types import Hit, Turn
from memory.words import tokenize
from tests.memory.test_forgetting import OTHERS, Drawn

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
FACT = "My dog is called Biscuit."
ASKED = (
    "What is my dog called?",
    "How is my dog called?",
    "So what is my dog called?",
    "Tell me what my dog is called.",
)
SAID = (
    "Your dog is called Biscuit.",
    "Biscuit is the name of your dog.",
    "You told me that your dog is called Biscuit.",
    "Your dog's name is Biscuit!",
    "It's Biscuit, a lovely name for a dog.",
    "As you said: My dog is called Biscuit.",
    "Based on your memory, your dog is called Biscuit.",
    "Of course! Biscuit.",
)
EXCHANGES = 500  # two turns each
EVERY = 10  # exchanges between two looks at what is recalled


def test_a_thousand_turns_of_asking_leave_one_memory_leading(tmp_path: Path) -> None:
    """A reply restates only what it was given. Of all that is recalled on the way, in the list of
    a search as in what a model is given, less than 5 % are restatements; the memory leads."""
    memory = Memory(tmp_path / "chatbot.db", Drawn)
    for number, text in enumerate(OTHERS):
        memory.remember("user", text, at=NOW - timedelta(days=60 - number))
    fact = memory.remember("user", FACT, at=NOW - timedelta(days=10))
    given: list[Hit] = []
    listed: list[Hit] = []
    led = looks = 0
    hits: list[Hit] = []
    for number in range(EXCHANGES):
        at = NOW + timedelta(minutes=number)
        asked = ASKED[number % len(ASKED)]
        if number % EVERY == 0:
            hits = memory.relevant(ASKED[number // EVERY % len(ASKED)], k=3, now=at)
            found = memory.recall(ASKED[0], k=10, now=at)
            given, listed, looks = [*given, *hits], [*listed, *found], looks + 1
            led += all(some[0].turn.id == fact.id for some in (found, hits) if some)
        prompt = memory.remember("user", asked, at=at)
        knows = any("Biscuit" in hit.turn.text for hit in hits)
        reply = SAID[number % len(SAID)] if knows else "I can't say."
        memory.remember("assistant", reply, conversation=prompt.conversation, at=at, used=hits)
    memory.close()
    assert led == looks == EXCHANGES // EVERY and len(given) > looks // 2
    assert share(given) < 0.05 and share(listed) < 0.05


def test_what_was_asked_in_vain_does_not_hide_what_is_told_later(
    tmp_path: Path, embedder: SentenceEmbedder
) -> None:
    memory = Memory(tmp_path / "chatbot.db", lambda: embedder)
    memory.remember("user", "my sister Rosalba lives in Ghent", at=NOW - timedelta(days=9))
    for day, reply in enumerate(("You haven't told me his name.", "His name never came up.")):
        at = NOW - timedelta(days=8 - day)
        asked = memory.remember("user", "What is my brother's name?", at=at)
        memory.remember("assistant", reply, conversation=asked.conversation, at=at)
    told = memory.remember("user", "my brother Anselm repairs clocks", at=NOW - timedelta(days=2))
    for query in ("What is my brother's name?", "what's my brother called"):
        assert [hit.turn.id for hit in memory.relevant(query, now=NOW)][:1] == [told.id]
        assert all(hit.turn.role == "user" for hit in memory.recall(query, now=NOW))
    memory.close()


def share(hits: list[Hit]) -> float:
    """How many of the hits say what was said before, or ask for it once more."""
    return sum(hit.turn.text in (*SAID, *ASKED) for hit in hits) / len(hits)


def restates(text: str, source: str, query: str, role: str = "assistant") -> bool:
    told = Turn(1, 1, "user", "user", source, NOW)
    turn = Turn(2, 1, role, role, text, NOW)  # type: ignore[arg-type]
    return _restates(turn, told, frozenset(tokenize(query)))


def test_only_what_adds_nothing_is_an_echo() -> None:
    allergic = "I am allergic to shellfish."
    eat = "Which restaurant did you recommend?"
    assert restates("You are allergic to shellfish.", allergic, eat)
    assert not restates("Since you are allergic to shellfish, try Alfama.", allergic, eat)
    assert not restates("Shellfish allergies begin at 30.", allergic, eat)
    assert not restates("Take the tapas place at the harbour: no shellfish.", allergic, eat)
    assert not restates("I like shellfish, allergic or not", allergic, eat, "user")
    assert restates("Am I allergic to shellfish?", allergic, eat, "user")
    assert not restates("Am I allergic to shellfish or nuts?", allergic, eat, "user")
    assert restates("네, 모모입니다.", "내 고양이 이름은 모모야.", "고양이 이름이 뭐야?")
    assert Candidate.__dataclass_fields__["given"].default == ()
