"""Train the Korean encoder: `python -m data.adapter.train_korean CORPORA FOLDER [--minutes 75]`.

CORPORA as for korean_pieces.py, which is run first; FOLDER holds its initial.npy, and gets a
checkpoint every few minutes, from which the next call goes on. Beside this file lie what the
project wrote: pairs_en_ko.tsv (sentences in both languages), glossary_ko.tsv (words) and
conversations_ko.txt (Korean talk, with questions in both languages and the turns that answer).

Teacher: the English encoder with its adapter, which stays as it is. Student: a copy of it with
Korean tokens. Five tasks, drawn at random, all by in-batch contrast of mean vectors and of tokens
(late interaction), the first three also by the cosine to the teacher's vector of the English text
(Reimers and Gurevych 2020, arXiv 2004.09813):

    pair      a Korean sentence and its translation
    switched  an English sentence some of whose words are Korean, and the sentence itself
    word      a Korean word, bent in some way, and its translation
    alike     two Korean sentences that mean the same
    question  a question, in Korean or English, and the turn that answers it, among others of its
              conversation

Written at the end: korean.safetensors, the updates of the layers and the vectors of the tokens.
Afterwards run fit_ranking.py. `--measure` trains nothing: it tells how the shipped encoder does on
what training never saw, and with `--sts FILE` on KorSTS.
"""

import argparse
import csv
import json
import math
import random
import re
import time
import unicodedata
import zlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, embedding, normalize

from chatbot.models import embedder_folder
from data.adapter.corpora import column, dialogues, lines
from data.adapter.train_embedder import BASE, MOST_TELLING, Texts, interaction
from memory.adapter import TELLING, WORDS, find_adapter, load_encoder
from memory.embed import SentenceEmbedder
from memory.korean import KOREAN, PIECES, korean_tokenizer

HERE = Path(__file__).parent
RANK = 96  # of the updates
RATE, WORD_RATE = 1.5e-4, 1e-3
SAVE = 300  # seconds
SHARES = {"question": 0.5, "pair": 0.28, "switched": 0.1, "word": 0.07, "alike": 0.05}
WEIGHTS = {
    "own": 3.0,
    "tatoeba-en-ko": 1.2,
    "korean-parallel-corpora/jhe": 1.2,
    "kosp2e-en-ko": 0.45,
}
GROUPS = 200  # of paraphrases, with their translations, that training never sees
HELD_OUT = {  # sentences in both languages, likewise
    "tatoeba-en-ko": 300,
    "korean-parallel-corpora/jhe": 100,
    "korean-parallel-corpora/news": 300,
}
ENGLISH_SENTENCES = 16_000
PARTICLES = ["", "", *"은 는 이 가 을 를 에 에서 의 도 로 랑".split()]
ENDINGS = "다 고 는 었어 었어요 어요 지 었다 을 면 습니다".split()
DONE = "했어 하고 하는 해요 합니다 하다 했다 했어요 할".split()  # of 하다

Pair = tuple[str, str]  # English, Korean


class Words(nn.Module):
    """Vectors of tokens: the English ones as they are, the Korean ones to be trained."""

    english: Tensor

    def __init__(self, english: Tensor, korean: Tensor) -> None:
        super().__init__()
        self.register_buffer("english", english)
        self.korean = nn.Parameter(korean)

    def forward(self, ids: Tensor) -> Tensor:
        own = len(self.english)
        new = ids >= own
        rows = embedding(ids.clamp(max=own - 1), self.english)
        return rows.masked_scatter(new[..., None], embedding(ids[new] - own, self.korean))


