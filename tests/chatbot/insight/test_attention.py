"""Attention: as transformers computes it, merged into words, attributed to the window's parts."""

import io
import json
import math
import stat
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import PreTrainedTokenizerBase
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from chatbot import commands
from chatbot.catalogue import DEFAULT_GPT
from chatbot.chat import Chat
from chatbot.cli import cli
from chatbot.context import Window, pack
from chatbot.decoding import Decoding
from chatbot.encoding import Encoder
from chatbot.errors import BadInput, ModelFault
from chatbot.insight import attention_view as view
from chatbot.insight import draw
from chatbot.insight.attention import (
    Asked,
    Fit,
    Looked,
    Map,
    Part,
    Shares,
    Vectors,
    Word,
    heads_of,
    look,
    map_of,
    measure,
    merged,
    rows_after,
    shares_of,
    vectors_of,
    words_of,
)
from chatbot.insight.glass import Glass
from chatbot.insight.parts import Kind, Span, spans_of
from chatbot.screen import Screen, columns
from chatbot.settings import Settings
from memory.store import Memory
from memory.types import Hit, Role, Turn
from tests.chatbot.tiny import (
    TEMPLATES,
    chat_like,
    gpt2_like,
    llama_like,
    t5_like,
    tiny_gpt2,
    tiny_llama,
    tiny_mistral,
)

SNAPSHOTS = Path(__file__).parent / "snapshots"
TEXT = "Seoul: 코로나에 비까지. The quick brown fox jumps over 고양이가 대화하는 것을 lazy dog."
TROPHY = "The trophy didn't fit in the suitcase because it was too big."
SUMMER = "코로나에 비까지 계속 오니 이번 여름 휴가는"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
SLIDING = 16


def tiny(kind: str) -> Glass:
    tokenizer = gpt2_like()
    model = {
        "llama": lambda: tiny_llama(len(tokenizer)),
        "gpt2": lambda: tiny_gpt2(len(tokenizer)),
        "sliding": lambda: tiny_mistral(len(tokenizer), SLIDING),
    }[kind]()
    return Glass(kind, model, tokenizer)


@pytest.fixture(params=["llama", "gpt2", "sliding"])
def glass(request: pytest.FixtureRequest) -> Glass:
    return tiny(request.param)


@pytest.fixture(scope="module")
def built_in() -> Glass:
    return Glass.open(DEFAULT_GPT)


def plainly(glass: Glass, ids: Sequence[int]) -> Tensor:
    """transformers' own attention of a whole pass, (L, H, T, T)."""
    glass.model.set_attn_implementation("eager")
    with torch.inference_mode():
        out: Any = glass.model(torch.tensor([list(ids)]), output_attentions=True)
    return torch.stack([layer[0] for layer in out.attentions])


# -- words ----------------------------------------------------------------------------------------


def spelled(tokenizer: PreTrainedTokenizerBase, text: str) -> list[str]:
    glass = Glass("words", tiny_llama(len(tokenizer)), tokenizer)
    ids = glass.encode(text)
    words = words_of(glass, ids)
    assert [place for word in words for place in range(word.start, word.end)] == [*range(len(ids))]
    return [word.text for word in words]


@pytest.mark.parametrize("make", [gpt2_like, llama_like])
def test_words_end_at_spaces_and_punctuation_stands_apart(make: Any) -> None:
    words = spelled(make(), "He didn't fit, the (lazy) dog!")
    start = 1 if words[0] == "<s>" else 0
    expected = ["He", "didn't", "fit", ",", "the", "(", "lazy", ")", "dog", "!"]
    assert words[start:] == expected


def test_korean_of_bytes_is_whole_and_scripts_without_spaces_are_cut() -> None:
    assert spelled(gpt2_like(), SUMMER) == SUMMER.split()
    assert spelled(gpt2_like(), "猫が好き") == [*"猫が好き"]
    assert len(spelled(t5_like(), "The quick fox")) == 3


