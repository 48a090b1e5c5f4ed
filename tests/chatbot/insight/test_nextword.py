"""The next word and candidates: numbers against plain forward passes, screens against snapshots."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chatbot.errors import BadInput, ModelFault
from chatbot.insight import nextword_view, slash
from chatbot.insight.glass import Glass
from chatbot.insight.nextword import (
    Candidate,
    Layer,
    NextWord,
    Token,
    compare,
    explain,
    explain_ids,
    gap,
    has_gap,
)
from chatbot.screen import columns
from tests.chatbot.insight.screens import check_screens, shown
from tests.chatbot.insight.test_glass import TINY, plain_log_probabilities, plain_logits
from tests.chatbot.scripted_chat import open_chat
from tests.chatbot.test_cli import good, line_of, run
from tests.chatbot.test_commands import Session

TALK = "코로나에 비까지 계속 오니 이번 여름 휴가는 ( )"
TALK_CANDIDATES = ["고마웠네", "망했어", "가볍다"]


# -- the next word --------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["The capital of France is", TALK, "태양에는 발이 몇 개"])
def test_the_likeliest_tokens_are_those_of_a_plain_forward_pass(glass: Glass, text: str) -> None:
    found = explain(glass, text, top=20)
    before = text.removesuffix(" ( )")
    plain = plain_logits(glass.model, glass.tokenizer(before).input_ids)[-1].softmax(-1)
    ids = [token.id for token in found.likeliest]
    assert ids == plain.topk(20).indices.tolist()
    for token in found.likeliest:
        assert token.probability == pytest.approx(float(plain[token.id]), abs=1e-4)
    assert found.text == before
    assert (found.chosen.id, found.rank) == (ids[0], 1)
    assert found.entropy == pytest.approx(-float((plain * plain.log2()).nansum()), abs=1e-3)


def test_a_text_goes_its_way_stage_by_stage(glass: Glass) -> None:
    found = explain(glass, "The capital of France is")
    assert found.words == ("The", "capital", "of", "France", "is")
    assert found.labels == ("The", "·capital", "·of", "·France", "·is")
    assert found.shapes == {
        "tokens": (5,), "input": (5, 576), "hidden": (30, 5, 576), "logits": (49152,),
    }  # fmt: skip
    assert [layer.number for layer in found.layers] == list(range(31))
    embedded = glass.model.get_input_embeddings()(torch.tensor(found.ids[-1:]))[0].detach()
    assert found.layers[0].values == pytest.approx(embedded[:4].tolist())
    assert found.layers[0].length == pytest.approx(float(embedded.norm()))
    last = found.layers[-1]
    assert last.says is not None
    assert last.says.label == found.chosen.label == "·Paris"
    assert last.chosen == pytest.approx(found.chosen.probability, abs=1e-4)
    assert found.word.startswith("Paris")


def test_a_korean_word_of_many_tokens_is_written_out(glass: Glass) -> None:
    found = explain(glass, TALK)
    assert "⟨" in found.chosen.label and "⟨" not in found.word
    assert len(found.word.encode()) > 3 and found.word.isprintable()


def test_what_came_next_is_explained_even_if_unlikely(glass: Glass) -> None:
    ids = glass.encode("The capital of France is")
    found = explain_ids(glass, ids, glass.encode(" London, I think"))
    assert (found.chosen.label, found.word) == ("·London", "London,")
    assert 5 < found.rank < 100  # the trained weights move it
    with pytest.raises(BadInput, match="reply is empty"):
        explain_ids(glass, ids, [])


@pytest.mark.parametrize("name", TINY)
def test_every_family_is_explained_with_its_lens(name: str) -> None:
    found = explain(TINY[name], "The quick brown fox", top=5)
    last = found.layers[-1]
    assert len(found.layers) == 3 and len(found.likeliest) == 5
    assert last.says is not None and last.says.id == found.likeliest[0].id
    assert last.says.probability == pytest.approx(found.likeliest[0].probability, abs=1e-5)


def test_a_lens_that_does_not_fit_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    lens = Glass.lens
    monkeypatch.setattr(Glass, "lens", lambda self, hidden: 2 * lens(self, hidden))
    found = explain(TINY["gpt2"], "The quick brown fox")
    assert {layer.says for layer in found.layers} == {None}
    monkeypatch.setattr(Glass, "lens", _no_lens)
    found = explain(TINY["gpt2"], "The quick brown fox")
    assert {layer.says for layer in found.layers} == {None}
    assert "No lens fits" in shown(nextword_view.explained(found, 80), plain=True)


def _no_lens(glass: Glass, hidden: torch.Tensor) -> torch.Tensor:
    raise ModelFault("no lens fits it")


# -- candidates -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "before", "after"),
    [
        (TALK, TALK.removesuffix("( )"), ""),
        ("휴가는 (  ) 그래서 슬프다", "휴가는 ", " 그래서 슬프다"),
        ("the [MASK] sat", "the ", " sat"),
        ("the ___ sat", "the ", " sat"),
        ("and then…", "and then", ""),
        ("and then ...", "and then ", ""),
    ],
)
def test_gaps(text: str, before: str, after: str) -> None:
    assert has_gap(text)
    assert gap(text) == (before, after)


def test_what_is_no_gap() -> None:
    assert not any(map(has_gap, ["call f()", "(a)", "well… yes", "snake_case", "[x]"]))
    with pytest.raises(BadInput, match="2 gaps"):
        gap("( ) and ( )")


@pytest.mark.parametrize(
    ("text", "candidates", "joined"),
    [
        (TALK, TALK_CANDIDATES, [TALK.replace("( )", word) for word in TALK_CANDIDATES]),
        (
            "The capital of France is",
            ["Paris", "a very large city", "!"],
            [
                "The capital of France is Paris",
                "The capital of France is a very large city",
                "The capital of France is!",
            ],
        ),
        ("우리는 휴가( ) 갔다", ["를", "에서"], ["우리는 휴가를", "우리는 휴가에서"]),
    ],
)
def test_scores_are_sums_of_plain_log_probabilities(
    glass: Glass, text: str, candidates: list[str], joined: list[str]
) -> None:
    found = {each.text: each for each in compare(glass, text, candidates)}
    read = [glass.tokenizer(each).input_ids for each in joined]
    sums, means = [], []
    for candidate, ids in zip(candidates, read, strict=True):
        count = len(found[candidate].log_probabilities)
        plain = plain_log_probabilities(glass.model, ids[:-count], ids[-count:])
        assert found[candidate].log_probability == pytest.approx(float(plain.sum()), abs=1e-3)
        assert found[candidate].mean == pytest.approx(float(plain.mean()), abs=1e-4)
        assert list(found[candidate].labels) == glass.labels(ids[-count:])
        sums.append(plain.sum())
        means.append(plain.mean())
    begins = {len(ids) - len(found[c].labels) for c, ids in zip(candidates, read, strict=True)}
    assert len(begins) == 1  # all are scored from the same place on
    for candidate, share, mean in zip(
        candidates, torch.stack(sums).softmax(0), torch.stack(means).softmax(0), strict=True
    ):
        assert found[candidate].share == pytest.approx(float(share), abs=1e-3)
        assert found[candidate].share_by_mean == pytest.approx(float(mean), abs=1e-3)


def test_the_likeliest_comes_first(glass: Glass) -> None:
    found = compare(glass, "The capital of France is ( ).", ["London", "Paris", "Seoul"])
    assert found[0].text == "Paris"
    assert [each.share for each in found] == sorted((each.share for each in found), reverse=True)
    assert sum(each.share for each in found) == pytest.approx(1)
    assert sum(each.share_by_mean for each in found) == pytest.approx(1)


def test_a_joint_that_tokens_cross_is_scored_for_all_alike(glass: Glass) -> None:
    """ "is " ends in a token of its own; " Paris" takes the space, "!" doesn't."""
    alone = glass.labels(glass.encode("France is "))
    assert alone[-1] == "·"
    found = {each.text: each for each in compare(glass, "France is ( )", ["Paris", " !"])}
    assert found["Paris"].labels == ("·Paris",)
    assert found[" !"].labels[0].startswith("·")