class Encoder:
    """A model that reads texts, with the tokens from some character on meant."""

    def __init__(self, model: Any, tokenizer: Any, most: int | None = None) -> None:
        self.model, self.tokenizer, self.most = model, tokenizer, most

    def read(self, texts: Sequence[str], begins: Sequence[int] = (), tokens: int = 64) -> Texts:
        batch = self.tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=tokens,
            return_tensors="pt",
            return_offsets_mapping=True,
        )
        spans = batch.pop("offset_mapping")
        ids, mask = batch["input_ids"], batch["attention_mask"]
        if self.most is not None:
            ids = ids.where(ids < self.most, self.tokenizer.unk_token_id)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            states = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        states = states.float()
        own = torch.tensor(list(begins) or [0] * len(texts))
        meant = (spans[..., 1] > spans[..., 0]) & (spans[..., 0] >= own[:, None])
        means = normalize((states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True), dim=-1)
        return Texts(normalize(states, dim=-1), meant, ids, means)


# -- what is read ---------------------------------------------------------------------------------


def clean(text: str) -> str:
    return unicodedata.normalize("NFC", " ".join(text.split()))


def rows(path: Path) -> list[list[str]]:
    """The rows of a table of ours, without its header."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[1:]


@dataclass(frozen=True)
class Corpus:
    """Sentences in both languages, with their source, and groups of Korean sentences that mean the
    same; and those of each that training never sees."""

    pairs: list[tuple[str, Pair]]
    groups: list[list[str]]
    held_pairs: list[Pair]
    held_groups: list[list[str]]


def read_corpus(corpora: Path) -> Corpus:
    rng = random.Random(11)
    by_name: dict[str, list[str]] = defaultdict(list)
    for line in list(lines(corpora / "paraphrases_ko.tsv.gz"))[1:]:
        source, _, group, text = line.split("\t")
        if source == "stylekqc":
            by_name[group].append(clean(text))
    names = sorted(by_name)
    rng.shuffle(names)
    groups = [by_name[name] for name in names]
    group_of = {text: at for at, group in enumerate(groups) for text in group}
    pairs = []
    for line in list(lines(corpora / "pairs_en_ko.tsv.gz"))[1:]:
        source, _, en, ko = line.split("\t")
        pairs.append((source, (clean(en), clean(ko))))
    rng.shuffle(pairs)
    left = Counter(HELD_OUT)
    kept: list[tuple[str, Pair]] = []
    held: list[Pair] = []
    for source, pair in pairs:
        at = group_of.get(pair[1], len(groups))
        if at < GROUPS:  # one sentence of each group, not to be compared with its like
            key = f"group {at}"
            left[key] += key not in left
        else:
            key = source
        if left[key] > 0:
            left[key] -= 1
            held.append(pair)
        elif key == source:
            kept.append((source, pair))
    own = [(clean(en), clean(ko)) for en, ko in rows(HERE / "pairs_en_ko.tsv")]
    kept += [("own", pair) for pair in own if zlib.crc32(pair[0].encode()) % 20]
    held += [pair for pair in own if not zlib.crc32(pair[0].encode()) % 20][:300]
    return Corpus(kept, groups[GROUPS:], held, groups[:GROUPS])


def glossary() -> list[tuple[str, list[str]]]:
    pairs = rows(HERE / "glossary_ko.tsv")
    return [(ko, [word.strip() for word in en.split(";")][:2]) for ko, en in pairs]


def conversations() -> list[tuple[list[Pair], list[tuple[str, str, list[int]]]]]:
    """Turns (speaker, text), and questions: Korean, English, the places of the turns."""
    found: list[tuple[list[Pair], list[tuple[str, str, list[int]]]]] = []
    for line in (
        (HERE.parent / "dialogues" / "conversations_ko.txt").read_text("utf-8").splitlines()
    ):
        if line.startswith("#"):
            found.append(([], []))
        elif line.startswith("?"):
            ko, en, places = (part.strip() for part in line[1:].split("|"))
            found[-1][1].append((ko, en, [int(at) - 1 for at in places.split(",")]))
        else:
            speaker, _, text = line.partition(":")
            told = {"나": "user", "어시스턴트": "assistant"}.get(speaker, speaker)
            found[-1][0].append((told, text.strip()))
    return [one for one in found if zlib.crc32(one[0][0][1].encode()) % 9]


def sentences(corpora: Path, rng: random.Random) -> list[str]:
    """English sentences of talk."""
    some = [clean(text) for text in dialogues(corpora / "dialogues_en.jsonl.gz")]
    return rng.sample([text for text in some if 4 <= len(text.split()) <= 40], ENGLISH_SENTENCES)


# -- what is asked --------------------------------------------------------------------------------


def bent(word: str, rng: random.Random) -> str:
    """A Korean word as it may stand in a sentence."""
    if word.endswith("하다") and len(word) > 2:
        return word[:-2] + rng.choice(DONE)
    if word.endswith("다") and len(word) > 1:
        return word[:-1] + rng.choice(ENDINGS)
    return word + rng.choice(PARTICLES)


class Switch:
    """Puts Korean words into English sentences."""

    def __init__(self) -> None:
        self.korean: dict[str, list[str]] = defaultdict(list)
        for ko, glosses in glossary():
            for gloss in glosses:
                self.korean[gloss.lower()].append(ko)

    def __call__(self, text: str, rng: random.Random) -> str:
        share = rng.choice((0.4, 0.7, 1.0))
        return re.sub(r"[A-Za-z]{3,}", lambda word: self._word(word[0], share, rng), text)

    def _word(self, word: str, share: float, rng: random.Random) -> str:
        lower = word.lower()
        stems = [lower, *(lower.removesuffix(end) for end in ("s", "es", "ed", "d", "ing"))]
        choices = next((self.korean[stem] for stem in stems if stem in self.korean), None)
        if choices is None or rng.random() >= share:
            return word
        return bent(rng.choice(choices), rng)


def window(turns: Sequence[Pair], at: int, rng: random.Random) -> tuple[str, int]:
    """A turn as memory/embed.py embeds it, and where its own words begin."""
    speaker, own = turns[at]
    near = turns[max(0, at - 2) : at] if len(own) < 250 and rng.random() > 0.15 else ()
    context = "".join(f"{name}: {text[:200]}\n" for name, text in near)
    return f"{context}{speaker}: {own}", len(context)


class Lessons:
    """What is learnt from, and the loss of each task."""

    def __init__(self, corpora: Path, teacher: Encoder, student: Encoder) -> None:
        self.rng = rng = random.Random(0)
        self.teacher, self.student = teacher, student
        corpus = read_corpus(corpora)
        self.groups = [group for group in corpus.groups if len(group) > 1]
        self.pairs = [pair for _, pair in corpus.pairs]
        self.weights = [WEIGHTS.get(source, 1.0) for source, _ in corpus.pairs]
        self.words = [(glosses[0], ko) for ko, glosses in glossary()]
        self.english, self.switch = sentences(corpora, rng), Switch()
        self.questions = [(turns, one) for turns, asked in conversations() for one in asked]
        korean = [ko for _, ko in self.pairs] + list(column(corpora / "paraphrases_ko.tsv.gz", 3))
        self.telling = self._telling(korean)

    def _telling(self, texts: list[str]) -> Tensor:
        """Inverse document frequency of the Korean tokens behind the adapter's of the others."""
        held: Counter[int] = Counter()
        for start in range(0, len(texts), 5000):
            some = self.student.tokenizer(texts[start : start + 5000])["input_ids"]
            for ids in some:
                held.update(set(ids))
        own = int(self.teacher.most or 0)
        new = range(own, len(self.student.tokenizer))
        rare = [math.log((len(texts) + 50) / (held[id_] + 1)) for id_ in new]
        known = load_file(find_adapter(BASE).path)[TELLING].float()  # type: ignore[union-attr]
        return torch.cat([known, torch.tensor(rare).clamp(max=MOST_TELLING)])

    def loss(self) -> Tensor:
        task = self.rng.choices(list(SHARES), list(SHARES.values()))[0]
        loss: Tensor = getattr(self, task)()
        return loss

    def pair(self) -> Tensor:
        return self._aligned(self.rng.choices(self.pairs, self.weights, k=64))

    def switched(self) -> Tensor:
        some = self.rng.sample(self.english, 48)
        return self._aligned([(text, self.switch(text, self.rng)) for text in some])

    def word(self) -> Tensor:
        some = self.rng.sample(self.words, 96)
        return self._aligned([(en, bent(ko, self.rng)) for en, ko in some])

    def alike(self) -> Tensor:
        two = [self.rng.sample(group, 2) for group in self.rng.sample(self.groups, 40)]
        one, other = (self.student.read([texts[at] for texts in two]) for at in (0, 1))
        right = torch.arange(len(two))
        late = interaction(one, other, self.telling)
        return cross_entropy(20 * one.means @ other.means.T, right) + cross_entropy(
            25 * late, right
        )

    def question(self) -> Tensor:
        some = self.rng.sample(self.questions, 14)
        turns = [window(talk, self.rng.choice(one[2]), self.rng) for talk, one in some]
        for talk, one in some:
            others = [at for at in range(len(talk)) if at not in one[2]]
            turns += [window(talk, at, self.rng) for at in self.rng.sample(others, 2)]
        told = self.student.read([text for text, _ in turns], [own for _, own in turns], 112)
        if self.rng.random() < 0.35:
            with torch.no_grad():
                asked = self.teacher.read([one[1] for _, one in some])
        else:
            asked = self.student.read([one[0] for _, one in some])
        right = torch.arange(len(some))
        late = interaction(asked, told, self.telling)
        return cross_entropy(25 * late, right) + 0.5 * cross_entropy(
            20 * asked.means @ told.means.T, right
        )

    def _aligned(self, pairs: Sequence[Pair]) -> Tensor:
        """Korean texts to where the teacher puts the English ones."""
        with torch.no_grad():
            english = self.teacher.read([en for en, _ in pairs])
        korean = self.student.read([ko for _, ko in pairs])
        texts = [en for en, _ in pairs]
        same = torch.tensor(
            [[a == b and i != j for j, b in enumerate(texts)] for i, a in enumerate(texts)]
        )
        right = torch.arange(len(pairs))
        away = (1 - (korean.means * english.means).sum(-1)).mean()
        means = (20 * korean.means @ english.means.T).masked_fill(same, -99.0)
        late = [
            (25 * interaction(a, b, self.telling)).masked_fill(same, -99.0)
            for a, b in ((korean, english), (english, korean))
        ]
        contrasts = [cross_entropy(one, right) for one in (means, means.T, *late)]
        return 4 * away + sum(contrasts[1:], contrasts[0]) / 2


