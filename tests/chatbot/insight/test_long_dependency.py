"""The long-dependency experiment: its tasks, its networks, its intervals, its table and picture."""

import json
import random
import re
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import asking
from benchmarks import small_networks as nets
from benchmarks.asking import Choosing, Far, ask_near, holds
from benchmarks.long_dependency import (
    DISTANCES,
    Result,
    Results,
    Sizes,
    plot,
    summary,
    table,
    wilson,
)
from benchmarks.small_talk import DEVELOPED, KINDS, MEASURED, facts, small_talk
from chatbot.decoding import Decoding
from chatbot.engines import Message, Piece, Usage
from chatbot.local import LocalEngine
from memory.embed import SentenceEmbedder
from tests.stand_ins import WordCounter

# -- the made-up language --------------------------------------------------------------------------


def told(words: list[int], name: int) -> int:
    """The value told of `name`, found by reading from the start; never two."""
    value = nets.UNKNOWN
    for word in words:
        if nets.FILLER <= word < nets.ASK and (word - nets.FILLER) // nets.VALUES == name:
            assert value in (nets.UNKNOWN, (word - nets.FILLER) % nets.VALUES)
            value = (word - nets.FILLER) % nets.VALUES
    return value


def test_answers_are_what_was_told() -> None:
    stream = nets.Stream(np.random.default_rng(1), 5)
    parts = [stream.words(60) for _ in range(4)]  # what was told earlier holds across pieces
    words = np.concatenate([words for words, _ in parts], axis=1)
    answers = np.concatenate([answers for _, answers in parts], axis=1)
    assert (words[answers != nets.UNKNOWN] >= nets.ASK).all()
    asked = np.argwhere(words >= nets.ASK)
    assert len(asked) > 50
    for text, place in asked.tolist():
        row = words[text].tolist()
        assert answers[text, place] == told(row[:place], row[place] - nets.ASK)


@pytest.mark.parametrize("distance", [10, 30, 5000])
def test_a_question_is_asked_at_its_distance_and_told_once(distance: int) -> None:
    pieces, values = nets.question(np.random.default_rng(2), 20, distance)
    words = np.concatenate(list(pieces), axis=1)
    assert words.shape == (20, 1 + distance + 1)
    assert (words[:, -1] >= nets.ASK).all()
    for row, value in zip(words.tolist(), values.tolist(), strict=True):
        name = row[-1] - nets.ASK
        assert row[0] == nets.FILLER + nets.VALUES * name + value
        assert told(row, name) == value
        assert row.count(row[0]) == row.count(row[-1]) == 1


def test_filler_follows_zipf() -> None:
    words, _ = nets.Stream(np.random.default_rng(3), 50).words(2000)
    counts = np.bincount(words[words < nets.FILLER], minlength=nets.FILLER)
    assert counts[0] / counts[9] == pytest.approx(10, rel=0.15)


def test_what_left_the_window_is_not_made() -> None:
    pieces, _ = nets.question(np.random.default_rng(4), 3, 1_000_000, only=nets.LENGTH)
    words = np.concatenate(list(pieces), axis=1)
    assert words.shape == (3, nets.LENGTH)
    assert (words[:, -1] >= nets.ASK).all()


# -- the networks ----------------------------------------------------------------------------------


def test_both_networks_have_as_many_parameters() -> None:
    lstm, gpt = map(nets.parameters, nets.pair(0))
    assert abs(lstm - gpt) / gpt < 0.05


def test_equal_seeds_make_equal_networks() -> None:
    for one, other in zip(nets.pair(1), nets.pair(1), strict=True):
        for left, right in zip(one.parameters(), other.parameters(), strict=True):
            assert torch.equal(left, right)


def test_no_word_sees_a_later_one() -> None:
    words = torch.randint(nets.VOCABULARY, (1, 20))
    other = words.clone()
    other[0, 12:] = torch.randint(nets.VOCABULARY, (8,))
    with torch.inference_mode():
        for network in nets.pair(0):
            torch.testing.assert_close(network(words)[:, :12], network(other)[:, :12])