@settings(max_examples=60, deadline=None)
@given(text=st.text(st.sampled_from("ab ,.가나😀\n猫\u0301"), min_size=1, max_size=40))
def test_each_token_is_in_exactly_one_word(text: str) -> None:
    assert "".join("".join(word.split()) for word in spelled(gpt2_like(), text)).replace(
        "⏎", ""
    ) == "".join(text.split())


# -- weights --------------------------------------------------------------------------------------


def test_weights_are_those_of_transformers_and_rows_sum_to_one(glass: Glass) -> None:
    ids = glass.encode(TEXT)
    looked = look(glass, TEXT)
    plain = plainly(glass, ids)
    assert torch.allclose(plain.sum(-1), torch.ones(plain.shape[:3]), atol=1e-5)
    assert torch.allclose(looked.weights, merged(plain, looked.words), atol=1e-5)
    assert torch.allclose(looked.weights.sum(-1), torch.ones(looked.weights.shape[:3]), atol=1e-5)
    assert (looked.layers, looked.heads) == tuple(plain.shape[:2])


def test_merging_sums_over_looked_at_tokens_and_averages_over_looking_ones() -> None:
    attention = torch.tensor([[1.0, 0.0, 0.0], [0.25, 0.75, 0.0], [0.5, 0.125, 0.375]])
    words = (Word("a", 0, 1), Word("bc", 1, 3))
    assert merged(attention, words).tolist() == [[1.0, 0.0], [0.375, 0.625]]


@pytest.fixture
def made_up() -> Looked:
    """Three words, one layer of two heads; the first token is the first word."""
    words = (Word("a", 0, 1), Word("b", 1, 2), Word("c", 2, 3))
    one = [[1.0, 0.0, 0.0], [0.75, 0.25, 0.0], [0.25, 0.5, 0.25]]
    two = [[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.75, 0.125, 0.125]]
    weights = torch.tensor([[one, two]])
    return Looked((7, 8, 9), words, weights, weights[..., 0].clone())


def test_a_map_sets_the_first_token_apart_and_the_rest_sums_to_one(made_up: Looked) -> None:
    apart = map_of(made_up)
    assert apart.first.tolist() == [1.0, 0.625, 0.5]
    assert apart.weights.tolist() == [[0, 0, 0], [0, 1, 0], [0, 0.625, 0.375]]
    whole = map_of(made_up, 1, 2, apart=False)
    assert whole.weights.tolist() == made_up.weights[0, 1].tolist()
    assert map_of(made_up, 1).weights.tolist() == apart.weights.tolist()


