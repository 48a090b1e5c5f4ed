"""The engine on real models: the built-in GPT, and tiny ones with odd caches."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from chatbot.decoding import Decoding
from chatbot.engines import Message, Piece, Usage
from chatbot.errors import ModelFault, WindowFull
from chatbot.kv import Reading, cache_name
from chatbot.local import CHUNK, LocalEngine, _Turn
from chatbot.packed import PackedLinear, pack, packable
from tests.chatbot.tiny import CHATML, chat_like, tiny_gpt2, tiny_llama, tiny_mistral

GREEDY = Decoding(strategy="greedy", repetition_penalty=1.0, max_tokens=16)
SAMPLE = Decoding(strategy="sample", temperature=1.0, top_p=1.0, min_p=0.0, max_tokens=12)
BEAM = Decoding(strategy="beam", beams=3, repetition_penalty=1.0, max_tokens=12)
ASKED = [Message("system", "You are helpful."), Message("user", "What is the capital of France?")]


@pytest.fixture
def tiny() -> LocalEngine:
    tokenizer = chat_like("gpt2", CHATML)
    return LocalEngine("tiny", tiny_llama(len(tokenizer)), tokenizer)


def reply(engine: LocalEngine, messages: list[Message], decoding: Decoding) -> tuple[str, Usage]:
    pieces = list(engine.stream(messages, decoding))
    assert all(piece.finish is None for piece in pieces[:-1])
    assert pieces[-1].finish in ("stop", "length")
    assert pieces[-1].usage is not None
    return "".join(piece.text for piece in pieces), pieces[-1].usage


def plain_logits(model: PreTrainedModel, ids: list[int]) -> Tensor:
    """A plain forward pass over everything, without a cache: (T, V)."""
    with torch.inference_mode():
        logits: Tensor = model(torch.tensor([ids]), use_cache=False).logits[0].float()
    return logits


def forced(engine: LocalEngine, ids: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the model's likeliest tokens be `ids`, one after the other."""
    read, coming = Reading.read, iter(ids)

    def reading(self: Reading, tokens: list[int]) -> Tensor:
        logits = torch.zeros_like(read(self, tokens))
        logits[next(coming)] = 1
        return logits

    monkeypatch.setattr(Reading, "read", reading)


# -- greedy --------------------------------------------------------------------------------------


def test_greedy_is_the_likeliest_token_of_a_plain_forward_pass() -> None:
    tokenizer = chat_like("gpt2", CHATML)
    engine = LocalEngine("tiny", tiny_llama(len(tokenizer)), tokenizer)
    ids = engine.encoder.encode(ASKED)
    prompt = list(ids)
    for _ in range(GREEDY.max_tokens):
        token = int(plain_logits(engine.model, ids)[-1].argmax())
        if token in engine.ends:
            break
        ids.append(token)
    text, usage = reply(engine, ASKED, GREEDY)
    assert text == tokenizer.decode(ids[len(prompt) :], skip_special_tokens=True)
    assert usage.reply == len(ids) - len(prompt) > 0


def test_greedy_is_deterministic_and_the_built_in_model_answers(gpt: LocalEngine) -> None:
    first, usage = reply(gpt, ASKED, GREEDY)
    assert "Paris" in first
    assert usage.prompt == gpt.count(ASKED)
    assert usage.seed is None
    assert reply(gpt, ASKED, GREEDY)[0] == first


def test_a_penalty_counts_the_reply_and_not_the_prompt(gpt: LocalEngine) -> None:
    """However strong, it leaves a first word alone that the prompt has said."""
    told = [Message("user", "Say Biscuit.")]
    hard = replace(GREEDY, repetition_penalty=2.0, max_tokens=2)
    assert reply(gpt, told, hard)[0] == reply(gpt, told, replace(GREEDY, max_tokens=2))[0]


# -- sampling ------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_sample(tiny: LocalEngine) -> None:
    def texts(seed: int) -> str:
        return reply(tiny, ASKED, replace(SAMPLE, seed=seed))[0]

    assert texts(1) == texts(1)
    assert len({texts(seed) for seed in range(5)}) == 5


