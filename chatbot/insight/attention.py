"""Which earlier words each word looks at: attention by layer and head, and what makes it.

Tokens are merged into words, since a byte-level vocabulary splits a Korean syllable. The text's
first token is set apart: most heads park on it what they have no use for (Xiao et al. 2023,
"Efficient Streaming Language Models with Attention Sinks"). Layers and heads are counted from 1.
Knows nothing about memory, windows or screens. Attention tells where a model looked, not why it
said what it said (Jain and Wallace 2019, "Attention is not Explanation").
"""

import re
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import AttentionInterface, DynamicCache
from transformers.masking_utils import AttentionMaskInterface, eager_mask

from chatbot.detokenize import detokenizer
from chatbot.errors import BadInput, ModelFault

if TYPE_CHECKING:
    from chatbot.insight.glass import Glass
    from chatbot.insight.parts import Kind, Span
    from memory.types import Hit

FIRST_FREE = 2  # words before the first that can look elsewhere than at its neighbour and itself
CHUNK_BYTES = 2**27  # attention weights that are held at once while a reply is read
AGREES = 1e-3  # by how much softmax of the scores may differ from the model's own weights
TAKEN = "chatbot_taken"  # the name of our attention function among transformers' own
JOINING = "'’-_"  # signs that stand inside words
_SPACELESS = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")


@dataclass(frozen=True, slots=True)
class Word:
    """Tokens `start` to `end` (not included) of a text, and what they spell."""

    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Looked:
    """What W words look at, in L layers of H heads.

    `weights` (L, H, W, W), row by looking word; each row sums to 1, and `first` (L, H, W) of it
    lies on the text's first token.
    """

    ids: tuple[int, ...]
    words: tuple[Word, ...]
    weights: Tensor
    first: Tensor

    @property
    def layers(self) -> int:
        return self.weights.shape[0]

    @property
    def heads(self) -> int:
        return self.weights.shape[1]


@dataclass(frozen=True, slots=True)
class Map:
    """One map of W words: `weights` (W, W), row by looking word.

    `first` (W,) is what lies on the text's first token. With `apart`, that is left out of `weights`
    and each row sums to 1 without it (or to 0, where nothing else is seen). `layer` and `head` are
    None where it is averaged over them.
    """

    words: tuple[Word, ...]
    weights: Tensor
    first: Tensor
    layer: int | None
    head: int | None
    layers: int
    heads: int
    apart: bool = True


@dataclass(frozen=True, slots=True)
class Head:
    """How one head spreads its attention, as means over the words that could look elsewhere.

    The shares on the text's `first` token, on the looking word `itself`, on the word `before`, and
    `elsewhere`, which sum to 1; `sure` is the mean of the largest weight elsewhere. `looking` and
    `looked` are the places of the two words of its strongest link there, of weight `strongest`;
    None in a text of fewer than three words.
    """

    layer: int
    head: int
    first: float
    itself: float
    before: float
    elsewhere: float
    sure: float
    looking: int | None = None
    looked: int | None = None
    strongest: float = 0.0


@dataclass(frozen=True, slots=True)
class Fit:
    """How well a word's keys fit a query: the best `score` of its tokens, and its `share` of the
    attention, summed over them."""

    word: Word
    score: float
    share: float


