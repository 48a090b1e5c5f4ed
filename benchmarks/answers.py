"""Does the chatbot answer? It is asked what it was told: `python -m benchmarks.answers FILE`.

FILE is in LoCoMo's format. Each session is stored as a conversation; each question is asked in a
new conversation, greedily, followed by "Answer in a few words.", and taken back again. Whatever
the memory recalls is what the model gets. Token F1 as in LoCoMo (lower case, without punctuation
and articles); `contains`: the answer stands in the reply; `declined`: the reply says that it
isn't known, which is right for questions that nothing answers, and wrong for others.

A FILE that is a list of strings holds openers of small talk: how many replies loop, how long they
are, how many are in the language of the opener, how many come with memories that nobody asked for.

Prints one JSON object last on standard output; progress goes to standard error.
"""

import argparse
import json
import random
import re
import sys
import tempfile
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.recall import read_sessions
from chatbot.catalogue import DEFAULT_GPT
from chatbot.chat import Chat
from chatbot.cli import open_embedder
from chatbot.decoding import Decoding
from chatbot.engines import Engine, open_engine
from chatbot.settings import Settings
from memory.embed import Embedder
from memory.store import Memory

REPLY_TOKENS = 320  # a Korean letter takes two or three
SEED = 20261122
HANGUL = re.compile("[가-힣]")
BRIEFLY = ("Answer in a few words.", "짧게 답해 줘.")
UNANSWERABLE = ("5", "unanswerable", "abstention")  # what nothing in the log answers
DECLINES = re.compile(
    r"\b(?:don['’]?t|do not|doesn['’]?t|didn['’]?t|can['’]?t|cannot|couldn['’]?t|haven['’]?t) "
    r"(?:have|know|recall|remember|find|say|said|see|mention|tell|told)"
    r"|\bno (?:memory|information|record|mention|idea)"
    r"|\bnot (?:mentioned|sure|known|in my|in what|in anything|something)"
    r"|\bnever (?:came|mentioned|said|told)|\bnothing (?:that i|about|in|on)"
    r"|wasn['’]t mentioned|isn['’]t (?:in|known|mentioned|something)|\bunknown\b"
    r"|모르|모릅|기억에 없|기억이 없|들은 적|듣지 못|말씀하신 적|없어요|없네요"
    r"|안 나와|나오지 않|찾을 수 없",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Answer:
    """A question, the right answer, the reply, and what it is worth."""

    category: str
    question: str
    answer: str
    reply: str
    f1: float
    contains: bool
    declined: bool
    memories: int


# -- what a reply is worth ------------------------------------------------------------------------


def normalised(text: str) -> list[str]:
    """Words in lower case, without punctuation and articles, as in LoCoMo's evaluation."""
    folded = unicodedata.normalize("NFC", text).casefold().replace(",", "")
    words = re.sub(r"[^\w\s]", " ", folded).split()
    return [word for word in words if word not in ("a", "an", "the", "and")]


def f1(reply: str, answer: str) -> float:
    """Harmonic mean of the shares of words of either that stand in the other."""
    said, right = normalised(reply), normalised(answer)
    common = sum((Counter(said) & Counter(right)).values())
    if not common:
        return 0.0
    precision, recall = common / len(said), common / len(right)
    return 2 * precision * recall / (precision + recall)


def contains(reply: str, answer: str) -> bool:
    """Whether the answer stands in the reply, word for word; what it adds in brackets needn't. In
    Korean endings may follow, and spaces don't count."""
    bare = re.sub(r"\([^)]*\)", " ", answer)
    right, said = normalised(bare) or normalised(answer), normalised(reply)
    if HANGUL.search(answer):
        return bool(right) and "".join(right) in "".join(said)
    return bool(right) and f" {' '.join(right)} " in f" {' '.join(said)} "


def loops(reply: str) -> bool:
    """A sentence three times, or four words in a row more than twice."""
    sentences = Counter(s.strip().casefold() for s in re.split(r"[.!?\n]+", reply) if s.strip())
    words = reply.casefold().split()
    fours = Counter(tuple(words[at : at + 4]) for at in range(len(words) - 3))
    return max(sentences.values(), default=0) >= 3 or max(fours.values(), default=0) > 2


# -- asking ---------------------------------------------------------------------------------------


@contextmanager
def chatting(
    sessions: Sequence[Sequence[Any]], engine: Engine, embedder: Embedder, recall: bool
) -> Iterator[Chat]:
    """A chat that remembers `sessions`."""
    with tempfile.TemporaryDirectory() as folder:
        memory = Memory(Path(folder) / "chatbot.db", lambda: embedder)
        memory.log.extend([("", [turn for _, turn in session]) for session in sessions if session])
        memory.catch_up(_progress)
        decoding = Decoding.default("greedy").with_settings({"max_tokens": str(REPLY_TOKENS)})
        settings = Settings(Path(folder), model=engine.name, decoding=decoding, recall=recall)
        yield Chat(memory, settings, opener=lambda _: engine)
        memory.close()


def say(chat: Chat, prompt: str) -> tuple[str, int]:
    """The reply to `prompt` in a new conversation, and how many memories it was given."""
    chat.new()
    reply = "".join(chat.turn(prompt)).strip()
    assert chat.last is not None
    memories = len(chat.last.window.used)
    chat.undo()
    return reply, memories


def answers(
    raw: dict[str, Any], wanted: set[str], engine: Engine, embedder: Embedder, recall: bool
) -> Iterator[Answer]:
    """The answers to those questions of one sample that are `wanted`."""
    asked = [one for one in raw["qa"] if one["question"] in wanted]
    if not asked:
        return
    with chatting(read_sessions(raw), engine, embedder, recall) as chat:
        for one in asked:
            question, answer = str(one["question"]), str(one.get("answer") or "")
            prompt = f"{question} {BRIEFLY[bool(HANGUL.search(question))]}"
            reply, memories = say(chat, prompt)
            yield Answer(
                str(one["category"]),
                question,
                answer,
                reply,
                f1(reply, answer),
                contains(reply, answer),
                bool(DECLINES.search(reply)),
                memories,
            )


def summarise(rows: Sequence[Answer]) -> dict[str, Any]:
    """The JSON: F1 and `contains` over the questions that have an answer."""
    by_category = defaultdict(list)
    for row in rows:
        by_category[row.category].append(row)
    answerable = [row for row in rows if row.category not in UNANSWERABLE]

    def shares(name: str) -> dict[str, float]:
        return {
            category: _mean([float(getattr(row, name)) for row in some])
            for category, some in sorted(by_category.items())
            if name == "declined" or category not in UNANSWERABLE
        }

    return {
        "questions": len(rows),
        "f1": _mean([row.f1 for row in answerable]),
        "f1_by_category": shares("f1"),
        "contains": _mean([float(row.contains) for row in answerable]),
        "contains_by_category": shares("contains"),
        "declined_by_category": shares("declined"),
        "declined_wrongly": _mean([float(row.declined) for row in answerable]),
        "given_a_memory": _mean([float(row.memories > 0) for row in rows]),
        "in_the_language_asked": _mean([float(_same(row.question, row.reply)) for row in rows]),
    }


def small_talk(openers: Sequence[str], engine: Engine, embedder: Embedder) -> dict[str, Any]:
    """Replies to openers, of a chat whose memory holds other openers and replies."""
    rows = []
    with chatting([], engine, embedder, recall=True) as chat:
        for at, opener in enumerate(openers, start=1):
            chat.new()
            reply = "".join(chat.turn(opener)).strip()  # stays in the log
            assert chat.last is not None
            rows.append((opener, reply, len(chat.last.window.used)))
            _progress("talking", at, len(openers))
    return {
        "openers": len(rows),
        "loop": sum(loops(reply) for _, reply, _ in rows),
        "words": _mean([float(len(reply.split())) for _, reply, _ in rows]),
        "in_the_language_asked": _mean([float(_same(one, reply)) for one, reply, _ in rows]),
        "no_memory_given": _mean([float(not given) for _, _, given in rows]),
        "replies": [{"opener": one, "reply": reply, "memories": n} for one, reply, n in rows],
    }


def _same(asked: str, reply: str) -> bool:
    """Whether a reply is in the asker's language."""
    return bool(HANGUL.search(asked)) == bool(HANGUL.search(reply))


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 4) if values else 0.0


