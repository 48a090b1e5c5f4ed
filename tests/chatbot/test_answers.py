"""The benchmark of answers: what a reply is worth, and a whole run over a small file."""

import json
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from benchmarks import answers
from benchmarks.answers import DECLINES, contains, f1, loops, normalised
from chatbot.decoding import Decoding
from chatbot.engines import Message, Piece, Usage
from memory.embed import SentenceEmbedder
from tests.stand_ins import WordCounter


def test_words_are_compared_as_locomo_does() -> None:
    assert normalised("The Café, and a dog's 1,000 bones!") == ["café", "dog", "s", "1000", "bones"]
    assert f1("It was the 7 May 2023.", "7 May 2023") == pytest.approx(2 * (3 / 5) / (3 / 5 + 1))
    assert f1("a dog", "the cat") == 0


@pytest.mark.parametrize(
    ("reply", "answer", "right"),
    [
        ("Your dog is called Biscuit.", "Biscuit", True),
        ("It was £35 more.", "£35 more (£380 quoted, £415 paid)", True),
        ("She paints.", "paint", False),
        ("On Thursday, 4 April 2024.", "Thursday 4 April 2024", True),
        ("핀란드로 가셨어요.", "핀란드", True),
        ("2024년 3월 15일이에요", "2024년 3월 15일", True),
        ("38만원이었어요.", "38만 원 (부품값 포함)", True),
        ("", "Biscuit", False),
    ],
)
def test_a_reply_contains_an_answer_word_for_word(reply: str, answer: str, right: bool) -> None:
    assert contains(reply, answer) is right


@pytest.mark.parametrize(
    "reply",
    [
        "I don't have anything about that in my memory.",
        "I’m sorry, I don’t know.",
        "Not mentioned.",
        "That never came up.",
        "그건 제 기억에 없어요.",
        "잘 모르겠어요.",
    ],
)
def test_a_reply_declines(reply: str) -> None:
    assert DECLINES.search(reply)


@pytest.mark.parametrize(
    "reply", ["Her name is Noor.", "7 May 2023", "Nothing but bread.", "핀란드예요.", "Knowledge."]
)
def test_a_reply_does_not_decline(reply: str) -> None:
    assert not DECLINES.search(reply)


def test_loops_are_seen() -> None:
    assert loops("I see. I see. I see.")
    assert loops("to be or not to be or not to be or not to be or not")
    assert not loops("I see. You see. They see. I see.")


class Reader(WordCounter):
    """An engine that says all that it was shown of memories, and else that it doesn't know."""

    name, window = "reader", 4000

    def stream(
        self,
        messages: Sequence[Message],
        decoding: Decoding,
        stop: threading.Event | None = None,
    ) -> Iterator[Piece]:
        before, fence, _ = messages[-1].content.partition("</memory>")
        yield Piece(before if fence else "I don't know.", "stop", Usage(1, 0, 1, 0.0, 0.0, None))


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> dict[str, object]:
    monkeypatch.setattr(sys, "argv", ["answers", *arguments])
    answers.main()
    result: dict[str, object] = json.loads(capsys.readouterr().out)
    return result


@pytest.fixture
def _engine(monkeypatch: pytest.MonkeyPatch, embedder: SentenceEmbedder) -> None:
    monkeypatch.setattr(answers, "open_engine", lambda _: Reader())
    monkeypatch.setattr(answers, "open_embedder", lambda: embedder)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    said = ["My otter is called Hannibal.", "Lovely name!", "We had dumplings at our wedding."]
    session = [
        {"speaker": ("user", "assistant")[at % 2], "dia_id": f"D1:{at + 1}", "text": text}
        for at, text in enumerate(said)
    ]
    questions = [
        ("What is my otter called?", "Hannibal", ["D1:1"], "single"),
        ("What did we have at our wedding?", "dumplings", ["D1:3"], "single"),
        ("Who won the chess world cup of 1931 in Prague?", "", [], "unanswerable"),
    ]
    sample = {
        "sample_id": "1",
        "conversation": {
            "speaker_a": "user",
            "speaker_b": "assistant",
            "session_1": session,
            "session_1_date_time": "2024-03-01 10:00",
        },
        "qa": [
            {"question": question, "answer": answer, "evidence": evidence, "category": category}
            for question, answer, evidence, category in questions
        ],
    }
    path = tmp_path / "questions.json"
    path.write_text(json.dumps([sample]), "utf-8")
    return path


@pytest.mark.usefixtures("_engine")
def test_questions_are_asked_with_and_without_memory(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run(monkeypatch, capsys, str(file), "--replies")
    assert result["questions"] == 3
    assert result["contains"] == 1
    assert result["contains_by_category"] == {"single": 1}
    assert result["declined_by_category"] == {"single": 0, "unanswerable": 1}
    without = run(monkeypatch, capsys, str(file), "--no-memory")
    assert without["contains"] == 0
    assert without["declined_wrongly"] == 1


@pytest.mark.usefixtures("_engine")
def test_openers_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "openers.json"
    path.write_text(json.dumps(["hey hey", "안녕"]), "utf-8")
    result = run(monkeypatch, capsys, str(path))
    assert (result["openers"], result["loop"]) == (2, 0)
    assert result["in_the_language_asked"] == 0.5
    assert result["no_memory_given"] == 1