def test_the_first_word_keeps_its_other_tokens(glass: Glass) -> None:
    looked = look(glass, SUMMER)
    assert looked.words[0].end > 1
    map_ = map_of(looked)
    assert float(map_.weights[0, 0]) == pytest.approx(1)
    assert torch.allclose(map_.weights.sum(-1), torch.ones(len(looked.words)), atol=1e-5)


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        (Asked(layer=2), "no layer 2: this model has layers 1 to 1"),
        (Asked(layer=1, head=0), "no head 0: this model has heads 1 to 2"),
        (Asked(head=1), "head 1 of which layer"),
        (Asked(heads=True, word="a"), "two views"),
    ],
)
def test_wrong_places_get_one_line(made_up: Looked, asked: Asked, complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        measure(tiny("llama"), made_up, asked)


def test_heads_are_ordered_by_how_surely_they_look_elsewhere() -> None:
    words = tuple(Word(text, place, place + 1) for place, text in enumerate("abcd"))
    weights = torch.zeros(1, 2, 4, 4)
    weights[0, 0, :, 0] = 1.0  # parks on the first token
    weights[0, 1] = torch.eye(4)
    weights[0, 1, 3] = torch.tensor([0.125, 0.5, 0.25, 0.125])  # d looks at b, the first but one
    looked = Looked((1, 2, 3, 4), words, weights, weights[..., 0].clone())
    best, worst = heads_of(looked)
    assert (best.layer, best.head, best.looking, best.looked) == (1, 2, 3, 1)
    assert (best.strongest, best.sure, best.elsewhere) == (0.5, 0.25, 0.25)
    assert (worst.first, worst.elsewhere, worst.sure) == (1.0, 0.0, 0.0)


def test_the_shares_of_a_head_sum_to_one(glass: Glass) -> None:
    for head in heads_of(look(glass, TEXT)):
        assert head.first + head.itself + head.before + head.elsewhere == pytest.approx(1, abs=1e-5)
        assert 0 <= head.sure <= head.elsewhere + 1e-6
    (short,) = {each.looking for each in heads_of(look(glass, "fox"))}
    assert short is None


# -- query, key and value -------------------------------------------------------------------------


def test_softmax_of_the_scores_is_the_row_of_attention(glass: Glass) -> None:
    looked = look(glass, TEXT)
    plain = plainly(glass, looked.ids)
    for layer in range(1, looked.layers + 1):
        for head in range(1, looked.heads + 1):
            found = vectors_of(glass, looked, "lazy", layer, head)
            row = plain[layer - 1, head - 1, found.word.end - 1]
            seen = row[row > 0]
            assert not found.bent
            assert torch.allclose(found.scores.softmax(-1), seen, atol=1e-5)
            assert torch.allclose(found.weights, seen, atol=1e-5)
            assert sum(fit.share for fit in found.fits) == pytest.approx(1, abs=1e-5)
    assert glass.model.config._attn_implementation == "eager"  # as plainly() left it


def test_vectors_are_what_the_layer_projects_positions_included() -> None:
    glass = tiny("llama")
    looked = look(glass, TEXT)
    found = vectors_of(glass, looked, "dog", 1, 4)
    model: Any = glass.model.model
    layer, place = model.layers[0], found.word.end - 1
    with torch.inference_mode():
        hidden = layer.input_layernorm(model.embed_tokens(torch.tensor([list(looked.ids)])))
        cos, sin = model.rotary_emb(hidden, torch.arange(len(looked.ids))[None])
        queries = layer.self_attn.q_proj(hidden).view(1, -1, 4, 8).transpose(1, 2)
        keys = layer.self_attn.k_proj(hidden).view(1, -1, 2, 8).transpose(1, 2)
        values = layer.self_attn.v_proj(hidden).view(1, -1, 2, 8).transpose(1, 2)
        queries, keys = apply_rotary_pos_emb(queries, keys, cos, sin)
    assert torch.allclose(found.query, queries[0, 3, place], atol=1e-5)
    assert torch.allclose(found.key, keys[0, 1, place], atol=1e-5)  # four heads share two keys
    assert torch.allclose(found.value, values[0, 1, place], atol=1e-5)
    scores = keys[0, 1, : place + 1] @ queries[0, 3, place] / math.sqrt(8)
    assert torch.allclose(found.scores, scores, atol=1e-5)


def test_the_word_is_the_last_that_is_or_contains_what_was_asked_for() -> None:
    glass = tiny("llama")
    looked = look(glass, "the fox, the foxes, the dog")
    assert vectors_of(glass, looked, "THE").word == looked.words[6]
    assert vectors_of(glass, looked, "oxe").word.text == "foxes"
    with pytest.raises(BadInput, match="no word 'cat' in the text"):
        vectors_of(glass, looked, "cat")
    best = heads_of(looked)[0]
    chosen = vectors_of(glass, looked, "dog")
    assert (chosen.layer, chosen.head) == (best.layer, best.head)


def test_a_model_whose_modules_cant_be_watched_gets_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    glass = tiny("llama")
    looked = look(glass, TEXT)
    monkeypatch.setattr(type(glass.model), "set_attn_implementation", lambda model, name: None)
    with pytest.raises(ModelFault, match="llama can't show its attention"):
        vectors_of(glass, looked, "dog")


# -- the parts of a window ------------------------------------------------------------------------


def turn(id_: int, role: Role, text: str, days: float = 0) -> Turn:
    return Turn(id_, 1, role, role, text, NOW - timedelta(days=days))


def hit(id_: int, text: str, days: float) -> Hit:
    return Hit(turn(id_, "user", text, days), 0.9 - id_ / 100)


HISTORY = (turn(1, "user", "Hello there!"), turn(2, "assistant", "  안녕하세요, hello.\n"))
PINS = (hit(3, "Call me Jun.", 400), hit(4, "내 고양이는 나비야", 300))
HITS = (hit(5, "I work as a baker.", 20), hit(6, "고양이가 대화하는 것을 들었다", 90))


def window_of(encoder: Encoder, *, system: str = "Be kind.\nBe short.", **parts: Any) -> Window:
    given = {"history": HISTORY, "hits": HITS, "pins": PINS} | parts
    return pack(
        system, prompt="Who am I?", count=lambda messages: len(encoder.encode(messages)),
        limit=4000, reserve=100, now=NOW, **given,
    )  # fmt: skip


KINDS: dict[str, list[Kind]] = {
    "whole": ["system", "pin", "pin", "history", "history", "memory", "memory", "prompt"],
    "bare": ["prompt"],
}


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("template", [*TEMPLATES, None])
def test_spans_cover_each_token_of_the_window_once(kind: str, template: str | None) -> None:
    tokenizer = chat_like(kind, template and TEMPLATES[template])
    encoder = Encoder(tokenizer)
    window = window_of(encoder)
    spans = spans_of(encoder, window, reply=5)
    ids = encoder.encode(window.messages)
    covered = [place for span in spans for place in range(span.start, span.end)]
    assert covered == [*range(len(ids) + 5)]
    assert [span.kind for span in spans if span.kind not in ("template", "reply")] == KINDS["whole"]
    assert [span.hit.turn.id for span in spans if span.hit] == [4, 3, 6, 5]
    # Each span spells just its part; a tokenizer may have put a space before it.
    texts = [tokenizer.decode(ids[span.start : span.end]).strip() for span in spans if span.hit]
    assert len(texts) == 4
    if kind == "gpt2":
        assert texts[1] == '[1 year ago, 18 October 2025] User: "Call me Jun."'
        assert texts[2].endswith('User: "고양이가 대화하는 것을 들었다"')
        (prompt,) = (span for span in spans if span.kind == "prompt")
        assert tokenizer.decode(ids[prompt.start : prompt.end]).strip() == "Who am I?"
        system = tokenizer.decode(ids[spans[0].end : spans[1].end]).strip()
        assert "Be kind.\nBe short." in (system, tokenizer.decode(ids[: spans[0].end]))


@pytest.mark.parametrize(
    ("parts", "kinds"),
    [
        ({"system": "", "pins": (), "history": (), "hits": ()}, ["prompt"]),
        ({"history": (), "hits": (), "missed": True}, ["system", "pin", "pin", "prompt"]),
        ({"system": "", "history": ()}, ["pin", "pin", "memory", "memory", "prompt"]),
        ({"system": " \n", "pins": (), "hits": ()}, ["history", "history", "prompt"]),
        ({"system": "  Be.\n\n", "hits": ()}, [*KINDS["whole"][:5], "prompt"]),
    ],
)
def test_windows_that_lack_parts(parts: dict[str, Any], kinds: list[str]) -> None:
    tokenizer = chat_like("gpt2", TEMPLATES["chatml"])
    encoder = Encoder(tokenizer)
    window = window_of(encoder, **parts)
    spans = spans_of(encoder, window)
    ids = encoder.encode(window.messages)
    assert [place for span in spans for place in range(span.start, span.end)] == [*range(len(ids))]
    found = [span.kind for span in spans if span.kind != "template"]
    assert [kind for kind in found if kind != "system" or parts.get("system", "x").strip()] == kinds
    prompt = tokenizer.decode(ids[spans[-2].start : spans[-2].end])
    assert prompt.strip() == "Who am I?"


def test_a_reply_whose_own_ids_are_known_is_one_span() -> None:
    tokenizer = chat_like("gpt2", TEMPLATES["chatml"])
    encoder = Encoder(tokenizer)
    letters = [encoder.encode_text(letter)[0] for letter in "hello"]
    encoder.remember("hello", letters)
    window = window_of(encoder, history=(HISTORY[0], turn(2, "assistant", "hello")))
    ids = encoder.encode(window.messages)
    history = [span for span in spans_of(encoder, window) if span.kind == "history"]
    assert ids[history[1].start : history[1].end] == letters


# -- a reply --------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 2**27])
def test_rows_after_a_prefix_are_those_of_a_whole_pass(
    glass: Glass, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatbot.insight.attention.CHUNK_BYTES", chunk)
    ids = glass.encode(TEXT)
    plain = plainly(glass, ids)
    for before in (0, 1, SLIDING + 5):
        rows = torch.cat(list(rows_after(glass, ids[:before], ids[before:])), dim=2)
        assert torch.allclose(rows, plain[:, :, before:], atol=1e-5)


def test_shares_of_a_reply_are_the_means_of_its_rows(glass: Glass) -> None:
    ids = glass.encode(TEXT)
    window, reply = ids[:20], ids[20:]
    spans = [Span("system", 0, 6), Span("memory", 6, 12, HITS[0]), Span("prompt", 12, 16)]
    spans += [Span("template", 16, 20), Span("reply", 20, len(ids))]
    shares = shares_of(glass, window, reply, spans)
    rows = plainly(glass, ids).mean((0, 1))[19:-1]
    assert shares.first == pytest.approx(float(rows[:, 0].mean()), abs=1e-5)
    rows = rows[:, 1:] / rows[:, 1:].sum(-1, keepdim=True)
    for part, span in zip(shares.parts, spans, strict=True):
        expected = rows[:, max(span.start - 1, 0) : span.end - 1].sum(-1).mean()
        assert part.share == pytest.approx(float(expected), abs=1e-5)
        assert part.tokens == span.end - span.start
    assert sum(part.share for part in shares.parts) == pytest.approx(1)
    assert sum(part.even for part in shares.parts) == pytest.approx(1)
    assert shares.reply == len(reply)
    with pytest.raises(BadInput, match="the last reply is empty"):
        shares_of(glass, window, [], spans)


# -- the built-in model ---------------------------------------------------------------------------


def test_the_built_in_model_shows_what_it_refers_to(built_in: Glass) -> None:
    looked = look(built_in, TROPHY)
    assert torch.allclose(looked.weights.sum(-1), torch.ones(looked.weights.shape[:3]), atol=1e-4)
    found = vectors_of(built_in, looked, "it", 10, 5)
    assert found.fits[0].word.text == "suitcase"  # a head that looks for what "it" may be
    assert torch.allclose(found.scores.softmax(-1), found.weights, atol=1e-5)
    assert [word.text for word in look(built_in, SUMMER).words] == SUMMER.split()


# -- views ----------------------------------------------------------------------------------------


def shown(rows: Any, width: int, *, colour: bool) -> str:
    file = io.StringIO()
    draw.show(Screen(file, plain=not colour), rows)
    for row in rows:
        assert columns("".join(text for _, text in row)) <= width
    return file.getvalue()


def made_up_map(words: Sequence[str]) -> Map:
    """Weights that anyone can recompute: the nearer a word, the more it draws."""
    places = tuple(Word(text, 2 * at, 2 * at + 2) for at, text in enumerate(words))
    count = len(words)
    weights = torch.zeros(count, count)
    for row in range(count):
        for column in range(row + 1):
            weights[row, column] = 1 / (1 + row - column) ** 2
    weights /= weights.sum(-1, keepdim=True)
    return Map(places, weights, torch.linspace(1, 0.5, count), None, None, 30, 9)


def made_up_heads() -> tuple[Looked, list[Any]]:
    words = tuple(Word(text, at, at + 1) for at, text in enumerate(SUMMER.split()))
    weights = torch.stack([made_up_map(SUMMER.split()).weights for _ in range(2)])[None]
    looked = Looked(tuple(range(7)), words, weights, weights[..., 0] / 2)
    return looked, heads_of(looked)


def made_up_vectors() -> Vectors:
    words = [Word("휴가는", 3, 5), Word("(", 2, 3), Word("supercalifragilistic" * 4, 0, 2)]
    fits = tuple(Fit(word, 3.5 - at, 0.6 / (at + 1)) for at, word in enumerate(words))
    query = torch.linspace(-1, 1, 64)
    return Vectors(words[0], 3, 2, query, query * 2, query / 3, query[:5], query[:5].softmax(0),
                   fits, bent=True)  # fmt: skip


def made_up_shares() -> Shares:
    parts = (
        Part("template", 40, 0.25, 0.25), Part("system", 12, 0.125, 0.1),
        Part("pin", 20, 0.0625, 0.1, PINS[1]), Part("history", 90, 0.0625, 0.3),
        Part("memory", 25, 0.3, 0.15, HITS[0]), Part("memory", 31, 0.02, 0.15, HITS[1]),
        Part("prompt", 6, 0.08, 0.03), Part("reply", 9, 0.1, 0.02),
    )  # fmt: skip
    return Shares(parts, 0.42, 9, 30, 9)


SENTENCE = ("코로나에 비까지 계속 오니 이번 여름 휴가는 아무래도 집에서 조용히 supercalifragilistic"
            " 책을 읽으며 and a very long list of other words that fill the row .")  # fmt: skip


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("width", [79, 119])  # of terminals of 80 and 120 columns
def test_screens(width: int, colour: bool) -> None:
    looked, heads = made_up_heads()
    views = {
        "map": list(view.map_rows(made_up_map(SENTENCE.split()), width, colour=colour)),
        "heads": list(view.heads_rows(looked, heads, width)),
        "vectors": list(view.vectors_rows(made_up_vectors(), width)),
        "reply": list(view.shares_rows(made_up_shares(), (*PINS[1:], *HITS), width)),
    }
    text = "\n\n".join(shown(rows, width, colour=colour) for rows in views.values())
    look_ = "colour" if colour else "plain"
    snapshot = SNAPSHOTS / f"attention_{width + 1}_{look_}.txt"
    assert text == snapshot.read_text(encoding="utf-8")


def test_a_map_of_one_word_and_narrow_screens() -> None:
    for words in (["one"], SENTENCE.split()):
        for width in (40, 60):
            assert "attention:" in shown(
                list(view.map_rows(made_up_map(words), width, colour=False)), width, colour=False
            )


def test_json_has_the_same_numbers(made_up: Looked) -> None:
    glass = tiny("llama")
    looked = look(glass, TEXT)
    map_ = json.loads(json.dumps(view.as_json(looked, measure(glass, looked, Asked(layer=2)))))
    assert (map_["layers"], map_["heads"], map_["layer"], map_["head"]) == (2, 4, 2, None)
    assert len(map_["attention"]) == len(map_["words"]) == len(looked.words)
    assert sum(map_["attention"][-1]) == pytest.approx(1, abs=1e-4)
    heads = view.as_json(looked, measure(glass, looked, Asked(heads=True, layer=1)))
    assert {head["layer"] for head in heads["heads"]} == {1}
    found = view.as_json(looked, measure(glass, looked, Asked(word="dog")))
    assert (found["word"]["text"], len(found["query"])) == ("dog", 8)
    assert sum(found["attention"]) == pytest.approx(1, abs=1e-4)


# -- commands -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint with a chat template."""
    path = tmp_path_factory.mktemp("tiny")
    tokenizer = chat_like("gpt2", TEMPLATES["chatml"])
    tiny_llama(len(tokenizer), window=2048).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


class Session:
    """What a slash command works on."""

    def __init__(self, chat: Chat) -> None:
        self.chat = chat
        self.screen = Screen(io.StringIO(), plain=True)

    def ask(self, question: str) -> bool:
        raise AssertionError(question)

    def run(self, line: str) -> str:
        self.screen.file = io.StringIO()
        commands.run(self, line)
        return self.screen.file.getvalue()


@pytest.fixture
def session(folder: Path, home: Path, memory: Memory) -> Session:
    own = Settings(home, model=str(folder), decoding=Decoding(strategy="greedy", max_tokens=8))
    return Session(Chat(memory, own))


def test_a_reply_in_a_chat_looks_at_its_memories(session: Session) -> None:
    with pytest.raises(BadInput, match="there is no reply yet"):
        session.run("/attention")
    told = session.chat.memory.log.append(
        None, "user", "My cat is called Nabi.", speaker="user", at=NOW
    )
    session.chat.memory.catch_up()
    "".join(session.chat.turn("What is my cat called?"))
    shown_ = session.run("/attention")
    assert f"memory 1: turn {told.id}" in shown_
    assert "a copy of the model is loaded once" in shown_
    for part in ("system prompt", "prompt", "template", "the reply's own words", "A diagnostic"):
        assert part in shown_
    assert "history" not in shown_
    "".join(session.chat.turn("고양이?"))
    again = session.run("/attention")
    assert "history" in again and "is loaded once" not in again


def test_options_of_the_slash_command(session: Session) -> None:
    shown_ = session.run("/attention quick brown fox --layer 2 --head 3")
    assert "attention: 3 words" in shown_ and "layer 2, head 3" in shown_
    assert "the surest of 8 heads" in session.run("/attention --heads quick brown fox")
    assert "“brown” in layer" in session.run("/attention --vectors brown quick brown fox")
    assert "use as a sink" in session.run("/attention --sink quick brown fox")
    for line, complaint in (
        ("/attention --layer x fox", "--layer takes a number"),
        ("/attention --leyer 2 fox", "did you mean layer"),
        ("/attention --head 2 fox", "of which layer"),
        ("/attention fox --plot x.jpg", "ends in .png or .svg"),
    ):
        with pytest.raises(BadInput, match=complaint):
            session.run(line)


def test_the_command_of_the_shell(folder: Path, home: Path, tmp_path: Path) -> None:
    runner = CliRunner()

    def run(*arguments: str, stdin: str = "") -> str:
        result = runner.invoke(cli, ["attention", "--model", str(folder), *arguments], input=stdin)
        if result.exception is not None:
            raise result.exception
        return result.output

    assert "attention: 3 words" in run("quick brown fox")
    found = json.loads(run("--json", "--layer", "1", "quick 고양이가"))
    assert [word["text"] for word in found["words"]] == ["quick", "고양이가"]
    assert found["model"] == str(folder)
    assert "the surest of 8 heads" in run("--heads", "a b c d")
    for arguments, complaint in (
        (["--layer", "9", "a b"], "no layer 9: this model has layers 1 to 2"),
        ([" "], "the text is empty"),
        (["--plot", str(tmp_path / "x.gif"), "a b"], "ends in .png or .svg"),
    ):
        with pytest.raises(BadInput, match=complaint):
            run(*arguments)


def test_the_picture(folder: Path, home: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    file = tmp_path / "map.svg"
    arguments = ["attention", "--model", str(folder), "quick brown fox", "--plot", str(file)]
    assert CliRunner().invoke(cli, arguments).exit_code == 0
    assert "brown" in file.read_text(encoding="utf-8")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600  # it shows what was said
    refused = CliRunner().invoke(cli, [*arguments, "--heads"])
    assert "leave out --heads" in str(refused.exception)
