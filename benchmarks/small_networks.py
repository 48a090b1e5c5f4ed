"""A small LSTM and a small GPT that learn to answer for a fact told earlier, and their task.

The task is a made-up language of three sorts of words: filler, which follows Zipf's law; one word
for each name with each value, which tells a fact; and one question for each name, after which the
value that was told of it must come. A text tells of several names, now and then again, so that a
network has to hold several facts at once. Both networks learn on texts of `LENGTH` words by the
same recipe, their loss taken at the questions alone. Knows nothing of languages that people speak,
and nothing of the chatbot.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

FILLER, NAMES, VALUES = 200, 8, 20  # words, names, and values of each; chance is 1 in VALUES
ASK = FILLER + NAMES * VALUES  # the first question; a fact is FILLER + VALUES * name + value
VOCABULARY = ASK + NAMES
LENGTH = 128  # words of a training text, and the GPT's window
TELLING, ASKING = 0.04, 0.12  # shares of the words that tell and ask,
DENSE = 0.3, 0.4  # and in the short texts that learning begins with: many facts to tell apart
UNKNOWN = -100  # the answer where nothing is asked, or nothing was told yet

WIDTH, HEADS, LAYERS = 64, 4, 4  # of the GPT
EMBEDDED = 64  # numbers in one of the LSTM's word vectors
BATCH, RATE, CLIP = 32, 2e-3, 1.0
CHUNK = 2000  # words read at once, of a long text

Words = NDArray[np.int64]
Flags = NDArray[np.bool_]


# -- the task -------------------------------------------------------------------------------------


class Stream:
    """`count` endless texts side by side, in each of which every name has one value.

    A name of `kept` (count,) is told by `tell` alone.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        count: int,
        kept: Words | None = None,
        shares: tuple[float, float] = (TELLING, ASKING),
    ) -> None:
        self._rng, self._count, self._kept, self._shares = rng, count, kept, shares
        self._values = rng.integers(VALUES, size=(count, NAMES))
        self._told = np.zeros((count, NAMES), dtype=np.bool_)
        self._zipf = np.cumsum(1 / np.arange(1, FILLER + 1))

    def tell(self, names: Words, values: Words) -> Words:
        """One fact in each text: its word, (count, 1)."""
        texts = np.arange(self._count)
        self._values[texts, names], self._told[texts, names] = values, True
        return (FILLER + VALUES * names + values)[:, None]

    def words(self, length: int) -> tuple[Words, Words]:
        """The next `length` words, and what must follow each of them: a value where one is asked
        for that was told, else UNKNOWN; both (count, length)."""
        shape = (self._count, length)
        name = self._rng.integers(NAMES, size=shape)
        if self._kept is not None:  # another name in its place
            other = (self._kept[:, None] + self._rng.integers(1, NAMES, size=shape)) % NAMES
            name = np.where(name == self._kept[:, None], other, name)
        value = np.take_along_axis(self._values, name, axis=1)
        kind = self._rng.random(shape)
        telling, asking = self._shares
        tells, asks = kind < telling, (kind >= telling) & (kind < telling + asking)
        words = np.searchsorted(self._zipf, self._rng.random(shape) * self._zipf[-1])
        words = np.where(tells, FILLER + VALUES * name + value, words)
        words = np.where(asks, ASK + name, words)
        return words, np.where(asks & self._known(name, tells), value, UNKNOWN)

    def _known(self, name: Words, tells: Flags) -> Flags:
        """For each word whether its name has been told by then; remembers it for later pieces."""
        told = tells[:, :, None] & (name[:, :, None] == np.arange(NAMES))  # (count, length, NAMES)
        told[:, 0] |= self._told
        told = np.logical_or.accumulate(told, axis=1)
        self._told = told[:, -1]
        known: Flags = np.take_along_axis(told, name[:, :, None], axis=2)[:, :, 0]
        return known


def question(
    rng: np.random.Generator, count: int, distance: int, only: int | None = None
) -> tuple[Iterator[Words], Words]:
    """`count` texts in which a fact is told, `distance` other words follow, and it is asked for.

    The words in pieces (count, some), and the answers (count,). With `only`, no more than the last
    `only` words of each text are made: what is left of it in a window of so many.
    """
    names, values = rng.integers(NAMES, size=count), rng.integers(VALUES, size=count)
    stream = Stream(rng, count, kept=names)

    def pieces() -> Iterator[Words]:
        told, left = stream.tell(names, values), distance
        if only is None or distance + 2 <= only:
            yield told
        else:
            left = only - 1
        while left:
            some = min(left, CHUNK)
            yield stream.words(some)[0]
            left -= some
        yield (ASK + names)[:, None]

    return pieces(), values


# -- the networks ---------------------------------------------------------------------------------


