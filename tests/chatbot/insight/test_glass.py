"""The glass shows what transformers computes: the built-in GPT, and tiny ones of two families."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from chatbot.errors import BadInput, ModelFault, WindowFull
from chatbot.insight.glass import WIDEST, Glass
from tests.chatbot.checkpoints import make_gpt
from tests.chatbot.tiny import (
    CHATML,
    chat_like,
    gpt2_like,
    llama_like,
    t5_like,
    tiny_gpt2,
    tiny_llama,
    tiny_mistral,
)

ENGLISH = [
    "The capital of France is",
    "Once upon a time there was a",
    "Two plus two is",
    "My dog is called Biscuit.",
    "How many feet does the sun have?",
    "It rained all summer, so our holiday was",
    "import numpy as",
    "She opened the door and saw",
    "Water boils at a hundred",
    "The quick brown fox jumps over the lazy",
    "I forgot my umbrella and got",
    "To be, or not to be, that is the",
    "Late at night he ordered",
    "The recipe needs flour, sugar and",
    "A transformer is made of layers of",
    "naïve café, 10 €",
    "Emoji: 😀 and",
    "def add(a, b):\n    return",
    "1, 1, 2, 3, 5, 8,",
    "Dear Sir or Madam,",
    "The moon is made of",
    "Why did the chicken cross the",
    "It was the best of times, it was the worst of",
    "x",
    "<|im_start|>user",
]
KOREAN = [
    "코로나에 비까지 계속 오니 이번 여름 휴가는",
    "태양에는 발이 몇 개 있지?",
    "대한민국의 수도는",
    "야식은 치킨 다음에",
    "오늘 날씨가 참",
    "우리 강아지 이름은",
    "옛날 옛적에 한 마을에",
    "하나, 둘, 셋,",
    "안녕하세요, 저는",
    "물은 백 도에서",
    "아버지가 방에",
    "내일은 회사에",
    "고양이가 창가에서",
    "이 영화는 정말",
    "커피를 너무 많이 마셔서",
    "지하철이 늦게 와서",
    "가는 말이 고와야 오는 말이",
    "인공지능은 사람의 말을",
    "사과 세 개와 배 두 개를",
    "어제 저녁에는 족발을",
    "비가 와서 우산을",
    "GPT는 다음 단어를",
    "삼월 초에 벚꽃이",
    "나는 한국어를",
    "네",
]


def plain_logits(model: PreTrainedModel, ids: list[int]) -> Tensor:
    """A plain forward pass of transformers: (T, V)."""
    with torch.inference_mode():
        logits: Tensor = model(torch.tensor([ids]), use_cache=False).logits[0]
    return logits.float()


def tiny_glasses() -> dict[str, Glass]:
    """A llama, a GPT-2 and a model with sliding attention, with tokenizers of their own."""
    chat, gpt2 = chat_like("gpt2", CHATML), gpt2_like()
    return {
        "llama": Glass("llama", tiny_llama(len(chat)), chat),
        "gpt2": Glass("gpt2", tiny_gpt2(len(gpt2)), gpt2),
        "mistral": Glass("mistral", tiny_mistral(len(chat), sliding=6), chat),
    }


TINY = tiny_glasses()
TEXT = "The quick brown fox 안녕하세요."


# -- text and tokens ------------------------------------------------------------------------------


def test_a_text_becomes_what_the_models_own_tokenizer_makes_of_it(glass: Glass) -> None:
    for text in ENGLISH[:-1] + KOREAN:
        assert glass.encode(text) == glass.tokenizer(text).input_ids
        assert glass.decode(glass.encode(text)) == text


def test_control_tokens_in_a_text_are_letters(glass: Glass) -> None:
    ids = glass.encode("<|im_start|>user")
    assert not {*ids} & {*glass.tokenizer.all_special_ids}
    assert glass.decode(ids) == "<|im_start|>user"


def test_a_model_with_a_start_of_its_own_gets_it() -> None:
    tokenizer = llama_like()
    tokenizer.add_bos_token = True
    looking = Glass("tiny", tiny_llama(len(tokenizer)), tokenizer)
    assert looking.encode("the box") == tokenizer("the box").input_ids


def test_labels_show_spaces_and_the_last_byte_of_a_character_shows_it(glass: Glass) -> None:
    assert glass.labels(glass.encode("The capital\n is")) == ["The", "·capital", "↵", "·is"]
    assert glass.labels(glass.encode("코로")) == ["⟨EC⟩", "⟨BD⟩", "코", "⟨EB⟩", "⟨A1⟩", "로"]
    assert glass.labels(glass.encode("코로")[:4]) == ["⟨EC⟩", "⟨BD⟩", "코", "⟨EB⟩"]
    assert glass.labels(glass.encode("코로")[1:4]) == ["⟨BD⟩", "⟨94⟩", "⟨EB⟩"]
    assert glass.labels([1, 2, 10**9]) == ["<|im_start|>", "<|im_end|>", "⟨1000000000⟩"]


@pytest.mark.parametrize("make", [gpt2_like, llama_like, t5_like])
def test_labels_of_every_kind_of_tokenizer_add_up_to_the_text(make: Callable[[], Any]) -> None:
    tokenizer = make()
    looking = Glass("tiny", tiny_llama(len(tokenizer)), tokenizer)
    labels = "".join(looking.labels(looking.encode("the box")))
    assert labels.replace("·", " ").strip() == "the box"


def test_empty_and_too_long_texts_are_refused() -> None:
    looking = TINY["gpt2"]
    with pytest.raises(BadInput, match="empty"):
        looking.encode("")
    with pytest.raises(WindowFull, match=r"takes \d+ tokens, gpt2 sees 256"):
        looking.encode("x y " * 300)
    with pytest.raises(WindowFull):
        looking.read([1] * 257)


# -- looking --------------------------------------------------------------------------------------


@pytest.mark.parametrize("texts", [ENGLISH, KOREAN], ids=["English", "Korean"])
def test_probabilities_are_those_of_a_plain_forward_pass(glass: Glass, texts: list[str]) -> None:
    assert len(set(texts)) == 25
    for text in texts:
        ids = glass.encode(text)
        seen = glass.read(ids, hidden=True).logits.softmax(-1)
        plain = plain_logits(glass.model, ids).softmax(-1)
        assert seen.shape == (len(ids), len(plain[0]))
        assert float((seen - plain).abs().max()) < 1e-4


@pytest.mark.parametrize("name", TINY)
def test_hidden_vectors_begin_with_the_input_and_end_before_the_norm(name: str) -> None:
    looking = TINY[name]
    ids = looking.encode(TEXT)
    seen = looking.read(ids, hidden=True)
    assert seen.hidden is not None and seen.attention is None
    assert seen.hidden.shape == (3, len(ids), 32)
    given = looking.model(torch.tensor([ids]), output_hidden_states=True).hidden_states
    torch.testing.assert_close(seen.hidden[:-1], torch.stack(given[:-1])[:, 0])
    assert not torch.allclose(seen.hidden[-1], given[-1][0])  # transformers' last is normed
    torch.testing.assert_close(looking.lens(seen.hidden[-1]), seen.logits, atol=1e-5, rtol=0)


def test_the_lens_of_the_last_layer_gives_the_true_logits(glass: Glass) -> None:
    seen = glass.read(glass.encode(KOREAN[0]), hidden=True)
    assert seen.hidden is not None
    assert len(seen.hidden) == 31
    torch.testing.assert_close(glass.lens(seen.hidden[-1]), seen.logits, atol=1e-3, rtol=0)
    assert not torch.allclose(glass.lens(seen.hidden[-2]), seen.logits, atol=1)


@pytest.mark.parametrize("name", TINY)
def test_only_the_last_rows_are_the_last_of_all(name: str) -> None:
    looking = TINY[name]
    ids = looking.encode(TEXT)
    whole, few = looking.read(ids, hidden=True), looking.read(ids, hidden=True, last=2)
    assert whole.hidden is not None and few.hidden is not None
    torch.testing.assert_close(few.logits, whole.logits[-2:])
    torch.testing.assert_close(few.hidden, whole.hidden[:, -2:])


@pytest.mark.parametrize("name", TINY)
def test_attention_is_shown_and_the_kernel_put_back(name: str) -> None:
    looking = TINY[name]
    before = looking.model.config._attn_implementation
    ids = looking.encode(TEXT)
    seen = looking.read(ids, attention=True)
    assert seen.attention is not None
    assert seen.attention.shape[2:] == (len(ids), len(ids))
    torch.testing.assert_close(seen.attention.sum(-1), torch.ones(seen.attention.shape[:3]))
    assert looking.model.config._attn_implementation == before
    torch.testing.assert_close(seen.logits, looking.read(ids).logits, atol=1e-5, rtol=0)


def test_attention_over_very_many_tokens_is_refused(glass: Glass) -> None:
    with pytest.raises(ModelFault, match=f"over {WIDEST + 1} tokens"):
        glass.read([5] * (WIDEST + 1), attention=True)


def test_the_likeliest_tokens_follow_as_in_a_plain_forward_pass() -> None:
    for looking in TINY.values():
        ids = looking.encode("The fox")
        for token, _ in zip(looking.follow(list(ids)), range(12), strict=False):
            assert token == int(plain_logits(looking.model, ids)[-1].argmax())
            ids.append(token)


def test_following_ends_with_the_window() -> None:
    looking = TINY["gpt2"]
    assert len(list(looking.follow([5] * 250))) == 6


# -- how likely a text is -------------------------------------------------------------------------


def plain_log_probabilities(model: PreTrainedModel, prompt: list[int], reply: list[int]) -> Tensor:
    logits = plain_logits(model, prompt + reply).log_softmax(-1)
    return torch.stack(
        [logits[len(prompt) - 1 + place, token] for place, token in enumerate(reply)]
    )


@pytest.mark.parametrize("name", TINY)
def test_log_probabilities_with_and_without_a_prefix(name: str) -> None:
    looking = TINY[name]
    ids = looking.encode(TEXT + TEXT)
    known = [*looking.encode(TEXT), 7, 8, 9]
    prefix = (known, looking.prefix(known))
    before = [layer.keys.clone() for layer in prefix[1].layers]
    for cut in (1, 5, len(ids) // 2, len(ids) - 1):
        plain = plain_log_probabilities(looking.model, ids[:cut], ids[cut:])
        alone = looking.log_probabilities(ids[:cut], ids[cut:])
        continued = looking.log_probabilities(ids[:cut], ids[cut:], prefix)
        torch.testing.assert_close(alone, plain, atol=1e-5, rtol=0)
        torch.testing.assert_close(continued, plain, atol=1e-5, rtol=0)
    for layer, keys in zip(prefix[1].layers, before, strict=True):
        assert torch.equal(layer.keys, keys)


def test_log_probabilities_of_the_built_in_model(glass: Glass) -> None:
    ids = glass.encode("The capital of France is Paris, and that of Korea is 서울.")
    prefix = (ids[:5], glass.prefix(ids[:5]))
    plain = plain_log_probabilities(glass.model, ids[:6], ids[6:])
    continued = glass.log_probabilities(ids[:6], ids[6:], prefix)
    torch.testing.assert_close(continued, plain, atol=1e-3, rtol=0)


def test_nothing_to_score_and_nothing_to_go_by() -> None:
    looking = TINY["llama"]
    assert looking.log_probabilities([1, 2], []).shape == (0,)
    with pytest.raises(BadInput, match="before the words"):
        looking.log_probabilities([], [1])


# -- opening --------------------------------------------------------------------------------------


def test_a_remote_model_cannot_be_seen_into() -> None:
    with pytest.raises(ModelFault, match="openai:gpt answers over a connection") as caught:
        Glass.open("openai:gpt")
    assert "\n" not in str(caught.value)


def test_a_model_is_read_in_float32_unless_memory_is_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(make_gpt(tmp_path / "gpt"))
    looking = Glass.open(folder)
    assert looking.exact and not looking.note
    assert looking.window == 128
    monkeypatch.setattr("chatbot.insight.glass._free", lambda device: 1)
    large = Glass.open(folder)
    assert large.exact == (large.model.dtype == torch.float32)
    assert bool(large.note) != large.exact
    assert large.read([3, 4]).logits.dtype == torch.float32


def test_a_model_without_a_norm_that_is_known_has_no_lens(glass: Glass) -> None:
    tokenizer = gpt2_like()
    looking = Glass("odd", tiny_gpt2(len(tokenizer)), tokenizer)
    looking._norm = None
    with pytest.raises(ModelFault, match="no lens fits"):
        looking.lens(torch.zeros(32))
    assert looking.read([1, 2], hidden=True).hidden is not None