def test_a_seed_that_is_drawn_is_reported_and_repeats_the_reply(tiny: LocalEngine) -> None:
    text, usage = reply(tiny, ASKED, SAMPLE)
    assert usage.seed is not None
    assert reply(tiny, ASKED, replace(SAMPLE, seed=usage.seed))[0] == text


def test_first_tokens_are_drawn_from_the_models_distribution(tiny: LocalEngine) -> None:
    """Chi-square over the eight likeliest tokens and the rest: 26.1 is the 0.1 % point of 8."""
    logits = plain_logits(tiny.model, tiny.encoder.encode(ASKED))[-1]
    sharp = replace(SAMPLE, temperature=0.1, repetition_penalty=1.0, max_tokens=1)
    probabilities = (logits / sharp.temperature).softmax(-1)
    top = probabilities.topk(8).indices.tolist()
    counts, draws = dict.fromkeys([*top, -1], 0), 400
    for seed in range(draws):
        token = first_id(tiny, replace(sharp, seed=seed))
        counts[token if token in counts else -1] += 1
    expected = {token: draws * float(probabilities[token]) for token in top}
    expected[-1] = draws - sum(expected.values())
    assert sum((counts[t] - e) ** 2 / max(e, 1e-9) for t, e in expected.items()) < 26.1


def first_id(engine: LocalEngine, decoding: Decoding) -> int:
    """The first id of a reply (an end token is none)."""
    seen = list(engine._tokens(begin(engine), engine.encoder.encode(ASKED), decoding, 1))
    return seen[0] if seen else -1


def begin(engine: LocalEngine) -> _Turn:
    engine._newest = turn = _Turn()
    return turn


# -- beam search ---------------------------------------------------------------------------------


def score(model: PreTrainedModel, prompt: list[int], ids: list[int], penalty: float) -> float:
    """Sum of log-probabilities of `ids` after `prompt`, over their number ** penalty."""
    logprobs = plain_logits(model, prompt + ids)[len(prompt) - 1 : -1].log_softmax(-1)
    return float(logprobs[range(len(ids)), ids].sum()) / len(ids) ** penalty