def _progress(doing: str, done: int, total: int) -> None:
    print(f"\r{doing} {done}/{total}", end="\n" if done == total else "", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("file", type=Path, help="questions in LoCoMo's format, or openers")
    parser.add_argument("--limit", type=int, help="ask so many, a fixed random sample")
    parser.add_argument("--no-memory", action="store_true", help="recall nothing")
    parser.add_argument("--model", default=DEFAULT_GPT)
    parser.add_argument("--replies", action="store_true", help="print them, too")
    arguments = parser.parse_args()
    raw = json.loads(arguments.file.read_text("utf-8"))
    engine, embedder = open_engine(arguments.model), open_embedder()
    if raw and isinstance(raw[0], str):
        print(json.dumps(small_talk(raw, engine, embedder), ensure_ascii=False, indent=1))
        return
    every = [(at, str(one["question"])) for at, sample in enumerate(raw) for one in sample["qa"]]
    if arguments.limit and arguments.limit < len(every):
        every = random.Random(SEED).sample(every, arguments.limit)
    rows: list[Answer] = []
    for at, sample in enumerate(raw):
        wanted = {question for number, question in every if number == at}
        for row in answers(sample, wanted, engine, embedder, not arguments.no_memory):
            rows.append(row)
            _progress("asking", len(rows), len(every))
    result = summarise(rows)
    if arguments.replies:
        result["replies"] = [asdict(row) for row in rows]
    print(json.dumps(result, ensure_ascii=False, indent=1))


if __name__ == "__main__":
    main()
