"""Decoding: settings and their checks, and what each function from logits to a token keeps."""

import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chatbot.beam import BeamSearch
from chatbot.decoding import (
    KEYS,
    SETTINGS,
    STRATEGIES,
    Decoding,
    choose,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    penalised,
    shaped,
    tempered,
)
from chatbot.errors import BadInput

NOTHING = torch.empty(0, dtype=torch.long)
INFINITY = float("inf")


def kept(logits: torch.Tensor) -> set[int]:
    return set(torch.nonzero(logits > -INFINITY).flatten().tolist())


def logits_of(probabilities: list[float]) -> torch.Tensor:
    return torch.tensor(probabilities, dtype=torch.float64).log()


# -- settings -----------------------------------------------------------------------------------


def test_importing_the_settings_is_light() -> None:
    code = "import sys, chatbot.decoding; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_every_setting_has_a_key_a_help_text_and_its_place_in_the_log() -> None:
    assert list(Decoding().as_dict()) == [setting.key for setting in SETTINGS]
    assert all(setting.help and setting.allowed for setting in SETTINGS)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_each_strategy_has_defaults(strategy: str) -> None:
    assert Decoding.default(strategy).strategy == strategy


def test_settings_are_read_from_text() -> None:
    changed = Decoding().with_settings({"temperature": "0.7", "top-k": "40", "seed": "12"})
    assert (changed.temperature, changed.top_k, changed.seed) == (0.7, 40, 12)
    assert changed.with_settings({"seed": "none"}).seed is None
    assert changed.top_p == Decoding().top_p


def test_another_strategy_brings_its_defaults_and_keeps_length_and_seed() -> None:
    sample = Decoding().with_settings({"max_tokens": "7", "seed": "3", "top_p": "0.5"})
    beam = sample.with_settings({"strategy": "beam", "beams": "6"})
    assert beam == Decoding(
        **{**Decoding.default("beam").as_dict(), "beams": 6, "max_tokens": 7, "seed": 3}
    )


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("temperature", "hot", "temperature is 'hot': give a number from 0 to 5"),
        ("temperature", "nan", "temperature is nan: give a number from 0 to 5"),
        ("temperature", "5.1", "temperature is 5.1: give a number from 0 to 5"),
        ("top_k", "1.5", "top_k is '1.5': give a whole number from 0 to 1e+06"),
        ("top_p", "1.01", "top_p is 1.01: give a number from 0 to 1"),
        ("min_p", "-0.1", "min_p is -0.1: give a number from 0 to 1"),
        ("beams", "0", "beams is 0: give a whole number from 1 to 32"),
        ("repetition_penalty", "0.9", "repetition_penalty is 0.9: give a number from 1 to 2"),
        ("max_tokens", "0", "max_tokens is 0: give a whole number from 1 to 100000"),
        ("seed", "-1", "seed is -1: give a whole number from 0 to 9.22337e+18, or none"),
        ("strategy", "best", "strategy is 'best': choose one of greedy, beam, sample"),
        ("temprature", "1", "unknown setting 'temprature': did you mean temperature?"),
    ],
)
def test_a_wrong_setting_gets_one_clear_line(key: str, value: str, said: str) -> None:
    with pytest.raises(BadInput) as raised:
        Decoding().with_settings({key: value})
    assert str(raised.value) == said


def test_only_sampling_without_a_seed_is_given_one() -> None:
    assert Decoding.default("greedy").seeded().seed is None
    assert Decoding(seed=7).seeded().seed == 7
    drawn = {Decoding().seeded().seed for _ in range(5)}
    assert None not in drawn
    assert len(drawn) == 5


# -- pure functions -----------------------------------------------------------------------------


def test_temperature_divides_logits() -> None:
    assert tempered(torch.tensor([2.0, -1.0]), 0.5).tolist() == [4.0, -2.0]


def test_the_penalty_weakens_said_tokens_and_no_others() -> None:
    logits = torch.tensor([2.0, -2.0, 3.0, -3.0])
    weaker = penalised(logits, torch.tensor([0, 1, 1, 0]), 1.25)
    assert weaker.tolist() == pytest.approx([1.6, -2.5, 3.0, -3.0])
    assert logits.tolist() == [2.0, -2.0, 3.0, -3.0]


def test_top_k_keeps_the_k_likeliest() -> None:
    logits = logits_of([0.1, 0.4, 0.2, 0.3])
    assert kept(keep_top_k(logits, 2)) == {1, 3}
    assert kept(keep_top_k(logits, 0)) == kept(keep_top_k(logits, 9)) == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("p", "expected"),
    [(0.0, {1}), (0.39, {1}), (0.41, {1, 3}), (0.71, {1, 2, 3}), (0.95, {0, 1, 2, 3})],
)
def test_top_p_keeps_the_smallest_set_that_reaches_p(p: float, expected: set[int]) -> None:
    assert kept(keep_top_p(logits_of([0.1, 0.4, 0.2, 0.3]), p)) == expected