# -- the training ---------------------------------------------------------------------------------


def towers(folder: Path) -> tuple[Encoder, Encoder]:
    """The teacher, and the student that starts as its copy."""
    adapter = find_adapter(BASE)
    assert adapter is not None
    models = [load_encoder(embedder_folder()) for _ in range(2)]
    for model in models:
        adapter.merge(model)
    teacher, student = models
    student.set_attn_implementation("eager")  # faster backwards on a CPU
    own = student.get_input_embeddings().weight.detach().clone()
    initial = torch.tensor(np.load(folder / "initial.npy"))
    student.set_input_embeddings(Words(own, initial))
    pieces = (HERE / PIECES).read_text("utf-8").splitlines()
    tokenizer = korean_tokenizer(embedder_folder(), pieces)
    return Encoder(teacher.requires_grad_(False), tokenizer, len(own)), Encoder(student, tokenizer)


def save(student: Any, telling: Tensor) -> None:
    """Write korean.safetensors: what was learnt, as updates of the model as published."""
    base = dict(load_encoder(embedder_folder()).named_parameters())
    words = student.get_input_embeddings().korean.detach()
    tensors = {WORDS: words.half(), TELLING: telling[-len(words) :].half()}
    for name, value in student.named_parameters():
        if name not in base or not (update := value.detach() - base[name].detach()).any():
            continue
        if update.dim() == 1:
            tensors[name] = update.half()
            continue
        left, sizes, right = torch.linalg.svd(update, full_matrices=False)
        roots = sizes[:RANK].sqrt()
        layer = name.removesuffix(".weight")
        tensors[f"{layer}.up"] = (left[:, :RANK] * roots).half().contiguous()
        tensors[f"{layer}.down"] = (roots[:, None] * right[:RANK]).half().contiguous()
    save_file(tensors, HERE / KOREAN, metadata={"base": BASE, "format": "pt"})


