"""The recipes that make examples of the project's dialogues and train the chat model on them."""

import argparse
import gzip
import json
import random
import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from chatbot.context import NOTHING_FOUND, QUESTION, told
from chatbot.models import ModelFiles, trained_for
from data import make, train
from data.adapter.train_embedder import TAKEN
from data.low_rank import Update
from memory import adapter
from memory.adapter import Adapter
from memory.embed import SentenceEmbedder
from memory.types import Hit, Turn
from tests.chatbot.tiny import CHATML, chat_like, tiny_llama

MEASURED = ("recall", "beginnings", "changes")  # files of data/evaluation, in LoCoMo's format

# -- the dialogues ---------------------------------------------------------------------------------


def check_questions(talk: make.Talk, count: int) -> None:
    for question in talk.questions:
        assert all(0 <= place < count for place in question.evidence), question
        assert question.text and question.brief and question.reply


@pytest.mark.parametrize("talks", [make.english(), make.korean()], ids=["en", "ko"])
def test_every_question_has_evidence_that_is_there_and_an_answer(talks: list[make.Talk]) -> None:
    assert sum(len(talk.questions) for talk in talks) > 2500
    for talk in talks:
        count = sum(len(session) for session in talk.sessions)
        assert count >= 8
        assert len({turn.speaker for session in talk.sessions for turn in session}) >= 2
        check_questions(talk, count)


def test_beginnings_answer_half_or_more_of_what_they_are_asked() -> None:
    talks = make.beginnings()
    assert len(talks) >= 99
    for talk in talks:
        count = sum(len(session) for session in talk.sessions)
        assert 4 <= count <= 16
        unanswered = [question for question in talk.questions if not question.evidence]
        assert 0.2 <= len(unanswered) / len(talk.questions) <= 0.55
        check_questions(talk, count)


def test_a_day_is_answered_with_its_date() -> None:
    relative = re.compile(r"\b(?:\w+day|week|weekend) (?:before|after) \d", re.IGNORECASE)
    for talk in make.english() + make.beginnings():
        for question in talk.questions:
            assert not relative.search(f"{question.brief} | {question.reply}"), question


def test_sessions_follow_one_another() -> None:
    for talk in make.english() + make.beginnings():
        times = [turn.at for session in talk.sessions for turn in session]
        assert times == sorted(times)


def test_short_chats_alternate_and_do_not_repeat_themselves() -> None:
    openers = [said[0][0] for _, _, said in make.chats()]
    assert len(openers) > 700
    assert len(set(openers)) > 0.95 * len(openers)
    for _, language, said in make.chats():
        replies = [reply for _, reply in said]
        assert language == "ko" or len(set(replies)) == len(replies)


def test_what_is_told_is_answered_with_thirteen_sentences() -> None:
    replies = Counter(
        reply
        for kind, language, said in make.chats()
        for _, reply in said
        if language == "en" and kind in ("tells", "corrects")
    )
    often = [count for _, count in replies.most_common(13)]
    assert min(often) >= 10
    assert sum(replies.values()) - sum(often) <= 10  # to what only seems to be told


def test_korean_chats_are_answered_with_seven_sentences() -> None:
    replies = Counter(
        reply for _, language, said in make.chats() for _, reply in said if language == "ko"
    )
    assert len(replies) == 7
    assert min(replies.values()) >= 40
    assert make.UNKNOWN["ko"][0] in replies


def test_nobody_is_told_what_they_never_said(embedder: SentenceEmbedder) -> None:
    turn = Turn(0, 0, "user", "user", "My dog is called Biscuit.", datetime.now(UTC))
    asked = [make.Question(f"What is my dog's {n}. toy?", (0,), "A", "B") for n in range(60)]
    talk = make.Talk("en", [[turn]], asked)
    examples = list(make.Maker(embedder, random.Random(1)).of_talk(talk))
    missed = [one for one in examples if NOTHING_FOUND in one["messages"][-1]["content"]]
    assert len(missed) >= 60 * make.SHARES["nothing found"] / 2
    for one in missed:
        assert one["kind"] == "taken out, en"
        assert one["reply"] in (*make.UNKNOWN["en"], *make.UNKNOWN_BRIEFLY["en"])