def generated(engine: LocalEngine, ids: list[int], decoding: Decoding) -> tuple[list[int], float]:
    """transformers' own beam search: the best reply and its score."""
    out: Any = engine.model.generate(
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


@pytest.mark.parametrize("beams", [2, 4])
@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("seed", range(4))
def test_beam_search_equals_transformers(beams: int, length_penalty: float, seed: int) -> None:
    tokenizer = chat_like("gpt2", CHATML)
    model = tiny_llama(len(tokenizer), seed=seed)
    with torch.no_grad():
        model.lm_head.weight *= 6  # type: ignore[operator,union-attr]  # a model with opinions
    engine = LocalEngine("tiny", model, tokenizer)
    decoding = replace(BEAM, beams=beams, length_penalty=length_penalty)
    prompt = engine.encoder.encode(ASKED)
    ids, best = generated(engine, prompt, decoding)
    text, usage = reply(engine, ASKED, decoding)
    words = [id_ for id_ in ids if id_ not in engine.ends]
    assert text == tokenizer.decode(words, skip_special_tokens=True)
    assert usage.reply == len(words)
    assert score(model, prompt, ids, length_penalty) == pytest.approx(best, abs=1e-4)


def test_the_built_in_models_beam_equals_transformers(gpt: LocalEngine) -> None:
    prompt = gpt.encoder.encode(ASKED)
    ids, _ = generated(gpt, prompt, BEAM)
    words = [id_ for id_ in ids if id_ not in gpt.ends]
    assert reply(gpt, ASKED, BEAM)[0] == gpt.tokenizer.decode(words, skip_special_tokens=True)


@pytest.mark.parametrize("seed", range(6))
def test_beam_scores_at_least_as_greedy(seed: int) -> None:
    tokenizer = chat_like("gpt2", CHATML)
    engine = LocalEngine("tiny", tiny_llama(len(tokenizer), seed=seed), tokenizer)
    engine.ends = frozenset()  # equal lengths: both run to the end
    prompt = engine.encoder.encode(ASKED)

    def scored(decoding: Decoding) -> float:
        ids = list(engine._tokens(begin(engine), prompt, decoding, decoding.max_tokens))
        assert len(ids) == decoding.max_tokens
        return score(engine.model, prompt, ids, 1.0)

    assert scored(replace(BEAM, beams=8)) >= scored(replace(GREEDY, max_tokens=12)) - 1e-5


def test_after_a_beam_the_cache_serves_on(tiny: LocalEngine) -> None:
    text, _ = reply(tiny, ASKED, GREEDY)
    reply(tiny, ASKED, BEAM)
    again, usage = reply(tiny, ASKED, GREEDY)
    assert again == text
    assert usage.reused == usage.prompt - 1


# -- the cache -----------------------------------------------------------------------------------


def test_the_cache_goes_by_the_name_that_the_model_takes() -> None:
    assert cache_name(["input_ids", "cache", "logits_to_keep"]) == "cache"
    assert cache_name(["input_ids", "past_key_values"]) == "past_key_values"


def test_what_was_read_is_reused_and_gives_the_same_logits(gpt: LocalEngine) -> None:
    text, usage = reply(gpt, ASKED, GREEDY)
    longer = [*ASKED, Message("assistant", text), Message("user", "And of Italy?")]
    ids = gpt.encoder.encode(longer)
    read = usage.prompt + usage.reply - (usage.reply == GREEDY.max_tokens)
    _, again = reply(gpt, longer, replace(GREEDY, max_tokens=1))
    assert again.reused == read
    assert again.prompt == len(ids)
    kept = Reading(gpt.model)
    kept.read(ids[:20])
    kept.read(ids[20:30])
    kept.keep(25)
    reused, fresh = kept.read(ids[25:]).float(), Reading(gpt.model).read(ids).float()
    # In bfloat16, which rounds otherwise in other shapes and on other CPUs; the next test is exact.
    assert float((reused - fresh).abs().mean()) < 0.5
    assert int(reused.argmax()) == int(fresh.argmax())


def test_reuse_is_exact_in_full_precision(tiny: LocalEngine) -> None:
    ids = tiny.encoder.encode(ASKED)
    kept = Reading(tiny.model)
    kept.read(ids[:10])
    kept.read([5, 6, 7])
    assert kept.keep(10) == 10
    for place in range(10, len(ids)):
        logits = kept.read(ids[place : place + 1])
    assert kept.ids == ids
    torch.testing.assert_close(logits, plain_logits(tiny.model, ids)[-1], atol=1e-5, rtol=1e-4)


def test_a_changed_message_is_read_again_from_where_it_changed(tiny: LocalEngine) -> None:
    reply(tiny, ASKED, GREEDY)
    changed = [ASKED[0], Message("user", "What is the fox?")]
    before, after = tiny.encoder.encode(ASKED), tiny.encoder.encode(changed)
    same = next(i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b)
    text, usage = reply(tiny, changed, GREEDY)
    assert usage.reused == same
    tiny._reading.forget()
    assert reply(tiny, changed, GREEDY)[0] == text


def test_a_sliding_window_is_read_afresh_once_it_has_moved_on() -> None:
    tokenizer = chat_like("gpt2", CHATML)
    engine = LocalEngine("slides", tiny_mistral(len(tokenizer), sliding=16), tokenizer)
    text, _ = reply(engine, ASKED, GREEDY)
    again, usage = reply(engine, ASKED, GREEDY)
    assert (again, usage.reused) == (text, 0)
    beam, _ = reply(engine, ASKED, BEAM)
    ids, _ = generated(engine, engine.encoder.encode(ASKED), BEAM)
    words = [id_ for id_ in ids if id_ not in engine.ends]
    assert beam == tokenizer.decode(words, skip_special_tokens=True)


def test_reading_ahead_leaves_little_to_read(tiny: LocalEngine) -> None:
    front = [*ASKED, Message("assistant", "Paris.")]
    tiny.warm(front)
    read = len(tiny._reading.ids)
    assert read == len(tiny.encoder.encode(front, reply=False))
    tiny.warm(ASKED)  # a beginning of what is there already: nothing is lost
    assert len(tiny._reading.ids) == read
    _, usage = reply(tiny, [*front, Message("user", "Why?")], GREEDY)
    assert usage.reused == read


def test_a_fault_in_mid_reading_leaves_the_cache_whole(
    tiny: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, _ = reply(tiny, ASKED, GREEDY)
    layer = tiny.model.model.layers[1]  # type: ignore[union-attr,index]
    for error, seen in (
        (torch.OutOfMemoryError("no room"), ModelFault),
        (RuntimeError("can't allocate memory"), ModelFault),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ):

        def failing(*args: Any, error: BaseException = error, **kwargs: Any) -> None:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(layer, "forward", failing)
            with pytest.raises(seen) as raised:
                reply(tiny, [*ASKED, Message("user", "More?")], GREEDY)
        if seen is ModelFault:
            assert str(raised.value).startswith("out of memory after ")
        assert all(kept.length == len(tiny._reading.ids) for kept in tiny._reading._cache.layers)
        again, usage = reply(tiny, ASKED, GREEDY)
        assert again == text
        assert usage.reused > 0


# -- where a reply ends --------------------------------------------------------------------------


def long_talk(engine: LocalEngine, tokens: int) -> list[Message]:
    words = "안녕 fox " * tokens
    return [Message("user", words[: 2 * tokens])]


def test_a_reply_ends_at_the_windows_end() -> None:
    tokenizer = chat_like("gpt2", CHATML)
    engine = LocalEngine("tiny", tiny_llama(len(tokenizer), window=96), tokenizer)
    engine.ends = frozenset()
    prompt = engine.count(ASKED)
    _, usage = reply(engine, ASKED, replace(GREEDY, max_tokens=500))
    assert usage.prompt + usage.reply == 96 > prompt
    with pytest.raises(WindowFull, match="the window has 96"):
        reply(engine, [*ASKED, *ASKED], GREEDY)


def test_a_reply_ends_at_the_end_token(tiny: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    words = tiny.tokenizer("a fox", add_special_tokens=False).input_ids
    for end in ("</s>", "<|im_end|>"):
        with monkeypatch.context() as patch:
            forced(tiny, [*words, tiny.tokenizer.convert_tokens_to_ids(end), 7, 7], patch)
            pieces = list(tiny.stream(ASKED, GREEDY))
        assert "".join(piece.text for piece in pieces) == "a fox"
        assert (pieces[-1].finish, pieces[-1].usage.reply) == ("stop", len(words))  # type: ignore[union-attr]


def test_korean_without_spaces_streams(tiny: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "안녕하세요오늘날씨가좋네요"
    ids = tiny.tokenizer(text, add_special_tokens=False).input_ids
    forced(tiny, [*ids, 2], monkeypatch)
    pieces = [piece.text for piece in tiny.stream(ASKED, replace(GREEDY, max_tokens=99))]
    assert "".join(pieces) == text
    assert len([piece for piece in pieces if piece]) > 4


@pytest.mark.parametrize("decoding", [GREEDY, BEAM, SAMPLE], ids=lambda one: one.strategy)
def test_stop_in_mid_reply(tiny: LocalEngine, decoding: Decoding) -> None:
    tiny.ends = frozenset()
    stop, seen = threading.Event(), []
    for piece in tiny.stream(ASKED, replace(decoding, max_tokens=200), stop):
        seen.append(piece)
        stop.set()
    assert seen[-1].finish == "interrupted"
    assert 0 < seen[-1].usage.reply < 200  # type: ignore[union-attr]
    assert reply(tiny, ASKED, GREEDY)[1].reused == tiny.count(ASKED) - 1


def test_stop_in_mid_prefill_keeps_what_was_read(
    tiny: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = LocalEngine("long", tiny_llama(len(tiny.tokenizer), window=4096), tiny.tokenizer)
    talk = long_talk(engine, 800)
    assert engine.count(talk) > 3 * CHUNK
    stop = threading.Event()
    stop_after(monkeypatch, 2, stop.set)
    pieces = list(engine.stream(talk, GREEDY, stop))
    assert [(piece.text, piece.finish) for piece in pieces] == [("", "interrupted")]
    assert len(engine._reading.ids) == 2 * CHUNK
    assert reply(engine, talk, GREEDY)[1].reused == 2 * CHUNK


def stop_after(monkeypatch: pytest.MonkeyPatch, reads: int, then: Callable[[], None]) -> None:
    read, count = Reading.read, iter(range(1, 10_000))

    def reading(self: Reading, tokens: list[int]) -> Tensor:
        logits = read(self, tokens)
        if next(count) == reads:
            then()
        return logits

    monkeypatch.setattr(Reading, "read", reading)


def test_a_reply_that_begins_ends_reading_ahead(
    tiny: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = LocalEngine("long", tiny_llama(len(tiny.tokenizer), window=4096), tiny.tokenizer)
    begun: list[Iterator[Piece]] = []

    def begin_reply() -> None:
        # Reading ahead holds the lock here; another thread begins a reply as soon as it is free.
        thread = threading.Thread(target=lambda: begun.append(iter(reply_of())))
        thread.start()
        threads.append(thread)

    def reply_of() -> list[Piece]:
        return list(engine.stream(ASKED, GREEDY))

    threads: list[threading.Thread] = []
    stop_after(monkeypatch, 1, begin_reply)
    engine.warm(long_talk(engine, 1500))
    threads[0].join()
    assert [piece.finish for piece in begun[0]][-1] in ("stop", "length")
    alone = "".join(piece.text for piece in reply_of())
    engine._reading.forget()
    assert "".join(piece.text for piece in reply_of()) == alone


def test_a_reply_that_is_left_gives_way_to_the_next(tiny: LocalEngine) -> None:
    tiny.ends = frozenset()
    left = tiny.stream(ASKED, GREEDY)
    next(left)
    read = len(tiny._reading.ids)
    tiny.warm([Message("user", "Something else")])  # not while a reply is under way
    assert len(tiny._reading.ids) == read
    text, _ = reply(tiny, ASKED, GREEDY)
    assert [piece.finish for piece in left] == ["interrupted"]
    closed = tiny.stream(ASKED, GREEDY)
    next(closed)
    closed.close()  # type: ignore[attr-defined]
    assert reply(tiny, ASKED, GREEDY)[0] == text
    tiny.warm([Message("user", "Something else")])
    assert tiny._reading.ids == tiny.encoder.encode([Message("user", "Something else")], False)


# -- GPT-2 ---------------------------------------------------------------------------------------


def test_gpt2_chats_without_a_template(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = chat_like("gpt2", None)
    engine = LocalEngine("gpt2", tiny_gpt2(len(tokenizer)), tokenizer)
    assert engine.window == 256
    assert reply(engine, ASKED, GREEDY)[1].reply > 0
    ids = tokenizer(" A fox.\nUsers\nUser: no", add_special_tokens=False).input_ids
    with monkeypatch.context() as patch:
        forced(engine, ids, patch)
        text, usage = reply(engine, ASKED, replace(GREEDY, max_tokens=99))
    assert text == "A fox.\nUsers"
    assert usage.reply < len(ids)
    longer = [*ASKED, Message("assistant", text), Message("user", "More?")]
    _, again = reply(engine, longer, GREEDY)
    assert again.reused > usage.prompt


def test_a_model_without_an_end_token_is_refused() -> None:
    tokenizer = chat_like("gpt2", CHATML)
    tokenizer.eos_token = None
    model = tiny_gpt2(len(tokenizer))
    model.generation_config.eos_token_id = None  # type: ignore[union-attr]
    with pytest.raises(ModelFault, match="no end token"):
        LocalEngine("endless", model, tokenizer)


# -- packed weights -------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
def test_packed_layers_compute_what_they_were_made_from(bias: bool) -> None:
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(64, 96, bias=bias)).to(torch.bfloat16)
    if not packable(model):
        pytest.skip("this CPU doesn't compute in bfloat16")
    x = torch.randn(2, 5, 64, dtype=torch.bfloat16)
    with torch.inference_mode():
        expected = model(x)
        pack(model)
        assert type(model[0]) is PackedLinear
        torch.testing.assert_close(model(x), expected, atol=0.02, rtol=0.02)


def test_weights_in_full_precision_are_left_alone() -> None:
    assert not packable(torch.nn.Linear(2, 2))