@dataclass(frozen=True, slots=True)
class Vectors:
    """Query, key and value of a word, (D,) each, in one layer and head: those of its last token,
    which alone has seen the whole word.

    `scores` (T,) are query · key / sqrt(D) (or by whatever the model scales with) for each of the T
    tokens that it sees, positions included; their softmax are the `weights` (T,), unless the model
    does something else to them (`bent`). `fits` are the words, best first.
    """

    word: Word
    layer: int
    head: int
    query: Tensor
    key: Tensor
    value: Tensor
    scores: Tensor
    weights: Tensor
    fits: tuple[Fit, ...]
    bent: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a window: its `tokens`, the `share` of a reply's attention that went to it, and the
    share that it had if every token drew as much as any other (`even`). One memory or pin is a part
    of its own, of `hit`."""

    kind: "Kind"
    tokens: int
    share: float
    even: float
    hit: "Hit | None" = None


@dataclass(frozen=True, slots=True)
class Shares:
    """Where a reply of `reply` tokens looked, as means over its tokens, all layers and heads.

    `first` lay on the window's first token; the rest is shared by the `parts`, which sum to 1.
    """

    parts: tuple[Part, ...]
    first: float
    reply: int
    layers: int
    heads: int


@dataclass(frozen=True, slots=True)
class Asked:
    """Which view of a text's attention is asked for: its map, all `heads`, or a `word`'s vectors.

    `sink` leaves the first token in the map.
    """

    layer: int | None = None
    head: int | None = None
    sink: bool = False
    heads: bool = False
    word: str | None = None


# -- looking --------------------------------------------------------------------------------------


def look(glass: "Glass", text: str) -> Looked:
    """Read `text` and keep what its words look at. Errors: BadInput, ModelFault, WindowFull."""
    ids = glass.encode(text)
    attention = glass.read(ids, attention=True).attention
    assert attention is not None
    words = words_of(glass, ids)
    weights = torch.stack([merged(layer, words) for layer in attention]).cpu()
    return Looked(tuple(ids), words, weights, _mean_rows(attention[..., 0], words).cpu())


def measure(glass: "Glass", looked: Looked, asked: Asked) -> Map | tuple[Head, ...] | Vectors:
    """What was asked for. Errors: BadInput, ModelFault."""
    check_place(looked, asked.layer, asked.head)
    if asked.heads and asked.word is not None:
        raise BadInput("the list of heads and a word's vectors are two views: ask for one of them")
    if asked.heads:
        every = heads_of(looked)
        return tuple(head for head in every if asked.layer in (None, head.layer))
    if asked.word is not None:
        return vectors_of(glass, looked, asked.word, asked.layer, asked.head)
    return map_of(looked, asked.layer, asked.head, apart=not asked.sink)


def map_of(
    looked: Looked, layer: int | None = None, head: int | None = None, *, apart: bool = True
) -> Map:
    """One layer's, one head's or everyone's map; averaged first, then the first token is set
    `apart` and the rest of each row is made to sum to 1. Errors: BadInput."""
    check_place(looked, layer, head)
    weights, first = _chosen(looked.weights, layer, head), _chosen(looked.first, layer, head)
    if apart:
        weights = weights.clone()
        weights[:, 0] = (weights[:, 0] - first).clamp_min(0.0) if looked.words[0].end > 1 else 0.0
        weights /= weights.sum(-1, keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)
    return Map(looked.words, weights, first, layer, head, looked.layers, looked.heads, apart)


def heads_of(looked: Looked) -> list[Head]:
    """All heads, the one that looks elsewhere most surely first.

    Elsewhere is neither the text's first token, nor the looking word itself, nor the word before
    it, where most heads look in any text (Clark et al. 2019, "What Does BERT Look At?"). How sure:
    the mean over words of the largest weight there, as Voita et al. 2019 ("Analyzing Multi-Head
    Self-Attention") measure a head's confidence, who leave out the end of the sentence alone.
    """
    every = [
        _head(looked, layer, head) for layer in range(looked.layers) for head in range(looked.heads)
    ]
    return sorted(every, key=lambda head: -head.sure)


def check_place(looked: Looked, layer: int | None, head: int | None) -> None:
    """Errors: BadInput for a layer or head that isn't there, and for a head of no layer."""
    for what, number, count in (("layer", layer, looked.layers), ("head", head, looked.heads)):
        if number is not None and not 1 <= number <= count:
            raise BadInput(f"no {what} {number}: this model has {what}s 1 to {count}")
    if head is not None and layer is None:
        raise BadInput(
            f"head {head} of which layer? Heads of two layers have nothing in common: give a layer"
        )


def _chosen(numbers: Tensor, layer: int | None, head: int | None) -> Tensor:
    """(L, H, …) → (…): one head's, or the mean over a layer's or all heads."""
    layers = numbers if layer is None else numbers[layer - 1 : layer]
    heads = layers if head is None else layers[:, head - 1 : head]
    return heads.flatten(0, 1).mean(0)


def _head(looked: Looked, layer: int, head: int) -> Head:
    weights, first = looked.weights[layer, head], looked.first[layer, head]
    count = len(looked.words)
    if count <= FIRST_FREE:
        return Head(layer + 1, head + 1, 0.0, 0.0, 0.0, 0.0, 0.0)
    itself = weights.diagonal()[FIRST_FREE:].mean()
    before = weights.diagonal(-1)[FIRST_FREE - 1 :].mean()
    far = weights.tril(-FIRST_FREE)  # neither the word itself nor the one before
    far[:, 0] -= first  # rows before FIRST_FREE are taken away below
    far = far[FIRST_FREE:].clamp_min(0.0)
    strongest = int(far.argmax())
    return Head(
        layer + 1,
        head + 1,
        float(first[FIRST_FREE:].mean()),
        float(itself),
        float(before),
        float(far.sum(-1).mean()),
        float(far.amax(-1).mean()),
        FIRST_FREE + strongest // count,
        strongest % count,
        float(far.flatten()[strongest]),
    )


# -- words ----------------------------------------------------------------------------------------


def words_of(glass: "Glass", ids: Sequence[int]) -> tuple[Word, ...]:
    """`ids` in words, each token in exactly one of them.

    Words end at spaces, and punctuation stands apart where it has tokens of its own; scripts
    without spaces (Chinese, Japanese, Thai) are cut wherever a token ends.
    """
    words: list[Word] = []
    for piece in _spelled(glass, ids):
        if words and not _begins(words[-1].text, piece.text):
            last = words.pop()
            piece = Word(last.text + piece.text, last.start, piece.end)
        words.append(piece)
    return tuple(Word(word.text.strip() or "⏎", word.start, word.end) for word in words)


def merged(attention: Tensor, words: Sequence[Word]) -> Tensor:
    """(…, T, T) over tokens → (…, W, W) over words.

    Attention to a word is the sum over its tokens, that of a word the mean over its tokens (as in
    Clark et al. 2019), so that a row still sums to 1.
    """
    looked_at = torch.stack([attention[..., word.start : word.end].sum(-1) for word in words], -1)
    return _mean_rows(looked_at.transpose(-1, -2), words).transpose(-1, -2)


def _mean_rows(numbers: Tensor, words: Sequence[Word]) -> Tensor:
    """(…, T) → (…, W): the mean over each word's tokens."""
    return torch.stack([numbers[..., word.start : word.end].mean(-1) for word in words], -1)


def _spelled(glass: "Glass", ids: Sequence[int]) -> Iterator[Word]:
    """The shortest runs of `ids` that spell whole characters; a control token is one by itself."""
    control = set(glass.tokenizer.all_special_ids)
    text, start = detokenizer(glass.tokenizer), 0
    for place, token in enumerate(ids):
        if token in control:
            if start < place:
                yield Word(text.end(), start, place)
            text, start = detokenizer(glass.tokenizer), place + 1
            yield Word(glass.labels([token])[0], place, place + 1)
        elif spelled := text.add(token):
            yield Word(spelled, start, place + 1)
            start = place + 1
    if start < len(ids):
        yield Word(text.end(), start, len(ids))


def _begins(before: str, text: str) -> bool:
    """Whether a word begins with `text`, or goes on from `before`."""
    if not before.strip() or not text:
        return False
    if before[-1].isspace() or text[0].isspace() or _SPACELESS.match(text):
        return True
    return _is_sign(before[-1]) != _is_sign(text[0])


def _is_sign(character: str) -> bool:
    return unicodedata.category(character)[0] in "PS" and character not in JOINING


# -- query, key and value -------------------------------------------------------------------------


def vectors_of(
    glass: "Glass", looked: Looked, word: str, layer: int | None = None, head: int | None = None
) -> Vectors:
    """Query, key and value of `word`, where it stands last in the text.

    Without a layer or head: the one of them that looks elsewhere most surely. Errors: BadInput;
    ModelFault where the model's attention can't be watched.
    """
    check_place(looked, layer, head)
    found = find(looked, word)
    best = next(
        each
        for each in heads_of(looked)
        if layer in (None, each.layer) and head in (None, each.head)
    )
    query, keys, values, hidden, scale, weights = _taken(glass, looked.ids, best)
    place = found.end - 1
    seen = torch.arange(place + 1)[~hidden[place, : place + 1]]
    scores = (keys[seen] @ query[place]) * scale
    softmax, weights = scores.softmax(-1), weights[place, seen]
    bent = not torch.allclose(softmax, weights, atol=AGREES)
    fits = _fits(looked.words, seen.tolist(), scores, weights)
    return Vectors(
        found, best.layer, best.head, query[place], keys[place], values[place], scores, weights,
        fits, bent,
    )  # fmt: skip


def find(looked: Looked, word: str) -> Word:
    """The last word of the text that is `word`, or else contains it. Errors: BadInput."""
    wanted = word.strip().casefold()
    for fits in (lambda text: text == wanted, lambda text: wanted in text):
        for each in reversed(looked.words):
            if wanted and fits(each.text.casefold()):
                return each
    raise BadInput(f"there is no word {word!r} in the text: give one of its words")


def _fits(
    words: Sequence[Word], seen: list[int], scores: Tensor, weights: Tensor
) -> tuple[Fit, ...]:
    fits = []
    for word in words:
        tokens = [place for place, token in enumerate(seen) if word.start <= token < word.end]
        if tokens:
            fits.append(Fit(word, float(scores[tokens].max()), float(weights[tokens].sum())))
    return tuple(sorted(fits, key=lambda fit: -fit.score))


@torch.inference_mode()
def _taken(
    glass: "Glass", ids: Sequence[int], place: Head
) -> tuple[Tensor, Tensor, Tensor, Tensor, float, Tensor]:
    """What one head computes with: queries, keys (turned by their positions) and values (T, D),
    what is hidden from each token (T, T), the scale, and the attention weights (T, T).

    transformers lets every model call one function with its queries, keys and values; ours looks
    at them, then calls the model's own. Errors: ModelFault.
    """
    calls: list[tuple[Tensor, ...]] = []
    scales: list[float] = []

    def take(
        module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **how: Any
    ) -> Any:
        plain = sys.modules[type(module).__module__].eager_attention_forward
        out, weights = plain(module, query, key, value, mask, **how)
        if len(calls) + 1 == place.layer:
            own = (place.head - 1) * key.shape[1] // query.shape[1]  # heads may share their keys
            taken = (query[0, place.head - 1], key[0, own], value[0, own])
            calls.append((*taken, _hidden(mask, weights), weights[0, place.head - 1]))
            scales.append(float(how.get("scaling") or query.shape[-1] ** -0.5))
        else:
            calls.append(())
        return out, weights

    AttentionInterface.register(TAKEN, take)
    AttentionMaskInterface.register(TAKEN, eager_mask)
    with _computed_by(glass, TAKEN):
        glass.model(torch.tensor([list(ids)], device=glass.model.device), use_cache=False)
    if not scales:
        raise ModelFault(
            f"{glass.name} doesn't let its queries and keys be seen: take another model"
        )
    query, key, value, hidden, weights = (part.cpu() for part in calls[place.layer - 1])
    return query.float(), key.float(), value.float(), hidden, scales[0], weights.float()


def _hidden(mask: Tensor | None, weights: Tensor) -> Tensor:
    """(T, T): what each token doesn't see, by the mask that is added to its scores."""
    if mask is None:
        return torch.ones_like(weights[0, 0], dtype=torch.bool).triu(1)
    return mask[0, 0, :, : weights.shape[-1]] < 0


@contextmanager
def _computed_by(glass: "Glass", name: str) -> Iterator[None]:
    """Let one of transformers' attention functions do the model's attention. Errors: ModelFault."""
    config: Any = glass.model.config
    before = config._attn_implementation
    try:
        glass.model.set_attn_implementation(name)
        if config._attn_implementation != name:
            raise NotImplementedError(name)
        yield
    except (RuntimeError, MemoryError, ValueError, KeyError, AttributeError) as error:
        said = (str(error).strip() or type(error).__name__).split("\n")[0]
        raise ModelFault(f"{glass.name} can't show its attention ({said})") from error
    finally:
        glass.model.set_attn_implementation(before)


# -- the rows of a continuation -------------------------------------------------------------------


def rows_after(glass: "Glass", before: Sequence[int], ids: Sequence[int]) -> Iterator[Tensor]:
    """What each of `ids` looks at after `before`: (L, H, c, T + R), in chunks of c rows.

    Only these rows are ever computed, so that `before` may fill the whole window. Errors:
    ModelFault, WindowFull.
    """
    glass.check([*before, *ids])
    cache = glass.prefix(before) if before else DynamicCache(config=glass.model.config)
    width = len(before) + len(ids)
    config = glass.model.config.get_text_config(decoder=True)
    every = config.num_hidden_layers * config.num_attention_heads
    chunk = max(CHUNK_BYTES // (4 * every * width), 1)
    with _computed_by(glass, "eager"):
        for start in range(0, len(ids), chunk):
            layers = _continued(glass, cache, ids[start : start + chunk])
            done = len(before) + min(start + chunk, len(ids))
            yield torch.stack([_placed(layer[0].float(), done, width) for layer in layers])


@torch.inference_mode()
def _continued(glass: "Glass", cache: DynamicCache, ids: Sequence[int]) -> Sequence[Tensor]:
    """Read `ids` after what `cache` holds; (1, H, c, K) a layer. Errors: ModelFault."""
    out = glass.model(
        torch.tensor([list(ids)], device=glass.model.device),
        use_cache=True,
        output_attentions=True,
        return_dict=True,
        **{glass.cache_name: cache},
    )
    if not out.attentions or any(layer is None for layer in out.attentions):
        raise ModelFault(f"{glass.name} can't show its attention: take another model")
    layers: Sequence[Tensor] = out.attentions
    return layers


def _placed(weights: Tensor, done: int, width: int) -> Tensor:
    """(H, c, K) → (H, c, width): the last of the K columns is token `done` - 1.

    A layer whose attention slides knows its last tokens alone.
    """
    return torch.nn.functional.pad(weights, (done - weights.shape[-1], width - done))


# -- a reply --------------------------------------------------------------------------------------


def shares_of(
    glass: "Glass", window: Sequence[int], reply: Sequence[int], spans: Sequence["Span"]
) -> Shares:
    """Where the model looked while it wrote `reply` (R,) in `window` (T,): the mean over the R rows
    from which its tokens were predicted, first token apart, the rest made to sum to 1.

    `spans` cover both, each token once. Errors: BadInput for an empty reply, ModelFault.
    """
    if not reply:
        raise BadInput("the last reply is empty: nothing was looked at")
    share, even, first = [0.0] * len(spans), [0.0] * len(spans), 0.0
    place, shape = len(window) - 1, (0, 0)
    for chunk in rows_after(glass, window[:-1], [window[-1], *reply[:-1]]):
        shape = (chunk.shape[0], chunk.shape[1])
        rows = chunk.mean((0, 1)).cpu()
        first += float(rows[:, 0].sum())
        rows[:, 0] = 0.0
        rows /= rows.sum(-1, keepdim=True).clamp_min(1e-6)
        for number, span in enumerate(spans):
            share[number] += float(rows[:, span.start : span.end].sum())
            even[number] += sum(_even(span, place + row) for row in range(len(rows)))
        place += len(rows)
    parts = tuple(_parts(spans, [part / len(reply) for part in share], even, len(reply)))
    return Shares(parts, first / len(reply), len(reply), *shape)


def _even(span: "Span", place: int) -> float:
    """The share of `span` in the tokens that token `place` sees, the first left out."""
    seen = min(span.end, place + 1) - max(span.start, 1)
    return max(seen, 0) / max(place, 1)


def _parts(
    spans: Sequence["Span"], share: Sequence[float], even: Sequence[float], reply: int
) -> Iterator[Part]:
    """Spans of the same kind, and of the same memory, put together."""
    keys = [(span.kind, span.hit.turn.id if span.hit else None) for span in spans]
    for key in dict.fromkeys(keys):
        own = [place for place, each in enumerate(keys) if each == key]
        yield Part(
            key[0],
            sum(spans[place].end - spans[place].start for place in own),
            sum(share[place] for place in own),
            sum(even[place] for place in own) / reply,
            spans[own[0]].hit,
        )