@pytest.mark.parametrize(
    ("p", "expected"), [(0.0, {0, 1, 2, 3}), (0.3, {1, 2, 3}), (0.6, {1, 3}), (1.0, {1})]
)
def test_min_p_keeps_what_is_near_the_likeliest(p: float, expected: set[int]) -> None:
    assert kept(keep_min_p(logits_of([0.1, 0.4, 0.2, 0.3]), p)) == expected


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**31),
    size=st.sampled_from([3, 50, 700, 3000]),
    spread=st.sampled_from([0.05, 1.0, 4.0]),
    p=st.floats(0.05, 0.99),
)
def test_top_p_equals_its_definition(seed: int, size: int, spread: float, p: float) -> None:
    """Also where the nucleus is larger than what is looked at first."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(size, generator=generator, dtype=torch.float64) * spread
    probabilities = logits.softmax(-1).tolist()
    order = sorted(range(size), key=lambda token: -probabilities[token])
    expected, total = set(), 0.0
    for token in order:
        if expected and total >= p - 1e-9:
            break
        expected.add(token)
        total += probabilities[token]
    found = kept(keep_top_p(logits, p))
    assert len(found ^ expected) <= (1 if abs(total - p) < 1e-6 else 0)


def test_order_of_the_filters_is_temperature_first() -> None:
    logits = logits_of([0.5, 0.3, 0.2])
    cold = Decoding(temperature=0.25, top_p=0.8, min_p=0.0)  # p^4: 0.87 of it on the first
    assert kept(shaped(logits, cold)) == {0}
    assert kept(shaped(logits, Decoding(temperature=1.0, top_p=0.8, min_p=0.0))) == {0, 1}


# -- choosing -----------------------------------------------------------------------------------


def test_greedy_takes_the_likeliest() -> None:
    logits = logits_of([0.1, 0.4, 0.2, 0.3])
    greedy = Decoding(strategy="greedy", repetition_penalty=1.0)
    assert choose(logits, NOTHING, greedy) == 1
    assert choose(logits, NOTHING, Decoding(temperature=0.0)) == 1


def test_frequencies_of_sampled_tokens_match_the_distribution() -> None:
    """Chi-square over six tokens and 6,000 draws: 20.5 is the 0.1 % point of 5 degrees."""
    probabilities = [0.35, 0.25, 0.2, 0.1, 0.06, 0.04]
    plain = Decoding(temperature=1.0, top_p=1.0, min_p=0.0, repetition_penalty=1.0)
    generator = torch.Generator().manual_seed(20)
    draws, logits = 6000, logits_of(probabilities)
    counts = [0] * len(probabilities)
    for _ in range(draws):
        counts[choose(logits, NOTHING, plain, generator)] += 1
    expected = [draws * p for p in probabilities]
    chi_square = sum((n - e) ** 2 / e for n, e in zip(counts, expected, strict=True))
    assert chi_square < 20.5
    even = sum((n - draws / 6) ** 2 / (draws / 6) for n in counts)
    assert even > 1000  # the test can tell a wrong distribution


def test_the_same_seed_draws_the_same_tokens() -> None:
    plain = Decoding(temperature=1.0, top_p=1.0, min_p=0.0)

    def draw(seed: int) -> list[int]:
        generator = torch.Generator().manual_seed(seed)
        return [choose(torch.zeros(1000), NOTHING, plain, generator) for _ in range(10)]

    assert draw(1) == draw(1) != draw(2)


# -- beam search --------------------------------------------------------------------------------

CHAIN = logits_of(  # from row's token to column's: the greedy path 0 1 ... is a trap
    [[0.01, 0.5, 0.48, 0.01], [0.3, 0.3, 0.3, 0.1], [0.01, 0.01, 0.01, 0.97], [0.1, 0.1, 0.1, 0.7]]
)


def beam_of_chain(beams: int, limit: int, length_penalty: float = 1.0) -> BeamSearch:
    """Token 3 ends; the next token depends on the last one alone; begins at 0."""
    decoding = Decoding(
        strategy="beam", beams=beams, length_penalty=length_penalty, repetition_penalty=1.0
    )
    search = BeamSearch(decoding, {3}, limit)
    search.advance(CHAIN[:1])
    while not search.done:
        search.advance(CHAIN[[one.ids[-1] for one in search.live]])
    return search


def test_beam_search_finds_what_greedy_misses() -> None:
    assert beam_of_chain(1, 6).best.ids[0] == 1
    best = beam_of_chain(3, 6).best
    assert best.ids == (2, 3)
    assert best.logprob == pytest.approx(math.log(0.48 * 0.97), abs=1e-5)


@pytest.mark.parametrize("length_penalty", [-1.0, 0.0, 1.0])
def test_wide_beams_find_the_best_of_all_sentences(length_penalty: float) -> None:
    sentences = [((), 0.0)]
    whole = []
    for length in range(1, 4):
        grown = []
        for ids, logprob in sentences:
            for token in range(4):
                total = logprob + float(CHAIN[ids[-1] if ids else 0, token])
                done = token == 3 or length == 3
                (whole if done else grown).append(((*ids, token), total))
        sentences = grown
    best = max(whole, key=lambda one: one[1] / len(one[0]) ** length_penalty)
    search = beam_of_chain(30, 3, length_penalty)
    assert search.best.ids == best[0]
    assert search.score(search.best) == pytest.approx(
        best[1] / len(best[0]) ** length_penalty, abs=1e-5
    )


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**31), beams=st.integers(1, 5), limit=st.integers(1, 8))
def test_what_beams_agree_on_is_never_taken_back(seed: int, beams: int, limit: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    chain = torch.randn(6, 6, generator=generator) * 2
    search = BeamSearch(Decoding(strategy="beam", beams=beams), {5}, limit)
    shown: tuple[int, ...] = ()
    rows = chain[:1]
    while not search.done:
        search.advance(rows)
        if search.done:
            break
        shown += search.agreed(len(shown))
        rows = chain[[one.ids[-1] for one in search.live]]
    assert search.best.words[: len(shown)] == shown


def test_help_names_ranges() -> None:
    assert KEYS["temperature"].allowed == "0 to 5"
    assert KEYS["strategy"].allowed == "greedy, beam, sample"