def test_nothing_that_is_measured_is_trained_on() -> None:
    folder = Path(make.__file__).parent / "evaluation"
    asked = set(json.loads((folder / "openers.json").read_text("utf-8")))
    names = set()
    for path in (path for kind in MEASURED for path in folder.glob(f"{kind}_*.json")):
        for sample in json.loads(path.read_text("utf-8")):
            asked |= {one["question"] for one in sample["qa"]}
            names |= {sample["conversation"]["speaker_a"], sample["conversation"]["speaker_b"]}
    talks = make.english() + make.beginnings() + make.korean()
    trained = {question.text for talk in talks for question in talk.questions}
    trained |= {prompt for _, _, said in make.chats() for prompt, _ in said}
    trained |= {prompt for prompt, _ in make.general()}
    assert not asked & trained
    english = make.english() + make.beginnings()
    speakers = {turn.speaker for talk in english for session in talk.sessions for turn in session}
    assert not (names - {"Assistant", "User", "user"}) & speakers


def test_public_dialogues_are_asked_about(tmp_path: Path) -> None:
    said = [{"speaker": "AB"[at % 2], "text": f"{at} things"} for at in range(40)]
    lines = [
        json.dumps({"source": source, "turns": said})
        for source, count in TAKEN.items()
        for _ in range(count)
    ]
    corpus = tmp_path / "dialogues.jsonl.gz"
    corpus.write_bytes(gzip.compress("\n".join(lines).encode()))
    talks = make.public(corpus)
    assert 500 < len(talks) < len(lines)
    assert sum(len(talk.questions) for talk in talks) > 3000
    measured = re.findall(r"\w+", (make.EVALUATION / "recall_en_test.json").read_text("utf-8"))
    for talk in talks:
        assert len(talk.people) == 2 and not any(name in measured for name in talk.people)
        for question in talk.questions:
            assert question.among(talk.sessions[0])
            assert question.text and question.brief and question.reply
            assert len(question.brief.split()) < 20 and not question.brief.endswith(" ")


@pytest.mark.parametrize("language", ["en", "ko"])
def test_answers_stand_among_the_memories(language: str, embedder: SentenceEmbedder) -> None:
    talks = make.english() if language == "en" else make.korean()
    talk = min(talks, key=lambda one: sum(len(session) for session in one.sessions))
    examples = list(make.Maker(embedder, random.Random(1)).of_talk(talk))
    turns = [turn for session in talk.sessions for turn in session]
    assert len(examples) == len(talk.questions)
    for example, question in zip(examples, talk.questions, strict=True):
        window = example["messages"][-1]["content"]
        if example["kind"] == "answer, en":
            for place in question.evidence:
                assert turns[place].text.split()[0] in window
        if example["kind"] == "answer, ko":  # its memories, in their order, each with its day
            quoted = re.findall("“(.+?)”", example["reply"])
            shown = [turn for turn in turns if told(turn)[:20] in window]
            assert 1 <= len(quoted) <= len(shown)
            assert all(said[:8] in window for said in quoted)
            days = re.findall(r"\d{4}년 \d+월 \d+일", example["reply"])
            assert len(days) >= len(quoted)
        if example["kind"] == f"taken out, {language}":
            assert example["reply"] in (*make.UNKNOWN[language], *make.UNKNOWN_BRIEFLY[language])


def test_questions_are_typed_in_haste_too() -> None:
    assert make.in_haste("What's Mina's cat called?") == "whats minas cat called"
    assert make.in_haste("고양이 이름이 뭐야?") == "고양이 이름이 뭐야"


def test_general_questions_have_short_answers_beside_memories_too(
    embedder: SentenceEmbedder,
) -> None:
    maker = make.Maker(embedder, random.Random(1))
    maker.beside["en"] = [
        Hit(Turn(1, 1, "user", "user", "My cat is called Momo.", datetime.now(UTC)), 0.7)
    ] * 3
    examples = list(maker.of_general())
    answers = dict(make.general())
    assert len(answers) == len(make.general())
    assert len(answers) < len(examples) < 2 * len(answers)
    for example in examples:
        content = example["messages"][-1]["content"]
        asked = content.split(QUESTION)[-1].removesuffix(NOTHING_FOUND)
        assert example["reply"] == answers[asked]
        assert len(example["reply"].split()) < 40
    beside = [one for one in examples if "Momo" in one["messages"][-1]["content"]]
    assert len(beside) == len(examples) - len(answers)


# -- the training ----------------------------------------------------------------------------------


@pytest.fixture
def model() -> Any:
    return tiny_llama(len(chat_like("gpt2", CHATML))).to(torch.bfloat16)


def some_examples(count: int) -> list[train.Example]:
    rng = random.Random(0)
    made = []
    for _ in range(count):
        prompt = [rng.randrange(20, 60) for _ in range(rng.randrange(5, 30))]
        made.append(train.joined([(prompt, (7, 8, 9, 2))]))
    return made


