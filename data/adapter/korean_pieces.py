"""Choose the Korean tokens, and where their vectors start: `python -m data.adapter.korean_pieces
CORPORA FOLDER`.

CORPORA holds dialogues_ko.jsonl.gz, dialogues_en.jsonl.gz, paraphrases_ko.tsv.gz,
pairs_en_ko.tsv.gz, wiki_ko.jsonl.gz and wiki_en.jsonl.gz, made of the public sets that README.md
names. Writes korean.txt beside this file, and initial.npy into FOLDER. Needs kiwipiepy and gensim.
About ten minutes on two cores.

A morphological analyser cuts the words of the corpora into stems and endings; the commonest become
tokens, stems as beginnings of words ("이사"), endings as what goes on ("##했어요"). Greedy longest
match (WordPiece) then finds mostly the same cuts with no analyser at hand. A token of which
glossary_ko.tsv gives a translation starts from the vectors of the translation's tokens. Others
start from a mixture of English ones: word vectors of both languages are turned onto each other by
the glossary (orthogonal Procrustes), and the eight nearest count (WECHSEL: Minixhofer et al. 2022,
arXiv 2112.06598).
"""

import argparse
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gensim.models import KeyedVectors, Word2Vec
from kiwipiepy import Kiwi
from numpy.typing import NDArray

from chatbot.models import embedder_folder
from data.adapter.corpora import column, dialogues, paragraphs
from memory.adapter import load_encoder
from memory.korean import PIECES, korean_tokenizer

HERE = Path(__file__).parent
STEMS, ENDINGS = 17_000, 5_500
SEEN = 4  # weighted occurrences of a stem or syllable, 6 of an ending
CONTENT = tuple("NN NR NP XR XPN MAG MAJ MM IC VV VA VX".split())  # tags of what begins anew
RUN = re.compile("[가-힣ㄱ-ㅣ]+")
NEAREST, SHARP = 8, 0.05
DIRECT = 0.75  # what the glossary says counts so much, the neighbours the rest

Floats = NDArray[np.float32]


def weighted(corpora: Path) -> Iterator[tuple[int, str]]:
    """Korean texts, and how much each counts: talk more than articles."""
    for weight, texts in (
        (3, dialogues(corpora / "dialogues_ko.jsonl.gz")),
        (2, column(corpora / "paraphrases_ko.tsv.gz", 3)),
        (2, column(corpora / "pairs_en_ko.tsv.gz", 3)),
        (1, paragraphs(corpora / "wiki_ko.jsonl.gz", every=5, most=12, size=400)),
    ):
        yield from ((weight, unicodedata.normalize("NFC", text)) for text in texts)


def choose(corpora: Path, known: set[str]) -> list[str]:
    """Stems, endings and syllables, without what the English vocabulary has."""
    texts = list(weighted(corpora))
    heads: Counter[str] = Counter()
    tails: Counter[str] = Counter()
    syllables: Counter[str] = Counter()
    analysed = Kiwi().tokenize(text for _, text in texts)
    for (weight, text), tokens in zip(texts, analysed, strict=True):
        cuts = {token.start: token.end for token in tokens if token.tag.startswith(CONTENT)}
        for run in RUN.finditer(text):
            syllables.update(dict.fromkeys(run[0], weight))
            for at, piece in enumerate(cut(text, run.span(), cuts)):
                (tails if at else heads)[piece] += weight
    stems = [piece for piece, count in heads.most_common(STEMS) if count >= SEEN]
    endings = [f"##{piece}" for piece, count in tails.most_common(ENDINGS) if count > SEEN + 1]
    single = [letter for letter, count in syllables.items() if count >= SEEN]
    every = [*stems, *single, *endings, *(f"##{letter}" for letter in single)]
    return [piece for piece in dict.fromkeys(every) if piece not in known and len(piece) <= 8]


def cut(text: str, span: tuple[int, int], cuts: dict[int, int]) -> Iterator[str]:
    """A word in stems, and what stands between them in one piece each."""
    at, end = span
    while at < end:
        stop = cuts.get(at, at)
        if not at < stop <= end:
            stop = next((place for place in range(at + 1, end) if place in cuts), end)
        yield text[at:stop]
        at = stop


