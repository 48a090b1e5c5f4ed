"""How the next word comes about, and which of several words is the likelier.

`explain` follows a text through the model: words, tokens, input vectors, hidden vectors layer by
layer, probabilities, the word chosen. `compare` scores given continuations. Knows the glass and
numbers; nothing about how they are shown.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

import torch
from torch import Tensor

from chatbot.errors import BadInput, ModelFault
from chatbot.insight.glass import Glass

VALUES = 4  # numbers of a vector that are shown
LIKELIEST = 10  # next tokens that are shown unless told otherwise
LONGEST = 48  # tokens after which a word is broken off
AGREES = 0.05  # of the largest probability, by which the lens may miss one (bfloat16 does)

GAP = re.compile(r"[(（][ \u3000]+[)）]|\[(?:MASK|BLANK|gap)\]|<mask>|_{2,}|(?:…|\.{3})\s*$")


@dataclass(frozen=True, slots=True)
class Token:
    """A token, as people read it, and its probability (as a next token, where it is one)."""

    id: int
    label: str
    probability: float


@dataclass(frozen=True, slots=True)
class Layer:
    """The last token's vector after a layer (0: before the first), its first values and its length;
    and what the model would say if it ended there: the likeliest token, and the probability of the
    one that comes in the end. Those are None where no lens fits the model."""

    number: int
    values: tuple[float, ...]
    length: float
    says: Token | None = None
    chosen: float | None = None


@dataclass(frozen=True, slots=True)
class NextWord:
    """A text's way to the next word.

    `shapes` are those of each stage: "tokens" (T,), "input" (T, D), "hidden" (L, T, D), "logits"
    (V,) after the last token. `entropy` is in bits. `chosen` is the token that comes next, `rank`
    its place (1 is the likeliest), `word` the word that it begins.
    """

    model: str
    text: str
    words: tuple[str, ...]
    ids: tuple[int, ...]
    labels: tuple[str, ...]
    shapes: dict[str, tuple[int, ...]]
    layers: tuple[Layer, ...]
    likeliest: tuple[Token, ...]
    entropy: float
    chosen: Token
    rank: int
    word: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A continuation: `log_probability` is the sum over its tokens, `mean` that of a token; `share`
    and `share_by_mean` are what it has of 1 among the candidates, by the one and by the other."""

    text: str
    labels: tuple[str, ...]
    log_probabilities: tuple[float, ...]
    share: float
    share_by_mean: float

    @property
    def log_probability(self) -> float:
        return sum(self.log_probabilities)

    @property
    def mean(self) -> float:
        return self.log_probability / len(self.log_probabilities)


# -- the next word --------------------------------------------------------------------------------


def explain(glass: Glass, text: str, top: int = LIKELIEST) -> NextWord:
    """How `text`, up to its gap if it has one, goes on. Errors: BadInput, WindowFull, ModelFault.

    The word is the likeliest token and the likeliest after it, until the word is whole.
    """
    before = gap(text)[0].rstrip() if has_gap(text) else text
    if not before:
        raise BadInput("nothing stands before the gap: give some words of context")
    ids = glass.encode(before)
    following = list(_word_ids(glass, ids))
    return _explained(glass, ids, before, following, top)


def explain_ids(
    glass: Glass, ids: Sequence[int], reply: Sequence[int], top: int = LIKELIEST
) -> NextWord:
    """How `ids` went on with `reply`. Errors: BadInput if that is empty, WindowFull, ModelFault."""
    if not reply:
        raise BadInput("the last reply is empty: there is no next word to explain")
    return _explained(glass, list(ids), glass.decode(ids), list(reply), top)


def _explained(
    glass: Glass, ids: list[int], text: str, following: Sequence[int], top: int
) -> NextWord:
    seen = glass.read(ids, hidden=True, last=1)
    assert seen.hidden is not None
    vectors = seen.hidden[:, -1]  # (L + 1, D)
    probabilities = seen.logits[-1].softmax(-1)  # (V,)
    chosen = following[0]
    layers, size = vectors.shape
    vocabulary = len(probabilities)
    return NextWord(
        model=glass.name,
        text=text,
        words=tuple(text.split()),
        ids=tuple(ids),
        labels=tuple(glass.labels(ids)),
        shapes={
            "tokens": (len(ids),),
            "input": (len(ids), size),
            "hidden": (layers - 1, len(ids), size),
            "logits": (vocabulary,),
        },
        layers=_layers(glass, vectors, probabilities, chosen),
        likeliest=_likeliest(glass, probabilities, min(top, vocabulary)),
        entropy=float(torch.special.entr(probabilities).sum() / torch.log(torch.tensor(2.0))),
        chosen=_token(glass, chosen, float(probabilities[chosen])),
        rank=1 + int((probabilities > probabilities[chosen]).sum()),
        word=first_word(glass, following),
    )


