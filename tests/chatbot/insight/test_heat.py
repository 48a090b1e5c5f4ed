"""A reply coloured by probability: the numbers are a plain forward pass's, the rows are kept."""

import math
from collections.abc import Sequence

import pytest
import torch

from chatbot.engines import Message
from chatbot.insight.glass import Glass
from chatbot.insight.heat import LIKELY, Heat, Token, heat_rows, measure
from chatbot.insight.influence import said
from chatbot.screen import columns
from tests.chatbot.insight.screens import check_screens, shown
from tests.chatbot.tiny import CHATML, chat_like, tiny_llama

MADE_UP = [
    ("Your", "Your", 0.62, (("The", 0.2), ("I", 0.1), ("It", 0.01))),
    ("·cat", " cat", 0.99, (("·pet", 0.004),)),
    ("·is", " is", 0.71, (("'s", 0.2), ("·was", 0.05))),
    ("·called", " called", 0.34, (("·named", 0.61), ("·a", 0.01))),
    ("·Momo", " Momo", 0.88, (("·M", 0.02),)),
    (",", ",", 0.12, ((".", 0.8), ("·and", 0.03))),
    ("·⟨EB⟩⟨AA⟩", " ", 0.03, (("·which", 0.4), ("·or", 0.2), ("·in", 0.05))),
    ("모", "모", 0.9, ()),
    ("모", "모", 0.97, ()),
    (".", ".", 0.8, (("!", 0.1),)),
    ("↵↵", "\n\n", 0.45, (("·She", 0.3), ("⟨<|im_end|>⟩", 0.2))),
    *(("·sleeps", " sleeps", chance, ()) for chance in (0.0004, 0.2, 0.4, 0.55, 0.7, 0.8, 1.0)),
    ("·on·the·radiator", " on the radiator", 0.6, ()),
    *(("고양이", "고양이", chance, ()) for chance in (0.9, 0.2, 0.5, 0.99, 0.01, 0.6)),
]


def made_up() -> Heat:
    rows = [(label, text, math.log(chance), runners) for label, text, chance, runners in MADE_UP]
    return Heat(tuple(Token(*row) for row in rows))


def test_screens() -> None:
    check_screens("heat", lambda width, colour: heat_rows(made_up(), width, colour=colour))


@pytest.mark.parametrize("width", [20, 31, 80])
def test_no_row_is_too_wide_and_no_text_is_lost(width: int) -> None:
    rows = [*heat_rows(made_up(), width, colour=True)]
    text = rows[: rows.index([])]
    assert all(columns("".join(part for _, part in row)) <= width for row in rows)
    said_ = "".join(part for row in text for _, part in row).replace(" ", "")
    assert said_ == "".join(text for _, text, *_ in MADE_UP).replace(" ", "").replace("\n", "↵")


def test_shades_stand_under_their_words() -> None:
    lines = shown(heat_rows(made_up(), 80, colour=False), plain=True).splitlines()
    at = columns(lines[0].partition("called")[0])
    assert lines[1][at : at + 6] == "▓" * 6
    assert lines[1][: len("Your cat")] == "░" * 4 + " " * 4


def test_a_character_of_two_tokens_is_as_likely_as_both() -> None:
    half = Token("⟨EB⟩", "", math.log(0.5), ())
    rest = Token("모", "모", math.log(0.4), ())
    lines = shown(heat_rows(Heat((half, rest)), 80, colour=False), plain=True).splitlines()
    assert lines[:2] == ["모", "█" * 2]  # 1 - 0.2


def plain(glass: Glass, ids: Sequence[int]) -> torch.Tensor:
    """Log-probabilities by a plain forward pass, (T, V)."""
    with torch.inference_mode():
        out = glass.model(torch.tensor([list(ids)]), use_cache=False)
    scores: torch.Tensor = out.logits[0].float().log_softmax(-1)
    return scores


def test_numbers_are_a_plain_forward_passs() -> None:
    tokenizer = chat_like("gpt2", CHATML)
    glass = Glass("tiny", tiny_llama(len(tokenizer)), tokenizer)
    asked = [Message("user", "날씨가 어때?")]
    window, reply = said(glass.encoder, asked, "오늘 날씨가 좋네요. 😀 The fox")
    heat = measure(glass, window, reply)
    scores = plain(glass, [*window, *reply])
    for place, (token, id_) in enumerate(zip(heat.tokens, reply, strict=True)):
        row = scores[len(window) + place - 1]
        assert token.log_probability == pytest.approx(float(row[id_]), abs=1e-4)
        best = [other for other in row.topk(4).indices.tolist() if other != id_][:3]
        assert [label for label, _ in token.runners] == glass.labels(best)
        shares = [share for _, share in token.runners]
        assert shares == pytest.approx([math.exp(float(row[other])) for other in best], abs=1e-4)
    assert "".join(token.text for token in heat.tokens) == "오늘 날씨가 좋네요. 😀 The fox"
    mean = sum(token.log_probability for token in heat.tokens) / len(reply)
    assert heat.log_probability == pytest.approx(mean)
    assert heat.perplexity == pytest.approx(math.exp(-mean))


def test_what_surprises_is_told_in_order_and_not_at_length() -> None:
    heat = made_up()
    found = heat.surprising(3)
    assert [token.label for token in found] == ["·⟨EB⟩⟨AA⟩", "·sleeps", "고양이"]
    assert len(heat.surprising(100)) == sum(chance < LIKELY for _, _, chance, _ in MADE_UP)


def test_the_built_in_model_is_surer_of_what_stands_in_its_window(glass: Glass) -> None:
    asked = [Message("user", "My cat is called Momo. What is my cat called?")]
    right, wrong = (
        measure(glass, *said(glass.encoder, asked, f"Your cat is called {name}."))
        for name in ("Momo", "Helmut")
    )
    assert right.perplexity < wrong.perplexity
    assert any("Hel" in token.label for token in wrong.surprising())