def test_loss_is_that_of_the_replies_alone(model: Any) -> None:
    batch = some_examples(3)
    loss, count = train.loss_of(model, batch)
    assert count == 12
    each = []
    for one in batch:
        with torch.inference_mode():
            logits = model(torch.tensor([one.ids])).logits[0].float()
        chances = logits.log_softmax(-1)
        (only,) = one.branches
        each += [-chances[at - 1, one.ids[at]] for at in range(only.reply, len(one.ids))]
    assert loss.item() == pytest.approx(float(sum(each)) / 12, rel=0.02)


def test_questions_of_one_window_do_not_see_one_another(model: Any) -> None:
    rng = random.Random(3)
    window = [rng.randrange(20, 60) for _ in range(40)]
    asked = [
        ([*window, *(rng.randrange(60, 90) for _ in range(length))], [7, 8, rng.randrange(20), 2])
        for length in (4, 9, 2)
    ]
    example = train.joined(asked)
    assert len(example.ids) == 40 + 4 + 9 + 2 + 3 * 4
    loss, count = train.loss_of(model.float(), [example, train.joined(asked[:1])])
    apart = [train.loss_of(model, [train.joined([one])])[0].item() for one in (*asked, asked[0])]
    assert count == 16
    assert loss.item() == pytest.approx(sum(apart) / 4, rel=1e-4)


def test_batches_hold_every_example_once_and_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "TOKENS", 100)
    examples = some_examples(30)
    made = train.batches(examples, random.Random(1))
    assert sorted(one.ids for batch in made for one in batch) == sorted(e.ids for e in examples)
    for batch in made:
        assert len(batch) * min(len(one.ids) for one in batch) <= 100


def run(model: Any, tmp_path: Path, resume: Path | None = None, epochs: float = 30) -> None:
    updates = train.adapt(model, 0)
    arguments = argparse.Namespace(
        examples=tmp_path / "examples.jsonl", epochs=epochs, minutes=None, resume=resume
    )
    assert train.train(model, updates, some_examples(12), some_examples(2), arguments, "base") == 0


def test_what_was_trained_is_merged_into_the_model(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "RATE", 0.02)
    plain = tiny_llama(len(chat_like("gpt2", CHATML)))
    before = train.measure(model, some_examples(12))
    run(model, tmp_path)
    assert train.measure(model, some_examples(12)) < before - 0.4
    Adapter(tmp_path / "gpt.safetensors", "").merge(plain)
    ids = torch.tensor([some_examples(1)[0].ids])
    with torch.inference_mode():
        torch.testing.assert_close(
            plain(ids).logits.softmax(-1), model(ids).logits.float().softmax(-1), atol=0.05, rtol=0
        )
    run(tiny_llama(len(chat_like("gpt2", CHATML))), tmp_path, tmp_path / "examples.checkpoint")


def test_training_goes_on_from_what_was_shipped_and_leaves_the_mean(tmp_path: Path) -> None:
    def trained(seed: int) -> dict[str, Update]:
        torch.manual_seed(seed)
        updates = train.adapt(tiny_llama(300), 0)
        for update in updates.values():
            update.up.data.normal_()
        return updates

    first, now = trained(1), trained(2)
    path = tmp_path / "gpt.safetensors"
    train.save(first, "base", path)
    again = train.adapt(tiny_llama(300), 0)
    start = train.load(again, path)
    for name, update in again.items():
        torch.testing.assert_close(update.up, first[name].up, atol=0.03, rtol=0.01)
        torch.testing.assert_close(update.down, first[name].down, atol=0.03, rtol=0.01)
    train.save(now, "base", path, start)
    for name, mean in load_file(path).items():
        layer, part = name.rsplit(".", 1)
        half = (getattr(first[layer], part) + getattr(now[layer], part)) / 2
        half = half * train.SHARE if part == "up" else half
        torch.testing.assert_close(mean.float(), half.detach(), atol=0.03, rtol=0.02)


def test_only_the_built_in_model_gets_what_was_trained_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "trained", lambda name: tmp_path / name)
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "manifest.json").write_text(
        json.dumps({"origin": {"converted_from_sha256": "ab"}, "files": {}}), "utf-8"
    )
    train.save(train.adapt(tiny_llama(300), 0), "ab", tmp_path / "gpt.safetensors")
    assert trained_for(ModelFiles("smollm2-135m", folder, "built-in")) is not None
    assert trained_for(ModelFiles(str(folder), folder, "folder")) is None
    train.save(train.adapt(tiny_llama(300), 0), "cd", tmp_path / "gpt.safetensors")
    assert trained_for(ModelFiles("smollm2-135m", folder, "built-in")) is None
