"""Strategies side by side: scores against transformers, screens against snapshots."""

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from chatbot.chat import Chat
from chatbot.decoding import Decoding
from chatbot.engines import Message
from chatbot.errors import BadInput
from chatbot.insight import strategies_view as view
from chatbot.insight.glass import Glass
from chatbot.insight.strategies import (
    Comparison,
    Considered,
    Measured,
    Peak,
    Reply,
    Told,
    as_row,
    compare,
    distinct,
    plans,
    repetition,
    words_of,
    write,
)
from chatbot.local import LocalEngine
from chatbot.settings import load_settings
from memory.store import Memory
from tests.chatbot.checkpoints import make_gpt
from tests.chatbot.insight.screens import check_screens, shown
from tests.chatbot.scripted_chat import LetterEmbedder
from tests.chatbot.test_commands import Session
from tests.chatbot.tiny import CHATML, chat_like, tiny_llama

ASKED = [Message("system", "You are helpful."), Message("user", "What is the capital of France?")]
PLANS = plans((0.3, 1.0), beams=3, max_tokens=12, seed=5)


def opinionated(seed: int = 1) -> LocalEngine:
    """A tiny model whose probabilities differ."""
    tokenizer = chat_like("gpt2", CHATML)
    model = tiny_llama(len(tokenizer), seed=seed)
    with torch.no_grad():
        model.lm_head.weight *= 6  # type: ignore[operator,union-attr]
    return LocalEngine("tiny", model, tokenizer)


def glass_of(engine: LocalEngine) -> Glass:
    return Glass(engine.name, engine.model, engine.tokenizer)


def transformers_best(engine: LocalEngine, decoding: Decoding) -> tuple[list[int], float]:
    """transformers' own beam search: the best reply, its end included, and its score."""
    ids = engine.encoder.encode(ASKED)
    model: Any = engine.model
    out = model.generate(
        torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        do_sample=False,
        num_beams=decoding.beams,
        length_penalty=decoding.length_penalty,
        max_new_tokens=decoding.max_tokens,
        eos_token_id=sorted(engine.ends),
        pad_token_id=0,
        return_dict_in_generate=True,
        output_scores=True,
    )
    return out.sequences[0, len(ids) :].tolist(), float(out.sequences_scores[0])


# -- beam search ----------------------------------------------------------------------------------


@pytest.mark.parametrize("beams", [2, 4])
@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_beams_best_score_is_transformers(beams: int, length_penalty: float, seed: int) -> None:
    engine = opinionated(seed)
    decoding = replace(PLANS[1][1], beams=beams, length_penalty=length_penalty, max_tokens=12)
    _, best = transformers_best(engine, decoding)
    (reply,) = write(Told(engine), ASKED, [("beam", decoding)])
    assert reply.score == pytest.approx(best, abs=1e-4)