def _layers(glass: Glass, vectors: Tensor, probabilities: Tensor, chosen: int) -> tuple[Layer, ...]:
    """The layers by what they do to the last token's vector: `vectors` (L + 1, D).

    The lens is used only where it gives the true `probabilities` (V,) after the last layer.
    """
    layers = [
        Layer(number, tuple(vector[:VALUES].tolist()), float(vector.norm()))
        for number, vector in enumerate(vectors)
    ]
    try:
        rows = glass.lens(vectors).softmax(-1)  # (L + 1, V)
    except ModelFault:
        return tuple(layers)
    if float((rows[-1] - probabilities).abs().max() / probabilities.max()) > AGREES:
        return tuple(layers)
    return tuple(
        replace(
            layer,
            says=_token(glass, int(row.argmax()), float(row.max())),
            chosen=float(row[chosen]),
        )
        for layer, row in zip(layers, rows, strict=True)
    )


def _likeliest(glass: Glass, probabilities: Tensor, top: int) -> tuple[Token, ...]:
    found = probabilities.topk(top)
    pairs = zip(found.indices.tolist(), found.values.tolist(), strict=True)
    return tuple(_token(glass, id_, probability) for id_, probability in pairs)


def _token(glass: Glass, id_: int, probability: float) -> Token:
    return Token(id_, glass.labels([id_])[0], probability)


def _word_ids(glass: Glass, ids: Sequence[int]) -> list[int]:
    """The likeliest next tokens, until a word is whole or the model would end."""
    said: list[int] = []
    for id_ in islice(glass.follow(ids), LONGEST):
        said.append(id_)
        if id_ in glass.tokenizer.all_special_ids or _is_whole(glass.decode(said)):
            break
    return said


def _is_whole(text: str) -> bool:
    """Whether `text` goes on after its first word."""
    return bool(re.match(r"\s*\S+\s", text))


def first_word(glass: Glass, ids: Sequence[int]) -> str:
    """The first word of `ids`; a control token stands for itself."""
    words = glass.decode(ids).split()
    return words[0] if words else ""


# -- candidates -----------------------------------------------------------------------------------


def has_gap(text: str) -> bool:
    return GAP.search(text) is not None


def gap(text: str) -> tuple[str, str]:
    """What stands before the gap of `text` and what after it: "( )", "[MASK]", "__", or an "…" at
    the end. A GPT looks back only, so what stands after it says nothing. Errors: BadInput for two.
    """
    before, *after = GAP.split(text)
    if len(after) > 1:
        raise BadInput(f"the text has {len(after)} gaps: leave one")
    return before, after[0] if after else ""


def compare(glass: Glass, text: str, candidates: Sequence[str]) -> list[Candidate]:
    """`candidates` in the gap of `text` (or at its end, after a space), the likeliest first.

    A candidate's score is the sum of its tokens' log-probabilities, each after the text and the
    tokens before it: the log-probability of the candidate as a whole. Longer ones have more to
    lose, so the mean of a token is given as well; which of them is fairer is an open question.

    Tokens don't end where the context does: "is " and "Paris" are read as "is" and " Paris", and a
    Korean syllable's first bytes may join the space before it. So each candidate is read together
    with the context, and all of them are scored from the first id in which any of them differs
    from the context's own: what they are compared by begins at the same place for all.

    Errors: BadInput without candidates, or when no token of the context stands before them all;
    WindowFull, ModelFault.
    """
    if not candidates:
        raise BadInput("no candidates: give some, separated by commas")
    context = gap(text)[0] if has_gap(text) else text
    joined = [
        context + (candidate if has_gap(text) else _spaced(context, candidate))
        for candidate in candidates
    ]
    alone = glass.encode(context) if context.strip() else []
    read = [glass.encode(each) for each in joined]
    shared = min(_shared(alone, ids) for ids in read)
    if not shared:
        raise BadInput("too little stands before the candidates: give some words of context")
    prefix = (alone[:shared], glass.prefix(alone[:shared]))
    scores = [glass.log_probabilities(ids[:shared], ids[shared:], prefix) for ids in read]
    shares = torch.stack([each.sum() for each in scores]).softmax(0).tolist()
    by_mean = torch.stack([each.mean() for each in scores]).softmax(0).tolist()
    found = [
        Candidate(
            candidate,
            tuple(glass.labels(ids[shared:])),
            tuple(score.tolist()),
            share,
            share_by_mean,
        )
        for candidate, ids, score, share, share_by_mean in zip(
            candidates, read, scores, shares, by_mean, strict=True
        )
    ]
    return sorted(found, key=lambda each: each.share, reverse=True)


def _spaced(context: str, candidate: str) -> str:
    """A candidate as it follows a context without a gap: a word after a space."""
    apart = candidate[:1].isalnum() and not context[-1:].isspace()
    return f" {candidate}" if apart else candidate


def _shared(left: Sequence[int], right: Sequence[int]) -> int:
    """The length of the common prefix; at least one id of `right` is left over."""
    most = min(len(left), len(right) - 1)
    return next((place for place in range(most) if left[place] != right[place]), most)