class Lstm(nn.Module):
    """A recurrent network: each word renews its state, and the state is all that it keeps."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, EMBEDDED)
        self.lstm = nn.LSTM(EMBEDDED, hidden)
        self.head = nn.Linear(hidden, VALUES)
        with torch.no_grad():  # memories that last from 1 to LENGTH words: arXiv 1804.11188
            weights = dict(self.lstm.named_parameters())
            weights["bias_ih_l0"].zero_()
            weights["bias_hh_l0"].zero_()
            lasting = torch.log(torch.empty(hidden).uniform_(1, LENGTH - 1))
            weights["bias_ih_l0"][hidden : 2 * hidden] = lasting  # the gate that keeps
            weights["bias_ih_l0"][:hidden] = -lasting  # the gate that lets in

    def forward(self, words: Tensor) -> Tensor:
        """(B, T) to the logits of the value after each word, (B, T, VALUES)."""
        states, _ = self.lstm(self.embedding(words.T))
        logits: Tensor = self.head(states).transpose(0, 1)
        return logits

    def answer(self, pieces: Iterator[Words]) -> Words:
        """The likeliest value after the last of the words, (B,)."""
        state = None
        for words in pieces:
            states, state = self.lstm(self.embedding(torch.from_numpy(words).T), state)
        best: Words = self.head(states[-1]).argmax(-1).numpy()
        return best


def turned(vectors: Tensor) -> Tensor:
    """Rotary positions: each pair of numbers of (B, H, T, D) turned by its place (2104.09864)."""
    *_, length, size = vectors.shape
    rates = LENGTH ** -(torch.arange(0, size, 2) / size)
    angles = torch.arange(length)[:, None] * rates  # (T, D / 2)
    left, right = vectors.chunk(2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([left * cos - right * sin, left * sin + right * cos], dim=-1)


class Block(nn.Module):
    """Attention to the words up to this one, then a perceptron, each added to what came in."""

    def __init__(self) -> None:
        super().__init__()
        self.before_attention, self.before_mlp = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.query_key_value = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(
            nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH)
        )

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, T, WIDTH) to the same shape."""
        count, length, _ = hidden.shape
        mixed = self.query_key_value(self.before_attention(hidden))
        split = mixed.view(count, length, 3, HEADS, WIDTH // HEADS)
        query, key, value = split.permute(2, 0, 3, 1, 4)  # each (B, H, T, D)
        query, key = turned(query), turned(key)
        seen = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        hidden = hidden + self.out(seen.transpose(1, 2).reshape(count, length, WIDTH))
        added: Tensor = self.mlp(self.before_mlp(hidden))
        return hidden + added


class Gpt(nn.Module):
    """A decoder with rotary positions: it sees its window of LENGTH words, and nothing before."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, VALUES)
        nn.init.normal_(self.embedding.weight, std=0.1)

    def forward(self, words: Tensor) -> Tensor:
        """(B, T) to the logits of the value after each word, (B, T, VALUES)."""
        logits: Tensor = self.head(self.norm(self.blocks(self.embedding(words))))
        return logits

    def answer(self, pieces: Iterator[Words]) -> Words:
        """The likeliest value after the last of the words, (B,)."""
        words = np.concatenate(list(pieces), axis=1)[:, -LENGTH:]
        best: Words = self(torch.from_numpy(words))[:, -1].argmax(-1).numpy()
        return best


def parameters(network: nn.Module) -> int:
    return sum(one.numel() for one in network.parameters())


def pair(seed: int) -> tuple[Lstm, Gpt]:
    """Both networks, untrained, with as nearly as can be the same number of parameters."""
    torch.manual_seed(seed)
    gpt = Gpt()
    fixed = VOCABULARY * EMBEDDED + VALUES
    linear = 4 * (EMBEDDED + 2) + VALUES  # parameters: 4 h² + linear h + fixed
    root = math.sqrt(linear**2 + 16 * (parameters(gpt) - fixed))
    return Lstm(round((root - linear) / 8)), gpt


# -- learning and answering -----------------------------------------------------------------------


def train(
    network: Lstm | Gpt, seed: int, steps: int, told: Callable[[int, int], None] | None = None
) -> float:
    """Learn on `steps` batches of fresh texts; the share answered right in the last tenth.

    The texts of the first half are a quarter as long, four times as many, and DENSE. `told` is
    told of the steps done, of how many.
    """
    rng = np.random.default_rng((seed, 1))
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps, pct_start=0.1)
    right = asked = 0
    for step in range(steps):
        if 2 * step < steps:
            texts = Stream(rng, 4 * BATCH, shares=DENSE).words(LENGTH // 4)
        else:
            texts = Stream(rng, BATCH).words(LENGTH)
        words, answers = map(torch.from_numpy, texts)
        logits = network(words)
        loss = functional.cross_entropy(
            logits.reshape(-1, VALUES), answers.reshape(-1), ignore_index=UNKNOWN
        )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), CLIP)
        optimizer.step()
        schedule.step()
        if step >= 0.9 * steps:
            right += int((logits.argmax(-1) == answers).sum())
            asked += int((answers != UNKNOWN).sum())
        if told is not None:
            told(step + 1, steps)
    return right / max(1, asked)


def answered(network: Lstm | Gpt, seed: int, distance: int, count: int) -> int:
    """How many of `count` facts the network answers for after `distance` other words."""
    rng = np.random.default_rng((seed, 2, distance))
    only = LENGTH if isinstance(network, Gpt) else None
    pieces, values = question(rng, count, distance, only)
    with torch.inference_mode():
        return int((network.answer(pieces) == values).sum())