def word_vectors(texts: Iterator[str], tokenizer: Any, epochs: int) -> KeyedVectors:
    """Skip-gram vectors of tokens, by their ids as text."""
    some = [text for text in texts if text]
    ids = [
        [str(id_) for id_ in one]
        for start in range(0, len(some), 5000)
        for one in tokenizer(some[start : start + 5000], add_special_tokens=False)["input_ids"]
    ]
    model = Word2Vec(
        ids, vector_size=200, window=5, min_count=4, sg=1, sample=1e-4, epochs=epochs, workers=2
    )
    vectors: KeyedVectors = model.wv
    return vectors


def unit(rows: Floats) -> Floats:
    scaled: Floats = rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-6)
    return scaled


def glossary() -> list[tuple[str, str]]:
    """Korean words without the ending 다, and their first translation."""
    rows = (HERE / "glossary_ko.tsv").read_text("utf-8").splitlines()[1:]
    pairs = (row.split("\t") for row in rows)
    return [(re.sub("(?<=.)하?다$", "", ko), en.split(";")[0].strip()) for ko, en in pairs]


def initial(
    pieces: Sequence[str], korean: KeyedVectors, english: KeyedVectors, tokenizer: Any
) -> Floats:
    """Where each piece's vector starts, (pieces, D)."""
    inputs = load_encoder(embedder_folder()).get_input_embeddings().weight.detach().numpy()
    own = len(inputs)
    told: dict[int, Floats] = {}
    bridge = []
    for ko, en in glossary():
        left, right = (tokenizer(word, add_special_tokens=False)["input_ids"] for word in (ko, en))
        if len(left) == 1 and left[0] >= own and right:
            told.setdefault(left[0], inputs[right].mean(0))
            if len(right) == 1 and str(left[0]) in korean and str(right[0]) in english:
                bridge.append((str(left[0]), str(right[0])))
    middle_ko, middle_en = (unit(v.vectors).mean(0) for v in (korean, english))
    ours = unit(unit(korean[[a for a, _ in bridge]]) - middle_ko)
    theirs = unit(unit(english[[b for _, b in bridge]]) - middle_en)
    u, _, v = np.linalg.svd(ours.T @ theirs)
    words = [
        w for w in english.index_to_key if int(w) < own and english.get_vecattr(w, "count") > 19
    ]
    targets = unit(unit(english[words]) - middle_en)
    values = inputs[[int(word) for word in words]]
    usual = float(np.linalg.norm(values, axis=1).mean())
    rng = np.random.default_rng(0)
    rows = np.zeros((len(pieces), inputs.shape[1]), np.float32)
    for at in range(len(pieces)):
        id_ = str(own + at)
        row = told.get(own + at)
        if id_ in korean:
            near = targets @ (unit(unit(korean[id_]) - middle_ko) @ u @ v)
            best = np.argsort(-near)[:NEAREST]
            share = np.exp((near[best] - near[best[0]]) / SHARP)
            around = share @ values[best] / share.sum()
            row = around if row is None else DIRECT * row + (1 - DIRECT) * around
        if row is None:
            row = values.mean(0) + rng.normal(0, 0.3 * values.std(), len(values.mean(0)))
        rows[at] = row / max(1e-6, min(1.0, float(np.linalg.norm(row)) / usual))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpora", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    corpora: Path = options.corpora
    base = json.loads((embedder_folder() / "tokenizer.json").read_text("utf-8"))
    pieces = choose(corpora, set(base["model"]["vocab"]))
    (HERE / PIECES).write_text("".join(f"{piece}\n" for piece in pieces), "utf-8")
    tokenizer = korean_tokenizer(embedder_folder(), pieces)
    korean = [text for _, text in weighted(corpora)]
    korean += paragraphs(corpora / "wiki_ko.jsonl.gz")
    english = [*dialogues(corpora / "dialogues_en.jsonl.gz")]
    english += paragraphs(corpora / "wiki_en.jsonl.gz", size=1500)
    of_korean = word_vectors(iter(korean), tokenizer, 4)
    of_english = word_vectors(iter(english), tokenizer, 2)
    rows = initial(pieces, of_korean, of_english, tokenizer)
    np.save(options.folder / "initial.npy", rows)


if __name__ == "__main__":
    main()