# -- how well it does -----------------------------------------------------------------------------


def measure(corpora: Path, sts: Path | None) -> dict[str, float]:
    """Of the shipped embedder's vectors, on what was held out: the share of translations that are
    nearest, each way; of five nearest sentences, the share that mean the same; and the rank
    correlation of cosines with the judgements of a file of KorSTS."""
    embedder = SentenceEmbedder(embedder_folder())
    corpus = read_corpus(corpora)
    pairs = random.Random(0).sample(corpus.held_pairs, min(1000, len(corpus.held_pairs)))
    near = embedder.embed([en for en, _ in pairs]) @ embedder.embed([ko for _, ko in pairs]).T
    right = np.arange(len(pairs))
    group = np.array([at for at, texts in enumerate(corpus.held_groups) for _ in texts])
    vectors = embedder.embed([text for texts in corpus.held_groups for text in texts])
    alike = vectors @ vectors.T
    np.fill_diagonal(alike, -1)
    first = np.argsort(-alike, axis=1)[:, :5]
    found = {
        "pairs": float(len(pairs)),
        "english to korean hit@1": float((near.argmax(1) == right).mean()),
        "korean to english hit@1": float((near.argmax(0) == right).mean()),
        "paraphrases precision@5": float((group[first] == group[:, None]).mean()),
    }
    if sts is not None:
        with sts.open(encoding="utf-8", newline="") as file:
            judged = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
        one, other = (embedder.embed([row[f"sentence{at}"] for row in judged]) for at in (1, 2))
        scores = [float(row["score"]) for row in judged]
        found["KorSTS Spearman"] = float(spearmanr((one * other).sum(1), scores).statistic)
    return {name: round(value, 4) for name, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpora", type=Path)
    parser.add_argument("folder", type=Path, nargs="?", default=Path())
    parser.add_argument("--minutes", type=float, default=75)
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--sts", type=Path)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.corpora, options.sts), indent=1))
    else:
        train(options.corpora, options.folder, options.minutes)


def train(corpora: Path, folder: Path, minutes: float) -> None:
    torch.manual_seed(0)
    teacher, student = towers(folder)
    model, checkpoint = student.model, folder / "korean.ckpt.safetensors"
    if checkpoint.exists():
        model.load_state_dict(load_file(checkpoint))
    lessons = Lessons(corpora, teacher, student)
    words = [model.get_input_embeddings().korean]
    fixed = ("position", "token_type", "pooler")
    body = [
        p
        for n, p in model.named_parameters()
        if p is not words[0] and not any(f in n for f in fixed)
    ]
    groups = [{"params": words, "lr": WORD_RATE, "weight_decay": 0.0}, {"params": body, "lr": RATE}]
    optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)
    began = saved = time.monotonic()
    step, gone = 0, 0.0
    while gone < 1:
        for group, rate in zip(optimiser.param_groups, (WORD_RATE, RATE), strict=True):
            cosine = max(0.04, 0.5 * (1 + math.cos(math.pi * gone)))
            group["lr"] = rate * min(1.0, (step + 1) / 60) * cosine
        loss = lessons.loss()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(body, 1.0)
        nn.utils.clip_grad_norm_(words, 1.0)
        optimiser.step()
        step += 1
        now = time.monotonic()
        gone = (now - began) / (60 * minutes)
        print(f"\r{step} steps, {gone:.0%}, loss {loss.item():.3f}", end="", flush=True)
        if now - saved > SAVE or gone >= 1:
            saved = now
            save_file({n: v.contiguous() for n, v in model.state_dict().items()}, checkpoint)
    save(model, lessons.telling)


if __name__ == "__main__":
    main()
