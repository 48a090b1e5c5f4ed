"""The limits: scores against plain passes, rounding against formats, screens against snapshots."""

import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from chatbot.context import SYSTEM
from chatbot.engines import Message
from chatbot.insight import limits_view as view
from chatbot.insight.glass import Glass
from chatbot.insight.limits import (
    Answered,
    CommonSense,
    Distance,
    Limits,
    Rounded,
    Watch,
    ask,
    edge,
    reply_ids,
    score,
    wilson,
)
from chatbot.insight.questions import ENGLISH, FACTS, KOREAN
from chatbot.insight.weights import KINDS, Format, Kind, formats, round_weight, rounded
from chatbot.models import ModelFiles
from tests.chatbot.insight.screens import check_screens, check_text
from tests.chatbot.tiny import CHATML, GEMMA, MISTRAL, chat_like, tiny_gpt2, tiny_llama

ASKED = [Message("system", SYSTEM), Message("user", ENGLISH[0].text)]


def tiny(window: int = 2048, template: str | None = CHATML) -> Glass:
    tokenizer = chat_like("gpt2", template)
    return Glass("tiny", tiny_llama(len(tokenizer), window=window), tokenizer)


def plain_sum(glass: Glass, prompt: list[int], ids: list[int]) -> float:
    """The log-probability of `ids` by a plain forward pass over everything."""
    with torch.inference_mode():
        logits = glass.model(torch.tensor([prompt + ids])).logits[0].float()
    logprobs = logits[len(prompt) - 1 : -1].log_softmax(-1)
    return float(logprobs[range(len(ids)), ids].sum())


# -- common sense ---------------------------------------------------------------------------------


def test_there_are_31_questions_in_both_languages() -> None:
    assert len(ENGLISH) == len(KOREAN) == 31
    for english, korean in zip(ENGLISH, KOREAN, strict=True):
        assert len(english.replies) == len(korean.replies) == len(set(english.replies))
        assert len(set(korean.replies)) == len(korean.replies)
    denied = [one for one in ENGLISH if one.replies[0].split()[0] in ("No", "No,")]
    assert len(denied) < 16


@pytest.mark.parametrize("question", [ENGLISH[0], KOREAN[0], ENGLISH[24]])
def test_a_replys_score_is_that_of_a_plain_pass(question: object) -> None:
    glass = tiny()
    assert isinstance(question, type(ENGLISH[0]))
    before = [Message("system", SYSTEM), Message("user", question.text)]
    prompt = glass.encoder.encode(before)
    for text, logprob in zip(question.replies, score(glass, question), strict=True):
        ids = reply_ids(glass.encoder, before, text)
        assert ids[-1] in glass.encoder.ends
        assert glass.decode(ids[:-1]) == text
        assert logprob == pytest.approx(plain_sum(glass, prompt, ids), abs=1e-3)


@pytest.mark.parametrize("template", [CHATML, MISTRAL, GEMMA, None])
def test_replies_are_as_the_template_writes_them(template: str | None) -> None:
    glass = tiny(template=template)
    ids = reply_ids(glass.encoder, ASKED, "The sun has no feet.")
    assert "The sun has no feet." in glass.decode(ids)
    assert "user" not in glass.decode(ids).lower()


def test_answers_say_which_is_likeliest() -> None:
    glass = tiny()
    (answer, *_) = ask(glass, ENGLISH[:1], Watch())
    assert sum(answer.probabilities) == pytest.approx(1)
    assert answer.right == (answer.likeliest == answer.replies[0])


def test_wilsons_interval() -> None:
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson(0, 31)[0] == 0
    assert wilson(31, 31)[1] == pytest.approx(1)


# -- the window's edge ----------------------------------------------------------------------------


def test_facts_leave_when_the_window_is_full() -> None:
    glass = tiny()
    found = list(edge(glass, Watch()))
    assert [one.kept for one in found] == [True] * 4 + [False]
    assert [one.said for one in found] == sorted(one.said for one in found)
    assert found[-1].said > glass.window * 0.75 >= found[-2].said
    assert all(one.shown <= glass.window for one in found)
    assert all(one.shown == one.said for one in found[:-1])
    assert all(0 <= one.right <= len(FACTS) == one.asked for one in found)