def test_the_lstm_keeps_its_state_from_piece_to_piece() -> None:
    lstm, _ = nets.pair(0)
    words = np.random.default_rng(5).integers(nets.VOCABULARY, size=(4, 30))
    with torch.inference_mode():
        whole = lstm(torch.from_numpy(words))[:, -1].argmax(-1).numpy()
        assert (lstm.answer(iter([words[:, :7], words[:, 7:]])) == whole).all()


def test_training_is_the_same_from_the_same_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nets, "LENGTH", 16)
    monkeypatch.setattr(nets, "BATCH", 4)
    trained, told = [], []
    for _ in range(2):
        _, gpt = nets.pair(0)
        before = gpt.head.weight.detach().clone()
        nets.train(gpt, 3, 4, lambda *step: told.append(step))
        assert not torch.equal(before, gpt.head.weight)
        trained.append(gpt.head.weight)
    assert torch.equal(*trained)
    assert told == 2 * [(step, 4) for step in range(1, 5)]


# -- facts and small talk --------------------------------------------------------------------------


@pytest.mark.parametrize("words", [10, 20, 70, 2000])
def test_small_talk_has_as_many_words_as_asked_for(words: int) -> None:
    talk = list(small_talk(random.Random(words), words))
    assert sum(len(f"{one.said} {one.answered}".split()) for one in talk) == words


def test_small_talk_shorter_than_its_shortest_sentence_is_refused() -> None:
    with pytest.raises(ValueError, match="9 words"):
        next(small_talk(random.Random(0), 9))


def test_small_talk_names_no_value() -> None:
    talk = " ".join(f"{one.said} {one.answered}" for one in small_talk(random.Random(0), 50_000))
    heard = set(re.findall(r"\w+", talk.lower()))
    for values in KINDS.values():
        assert len(set(values.split())) == 10
        assert not heard & set(values.lower().split())


def test_what_is_measured_was_not_developed_on() -> None:
    questions = [question for _, question, _, _ in (*MEASURED, *DEVELOPED)]
    assert len(set(questions)) == len(questions)
    for fact in facts(MEASURED, 1):
        assert fact.value in fact.told
        assert fact.value not in fact.question
        assert len({fact.value, *fact.others}) == 10


def test_a_reply_holds_a_value_as_a_word() -> None:
    assert holds("You play the Harps.", "harp")
    assert not holds("That is ivory, surely.", "ivy")
    assert not holds("The sharp one.", "harp")


# -- the chat --------------------------------------------------------------------------------------


class Reader(WordCounter):
    """An engine of a small window that says all that it was shown; a word is a token."""

    name, window = "reader", 400

    def stream(
        self,
        messages: Sequence[Message],
        decoding: Decoding,
        stop: threading.Event | None = None,
    ) -> Iterator[Piece]:
        text = " ".join(message.content for message in messages)
        yield Piece(text, "stop", Usage(1, 0, 1, 0.0, 0.0, None))


def test_near_facts_stand_in_the_window(tmp_path: Path, embedder: SentenceEmbedder) -> None:
    (fact,) = facts(DEVELOPED[:1], 0)
    rng = random.Random(0)
    answers = list(ask_near(fact, [10, 100], rng, tmp_path, Reader(), embedder))
    assert [(recall, distance) for recall, distance, _ in answers] == [
        (False, 10),
        (True, 10),
        (False, 100),
        (True, 100),
    ]
    for recall, distance, answer in answers:
        assert answer.right
        assert answer.in_window
        assert answer.recalled is recall  # quoted, though it stands in the window
        said = answer.reply.split("<memory>")[0].split(fact.told)[1].split(fact.question)[0]
        assert distance <= len(said.split()) <= distance + 6  # the reply to the fact stands there