def test_a_candidate_that_begins_like_another(glass: Glass) -> None:
    found = {each.text: each for each in compare(glass, TALK, ["가", "가볍다"])}
    assert found["가"].log_probabilities == pytest.approx(
        found["가볍다"].log_probabilities[: len(found["가"].labels)], abs=1e-4
    )
    assert found["가"].log_probability > found["가볍다"].log_probability


@settings(deadline=None, max_examples=20)
@given(st.sets(st.sampled_from(["ox", " jumps", "안녕", "하세요.", "q", "é"]), min_size=1))
def test_any_candidates_are_scored_as_a_plain_pass_would(words: set[str]) -> None:
    looking = TINY["gpt2"]
    for each in compare(looking, "The quick brown f( )", sorted(words)):
        ids = looking.tokenizer("The quick brown f" + each.text).input_ids
        count = len(each.labels)
        plain = plain_log_probabilities(looking.model, ids[:-count], ids[-count:])
        assert each.log_probability == pytest.approx(float(plain.sum()), abs=1e-3)


def test_candidates_without_a_context_are_refused(glass: Glass) -> None:
    with pytest.raises(BadInput, match="too little stands before"):
        compare(glass, "( ) is big", ["Paris"])
    with pytest.raises(BadInput, match="no candidates"):
        compare(glass, TALK, [])
    with pytest.raises(BadInput, match="before the gap"):
        explain(glass, "( ) is big")