def test_the_built_in_models_best_score_is_transformers(glass: Glass) -> None:
    engine = LocalEngine(glass.name, glass.model, glass.tokenizer)
    ids, best = transformers_best(engine, PLANS[1][1])
    (reply,) = write(Told(engine), ASKED, PLANS[1:2])
    assert list(reply.ids) == [id_ for id_ in ids if id_ not in engine.ends]
    assert reply.score == pytest.approx(best, abs=1e-4)
    # By the glass, the score is the mean of the tokens' log-probabilities, the end included.
    (row,) = compare(glass, engine, ASKED, [reply], PLANS[1:2]).rows
    assert row.mean == pytest.approx(best, abs=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_a_tree_tells_who_lived_and_died(seed: int) -> None:
    decoding = PLANS[1][1]
    (reply,) = write(Told(opinionated(seed)), ASKED, [("beam", decoding)])
    steps = {one.step for one in reply.tree}
    assert steps == set(range(1, max(steps) + 1))
    alive = {(0, 0): 0.0}  # (step, row) → log-probability
    for one in reply.tree:
        parent = alive[one.step - 1, one.parent]  # none but those that lived go on
        assert one.logprob <= parent + 1e-6
        assert one.score == pytest.approx(one.logprob / one.step, abs=1e-6)
        assert (one.row is not None) == (one.fate == "lived")
        if one.row is not None:
            alive[one.step, one.row] = one.logprob
    for step in steps:
        at = [one for one in reply.tree if one.step == step]
        assert sum(one.fate == "lived" for one in at) <= decoding.beams
        lived = [one.logprob for one in at if one.fate == "lived"]
        died = [one.logprob for one in at if one.fate == "died"]
        assert not lived or not died or min(lived) >= max(died)
    winner = [one for one in reply.tree if one.best]
    ends = len(winner) - len(reply.ids)
    assert [one.token for one in winner][: len(reply.ids)] == list(reply.ids)
    assert ends == reply.ended
    assert winner[-1].score == pytest.approx(reply.score)


def test_recording_changes_nothing() -> None:
    engine = opinionated(2)
    plain = "".join(piece.text for piece in engine.stream(ASKED, PLANS[1][1]))
    (reply,) = write(Told(engine), ASKED, PLANS[1:2])
    assert reply.text == plain


# -- every strategy -------------------------------------------------------------------------------


def test_a_replys_probability_is_that_of_a_plain_pass() -> None:
    engine = opinionated(3)
    replies = list(write(Told(engine), ASKED, PLANS))
    prompt = engine.encoder.encode(ASKED)
    for row in compare(glass_of(engine), engine, ASKED, replies, PLANS).rows:
        ids = list(row.reply.ids)
        with torch.inference_mode():
            logits = engine.model(torch.tensor([prompt + ids])).logits[0].float()
        logprobs = logits[len(prompt) - 1 :].log_softmax(-1)
        total = sum(float(logprobs[place, id_]) for place, id_ in enumerate(ids))
        if row.reply.ended:
            total += max(float(logprobs[len(ids), end]) for end in engine.ends)
        assert row.total == pytest.approx(total, abs=1e-3)
        assert row.mean == pytest.approx(total / (len(ids) + row.reply.ended), abs=1e-4)


def test_replies_are_those_of_the_chats_engine_whose_cache_stays(glass: Glass) -> None:
    engine = LocalEngine(glass.name, glass.model, glass.tokenizer)
    expected = [
        "".join(piece.text for piece in engine.stream(ASKED, decoding)) for _, decoding in PLANS
    ]
    read = list(engine._reading.ids)
    replies = list(write(Told(engine), ASKED, PLANS))
    assert [reply.text for reply in replies] == expected
    assert engine._reading.ids == read
    assert all(reply.peak > 4 * 134_000_000 and reply.speed > 0 for reply in replies)
    found = compare(glass, engine, ASKED, replies, PLANS)
    likely = {row.reply.label: row.total for row in found.rows}
    assert likely["beam of 3"] >= likely["greedy"] - 1e-4  # type: ignore[operator]
    row = json.loads(json.dumps(as_row(found, glass, tree=True)))
    assert row["replies"][1]["tree"][0]["step"] == 1
    assert row["whole"]


def test_it_ends_with_what_there_is() -> None:
    engine, stop = Told(opinionated()), threading.Event()

    def progress(label: str, _done: int, _total: int) -> None:
        if label.startswith("beam"):
            stop.set()

    replies = list(write(engine, ASKED, PLANS, stop, progress))
    assert 1 <= len(replies) <= 2
    assert replies[0].finish in ("stop", "length")
    assert not compare(glass_of(engine), engine, ASKED, replies, PLANS).whole


def test_plans_are_plain() -> None:
    for _, decoding in PLANS:
        assert (decoding.repetition_penalty, decoding.top_p, decoding.top_k, decoding.min_p) == (
            *(1.0, 1.0),
            *(0, 0.0),
        )
    assert [label for label, _ in PLANS] == ["greedy", "beam of 3", "sample 0.3", "sample 1"]
    with pytest.raises(BadInput, match="temperature is 9"):
        plans((9,), 4, 60, 0)


# -- measures -------------------------------------------------------------------------------------


def test_repetition_and_distinct_are_counted_in_words() -> None:
    words = words_of("The cat sat down. The CAT sat down.")
    assert words == ["the", "cat", "sat", "down", ".", "the", "cat", "sat", "down", "."]
    assert repetition(words) == pytest.approx(2 / 7)  # of seven 4-grams two stood there before
    assert distinct(words, 1) == pytest.approx(5 / 10)
    assert distinct(words, 2) == pytest.approx(5 / 10)
    assert words_of("오늘 날씨가 좋네요! 今日は") == [*("오늘", "날씨가", "좋네요", "!"), *"今日は"]
    assert repetition(["a", "b", "c"]) is None
    assert distinct([], 1) is None


def test_a_peak_is_seen() -> None:
    with Peak() as before:
        pass
    with Peak() as peak:
        held = torch.ones(40_000_000)  # 160 MB
        held += 1
    assert peak.bytes >= before.bytes + 120_000_000


# -- screens --------------------------------------------------------------------------------------


def reply(label: str, strategy: Any, text: str, **more: Any) -> Reply:
    decoding = Decoding(strategy=strategy, seed=1, repetition_penalty=1.0, max_tokens=60)
    about: dict[str, Any] = {
        "ids": tuple(range(12)),
        "finish": "stop",
        "ended": True,
        "seconds": 0.8,
        "peak": 912_345_678,
    }
    return Reply(label, decoding, text, **(about | more))


def considered(step: int, token: int, score: float, fate: Any, **more: Any) -> Considered:
    about: dict[str, Any] = {"row": None, "parent": 0, "best": False}
    return Considered(step, token, score * step, score, fate, **(about | more))


TREE = (
    considered(1, 0, -0.3, "lived", row=0, best=True),
    considered(1, 1, -1.5, "lived", row=1),
    considered(1, 2, -2.75, "died"),
    considered(2, 3, -0.4, "lived", row=0, best=True),
    considered(2, 4, -1.1, "lived", parent=1, row=1),
    considered(2, 2, -2.0, "died"),
    considered(3, 5, -0.35, "ended", best=True),
    considered(3, 1, -1.2, "lived", parent=1, row=0),
    considered(4, 0, -1.2, "died"),
)
LABELS = {0: "·휴가는", 1: "The", 2: "⟨EC⟩", 3: "·망했어", 4: "·summer", 5: "<|im_end|>"}
MADE_UP = Comparison(
    *("smollm2-135m", 34, 1, 60, True, True),
    (
        Measured(
            reply("greedy", "greedy", "이번 여름 휴가는 망했어."), -8.25, -0.69, 0.22, 0.58, 0.73
        ),
        Measured(
            reply(
                "beam of 4", "beam", "It rained.\n\nThen it rained again.", tree=TREE, score=-0.35
            ),
            *(-5.5, -0.51, 0.0, 0.71, 0.93),
        ),
        Measured(
            reply("sample 1.5", "sample", "iceless \x1b[31mfurther " * 9, finish="length"),
            *(-565.6, -9.43, None, 0.96, 0.98),
        ),
    ),
)


def test_screens_of_a_comparison() -> None:
    check_screens("compare", lambda width, _colour: view.rows(MADE_UP, width))
    stopped = Measured(reply("greedy", "greedy", "", finish="interrupted"), *[None] * 5)
    cut = replace(MADE_UP, whole=False, rows=(stopped,))
    check_screens("compare-stopped", lambda width, _colour: view.rows(cut, width))


def test_screens_of_a_tree() -> None:
    check_screens("tree", lambda width, _colour: view.tree_rows(TREE, LABELS, width))
    assert view.tree_rows((), LABELS, 80) == []
    text = shown(view.tree_rows(TREE, LABELS, 80, steps=2), plain=True)
    assert "--steps 4" in text
    assert "im_end" not in text


def test_a_deep_tree_keeps_its_words() -> None:
    deep = tuple(considered(step, 3, -0.1, "lived", row=0, best=True) for step in range(1, 61))
    text = shown(view.tree_rows(deep, LABELS, 60, steps=60), plain=True)
    assert text.count("망했어") == 60


# -- the command ----------------------------------------------------------------------------------


def test_the_command_compares(tmp_path: Path, home: Path) -> None:
    from chatbot.cli import cli

    folder = make_gpt(tmp_path / "tiny")
    arguments = ["--model", str(folder), "--max-tokens", "4", "--temperatures", "0.5", "The cat"]
    arguments = ["compare", "--beams", "2", *arguments]
    told = CliRunner().invoke(cli, ["--set", "max_tokens=4", *arguments, "--tree", "--steps", "2"])
    assert told.exit_code == 0, told.output
    for part in ("greedy", "beam of 2", "sample 0.5", "dist-2", "the beam's tree"):
        assert part in told.stdout
    row = json.loads(CliRunner().invoke(cli, [*arguments, "--json"]).stdout)
    assert [each["tokens"] <= 4 for each in row["replies"]] == [True] * 3
    assert "tree" not in row["replies"][1]
    refused = CliRunner().invoke(cli, [*arguments, "--temperatures", "warm"])
    assert isinstance(refused.exception, BadInput)
    assert not isinstance(CliRunner().invoke(cli, ["compare", " "]).exception, SystemExit)


def test_the_command_of_the_chat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = opinionated()
    monkeypatch.setattr(Glass, "open", lambda name: Glass(name, engine.model, engine.tokenizer))
    settings = load_settings(tmp_path / "home", model="tiny", recall=False)
    settings.decoding = replace(settings.decoding, max_tokens=4)
    chat = Chat(Memory(settings.database, LetterEmbedder), settings, lambda name: engine)
    session = Session(chat)
    asked = "--max-tokens 4 --beams 2 --temperatures 0.5"
    with pytest.raises(BadInput, match="no reply yet"):
        session.run(f"/compare {asked}")
    told = session.run(f"/compare The cat {asked} --tree --steps 2")
    for part in ("greedy…", "beam of 2…", "sample 0.5…", "dist-2", "the beam's tree"):
        assert part in told
    session.say("Hello")
    assert chat.last is not None
    read = list(engine._reading.ids)
    assert f"a prompt of {chat.last.window.tokens} tokens" in session.run(f"/compare {asked}")
    assert engine._reading.ids == read
    with pytest.raises(BadInput, match="--beams"):
        session.run("/compare Hello --beams none")
    chat.memory.close()