@pytest.mark.parametrize("embedded", [100_000, 600])
def test_far_facts_are_recalled_or_gone(
    tmp_path: Path,
    embedder: SentenceEmbedder,
    monkeypatch: pytest.MonkeyPatch,
    embedded: int,
) -> None:
    """With all of the words really embedded, and with the vectors of some of them composed."""
    monkeypatch.setattr(asking, "LATEST", 500)
    monkeypatch.setattr(asking, "EMBEDDED", embedded)
    told = facts(DEVELOPED, 0)[:3]
    far = Far(told, random.Random(0), tmp_path, Reader(), embedder)
    latest = far.grow(1200, lambda *_: None)
    turns = far.asking.memory.log.turns()
    between = [turn.text for turn in turns[2 * len(told) :]]
    assert sum(len(text.split()) for text in between) == 1200
    for fact in told:
        without, given = far.ask(fact, latest, False), far.ask(fact, latest, True)
        assert not without.right
        assert not without.in_window
        assert given.right
        assert given.recalled
        assert not given.in_window
    assert far.asking.memory.log.turns() == turns  # no question, no reply stays
    far.close()


def test_the_likeliest_value_is_that_of_a_plain_forward_pass(gpt: LocalEngine) -> None:
    fact = facts(DEVELOPED, 0)[4]
    choosing = Choosing(gpt)
    for told in (fact.told, "It is raining again."):  # the second reads on from the first
        messages = [Message("user", f"{told} {fact.question}")]
        prompt = gpt.encoder.encode(messages)
        chances = {}
        for value in (fact.value, *fact.others):
            ids = gpt.tokenizer(f"{fact.lead} {value}.", add_special_tokens=False)["input_ids"]
            with torch.inference_mode():
                logits = gpt.model(torch.tensor([[*prompt, *ids]])).logits[0].float()
            each = logits[len(prompt) - 1 : -1].log_softmax(-1)
            chances[value] = float(each[range(len(ids)), ids].sum())
        best, second = sorted(chances.values(), reverse=True)[:2]
        assert best - second > 0.1  # no tie that rounding could turn
        assert choosing.choose(messages, fact) == max(chances, key=chances.__getitem__)
        if told == fact.told:
            assert choosing.choose(messages, fact) == fact.value


# -- results ---------------------------------------------------------------------------------------


def test_wilson_agrees_with_its_published_values() -> None:
    """Newcombe 1998, table I."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)


def test_results_are_kept_and_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    first = Results(path, Sizes())
    first.add(Result("gpt", 10, 0, 1, 1, reply="네, Biscuit."))
    again = Results(path, Sizes())
    assert again.all == first.all
    assert again.has(["gpt"], [10], 0)
    assert not again.has(["gpt"], [10], 1)
    assert not again.has(["gpt"], DISTANCES, 0)
    with pytest.raises(SystemExit, match="same options"):
        Results(path, Sizes(facts=2))


def some_rows() -> list[Result]:
    return [
        Result("lstm", 10, 0, 190, 200),
        Result("lstm", 10, 1, 180, 200),
        Result("gpt + memory", 100_000, 0, 1, 1, likeliest=1, recalled=1),
        Result("gpt + memory", 100_000, 1, 0, 1, likeliest=1),
    ]


def test_seeds_and_facts_are_added_up() -> None:
    rows = summary(some_rows())
    (lstm,) = rows["lstm"]
    assert (lstm["answered"], lstm["n"]) == (370, 400)
    assert rows["gpt + memory"][0]["recalled"] == 1
    assert json.loads(json.dumps(rows)) == rows


def test_the_table_has_a_row_for_each_distance() -> None:
    lines = table(summary(some_rows())).splitlines()
    assert lines[0] == "| words between | lstm | small gpt | gpt | gpt + memory |"
    assert lines[2].startswith("| 10 | 92% (89 to 95) | – | – | – |")
    assert lines[3] == "| 100,000 | – | – | – | 50% (9 to 91); 100% |"


def test_the_picture_is_written(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plot(summary(some_rows()), tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