# -- screens --------------------------------------------------------------------------------------

FOUND = NextWord(
    model="tiny-gpt",
    text="이번 여름 휴가는",
    words=("이번", "여름", "휴가는"),
    ids=tuple(range(180, 200)),
    labels=("⟨EC⟩", "⟨9D⟩", "이", "번", "·여", "름", "·⟨ED⟩⟨9C⟩", "휴", "가", "는") * 2,
    shapes={"tokens": (20,), "input": (20, 576), "hidden": (3, 20, 576), "logits": (49152,)},
    layers=(
        Layer(0, (0.074, 0.155, -0.031, -0.159), 3.28, Token(7, "는", 1.0), 0.0),
        Layer(1, (-2.95, 1.04, 0.35, -6.71), 50.3, Token(8, "orphy", 0.16), 2e-9),
        Layer(2, (-10.13, 13.84, -22.1, 0.0), 459.7, Token(9, "·아주아주아주긴토큰", 0.805), 0.11),
        Layer(3, (2.17, -16.1, -9.14, 8.25), 1059.7, Token(10, "·망했어", 0.292), 0.292),
    ),
    likeliest=(
        Token(10, "·망했어", 0.292),
        Token(11, "·the", 0.2),
        Token(12, "↵", 0.011),
        Token(13, "<|im_end|>", 1e-5),
    ),
    entropy=4.54,
    chosen=Token(10, "·망했어", 0.292),
    rank=1,
    word="망했어.",
)
SCORED = [
    Candidate("망했어", ("·망", "했어"), (-1.5, -2.25), 0.949, 0.54),
    Candidate("a very long candidate that takes all the room there is on a line of a screen",
              ("·a",) * 16, (-1.25,) * 16, 0.05, 0.26),
    Candidate("가볍다", ("가", "볍", "다"), (-8.0, -7.5, -9.125), 0.0001, 0.2),
]  # fmt: skip


def test_the_screen_of_the_next_word() -> None:
    check_screens("explain", lambda width, colour: nextword_view.explained(FOUND, width))


def test_the_screen_of_candidates() -> None:
    check_screens("candidates", lambda width, colour: nextword_view.compared(SCORED, TALK, width))


def test_an_unlikely_choice_is_shown_below_the_likeliest() -> None:
    from dataclasses import replace

    found = replace(FOUND, chosen=Token(99, "·고마웠네", 0.0001), rank=1234, word="고마웠네")
    text = shown(nextword_view.explained(found, 80), plain=True)
    assert "1,234  ·고마웠네" in text
    assert "(<0.1 %, number 1,234), which begins: 고마웠네" in text


@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_real_thing_fits(glass: Glass, width: int) -> None:
    for rows in (
        nextword_view.explained(explain(glass, TALK), width),
        nextword_view.compared(compare(glass, TALK, TALK_CANDIDATES), TALK, width),
    ):
        lines = shown(rows, plain=True).splitlines()
        assert all(columns(line) <= width for line in lines)


# -- the shell ------------------------------------------------------------------------------------