def test_the_edge_can_be_stopped() -> None:
    stop = threading.Event()
    stop.set()
    assert list(edge(tiny(), Watch(stop=stop))) == []


# -- weights --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_rounding_is_undone(kind: Kind) -> None:
    for model in (tiny().model, tiny_gpt2(100)):
        before = {name: weight.clone() for name, weight in model.named_parameters()}
        with rounded(model, kind):
            changed = {
                name
                for name, weight in model.named_parameters()
                if not torch.equal(weight, before[name])
            }
            assert changed
            assert not any("embed" in name or "norm" in name for name in changed)
        for name, weight in model.named_parameters():
            assert torch.equal(weight, before[name])


def test_rounding_is_that_of_the_formats() -> None:
    torch.manual_seed(1)
    weight = torch.randn(8, 80)  # two groups and a half
    eight = round_weight(weight, "int8")
    steps = weight.abs().amax(1, keepdim=True) / 127
    assert ((eight - weight).abs() <= steps / 2 + 1e-6).all()
    for kind in ("q4_0", "q4_1"):
        four = round_weight(weight, kind)  # type: ignore[arg-type]
        for group in four.split(32, 1):
            assert all(len(row.unique()) <= 16 for row in group)
    once = round_weight(weight, "q4_1")
    assert torch.allclose(round_weight(once, "q4_1"), once, atol=2e-3)
    assert torch.equal(round_weight(torch.zeros(2, 32), "q4_0"), torch.zeros(2, 32))
    assert torch.equal(round_weight(torch.zeros(2, 32), "q4_1"), torch.zeros(2, 32))


def test_formats_take_what_the_shapes_say(tmp_path: Path) -> None:
    model = tiny().model
    model.save_pretrained(tmp_path)
    files = ModelFiles("tiny", tmp_path, "folder")
    parameters = sum(weight.numel() for weight in model.parameters())
    found = {one.name: one for one in formats(model, files)}
    assert found["float32"].computed == 4 * parameters
    assert found["bfloat16"].computed == 2 * parameters
    assert parameters < found["int8 weights"].computed < 2 * parameters
    assert parameters / 2 < found["4 bits (GGUF Q4_1)"].computed < found["int8 weights"].computed


# -- screens --------------------------------------------------------------------------------------

ANSWERS = (
    Answered("How many feet does the sun have?", ("no", "two"), (-9.0, -8.0), "It has\n1 * foot."),
    Answered("태양에는 발이 몇 개 있지?", ("없습니다", "두 개"), (-1.0, -8.0), "없습니다."),
)
MADE_UP = Limits(
    *("smollm2-135m", True, 8192, 134_515_008, 269_060_552),
    CommonSense("en", ANSWERS),
    (Distance(412, 412, True, 4, 4, 0.98), Distance(8460, 5432, False, 1, 4, 0.24)),
    (Format("float32", 538_000_000, 561_000_000), Format("int8 weights", 163_000_000)),
    (Rounded("int8, a scale a row", 0.03, 31, 12, 31), Rounded("4 bits", 0.02, 31, 12, 31)),
)


def test_screens_of_the_limits() -> None:
    check_screens("limits", lambda width, _colour: view.rows(MADE_UP, width))
    stopped = replace(MADE_UP, whole=False, exact=False, distances=(), formats=(), rounding=())
    check_screens("limits-stopped", lambda width, _colour: view.rows(stopped, width))


def test_the_page_of_the_limits() -> None:
    check_text("limits-page", view.markdown(MADE_UP))


def test_the_command_prints_json(tmp_path: Path, home: Path) -> None:
    from chatbot.cli import cli

    glass = tiny()
    glass.model.save_pretrained(tmp_path / "tiny")
    glass.tokenizer.save_pretrained(tmp_path / "tiny")
    arguments = ["limits", "--model", str(tmp_path / "tiny"), "--language", "ko", "--json"]
    told = CliRunner().invoke(cli, arguments)
    assert told.exit_code == 0, told.output
    row = json.loads(told.stdout)
    assert row["common_sense"]["asked"] == 31
    assert len(row["distances"]) == 5
    assert row["common_sense"]["chance"] == pytest.approx(11 / 31)