def test_explain_in_the_shell(home: Path) -> None:
    text = good(home, "explain", TALK, "--candidates", ",".join(TALK_CANDIDATES), "--top", "3")
    assert "30 × 53 × 576" in text and "Which is the likelier?" in text
    assert "\x1b" not in text
    row = json.loads(
        good(home, "explain", "--json", "--candidates", "Paris, London,", "-",
             stdin="The capital of France is\n")
    )  # fmt: skip
    assert [each["candidate"] for each in row["candidates"]] == ["Paris", "London"]
    assert row["chosen"]["text"] == "·Paris" and row["chosen"]["rank"] == 1
    assert 0.5 < row["likeliest"][0]["probability"] < 0.8
    assert len(row["layers"]) == 31 and row["shapes"]["hidden"] == [30, 5, 576]


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["explain", " "], 2, "the text is empty"),
        (["explain", "x", "--plot", "x.gif"], 2, ".png or .svg"),
        (["explain", "x", "--candidates", ","], 2, "names none"),
        (["--model", "openai:gpt", "explain", "x"], 1, "only a local model"),
    ],
)
def test_wrong_arguments_are_one_line(
    home: Path, arguments: list[str], code: int, complaint: str
) -> None:
    assert complaint in line_of(run(home, *arguments), code)


def test_without_matplotlib_there_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from chatbot.insight.cli import check_picture

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"--plot needs matplotlib: pip install 'chatbot-that-rem"):
        check_picture(Path("a.png"))


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_pictures_are_drawn(tmp_path: Path, ending: str) -> None:
    pytest.importorskip("matplotlib")
    from chatbot.insight.plot import draw_next_word

    file = tmp_path / f"next.{ending}"
    warning = draw_next_word(FOUND, SCORED, file)
    assert file.read_bytes()[:4] == (b"\x89PNG" if ending == "png" else b"<?xm")
    if ending == "svg":
        assert not warning
        assert "망했어" in file.read_text(encoding="utf-8")
    assert "matplotlib.pyplot" not in sys.modules
    with pytest.raises(BadInput, match="can't write"):
        draw_next_word(FOUND, [], tmp_path / "none" / f"next.{ending}")


# -- the chat -------------------------------------------------------------------------------------


@pytest.fixture
def session(tmp_path: Path, glass: Glass) -> Iterator[Session]:
    chat = open_chat(tmp_path / "home", {"replies": {"Hello": " Good morning."}})
    opened = Session(chat)
    slash._GLASSES[chat] = Glass("scripted", glass.model, glass.tokenizer)
    yield opened
    chat.memory.close()


def test_explain_in_the_chat(session: Session, tmp_path: Path) -> None:
    text = session.run(f"/explain {TALK} --candidates 망했어,가볍다 --top 3")
    assert "53" in text and "Which is the likelier?" in text and text.count("망했어") == 1
    session.say("Hello")
    text = session.run("/explain --top 2")
    assert "<|im_start|>" in text and "which begins: Good" in text


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("/explain", "no reply yet"),
        ("/explain x --top 0", "--top takes a number from 1 to 1000, not '0'"),
        ("/explain x --top", "--top needs a value"),
        ("/explain x --tpo 3", "no option --tpo: did you mean top"),
        ("/explain x --plot a.gif", ".png or .svg"),
        ("/explain --candidates a,b", "need a TEXT"),
    ],
)
def test_wrong_arguments_in_the_chat(session: Session, line: str, complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        session.run(line)


def test_options_in_a_slash_command() -> None:
    read = slash.options('a -- b --plot "my file.png" c --top=3', "plot", "top")
    assert read == ("a -- b c", {"plot": "my file.png", "top": "3"})
    assert slash.options("a--b --top 3", "top") == ("a--b", {"top": "3"})
    assert slash.options("줄\n둘", "top") == ("줄\n둘", {})


def test_the_glass_is_kept_until_the_model_changes(
    session: Session, glass: Glass, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert slash.glass(session) is slash._GLASSES[session.chat]
    assert session.file.getvalue() == ""
    session.chat.settings.model = "openai:gpt"
    with pytest.raises(ModelFault, match="only a local model"):
        slash.glass(session)
    session.chat.settings.model = "other"
    monkeypatch.setattr(Glass, "open", lambda name: Glass(name, glass.model, glass.tokenizer))
    assert slash.glass(session).name == "other"
    assert slash.glass(session) is slash.glass(session)
    assert session.file.getvalue().count("looking inside other") == 1
