"""Train the adapter of the built-in embedder: `python data/adapter/train_embedder.py CORPUS`.

CORPUS is dialogues_en.jsonl.gz, a line a dialogue: {"source", "turns": [{"speaker", "text"}]}, made
of the public sets that README.md names. questions.tsv beside this file holds questions that this
project wrote about 670 of those dialogues, with the turns that answer them. Low-rank updates (Hu
et al. 2021) of the upper three layers are trained so that a question finds its turn among the
others of the dialogue and of the batch, by late interaction and by the mean vector; a penalty keeps
the mean vectors near those of the model as it was. About 25 minutes on two cores; a checkpoint is
written every 100 steps. Afterwards run fit_ranking.py.
"""

import argparse
import gzip
import json
import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize
from transformers import AutoModel, AutoTokenizer

from chatbot.models import embedder_folder

HERE = Path(__file__).parent
BASE = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # sha256 of the weights
RANK, FROZEN = 16, 3  # of the updates; lower layers that are left as they are
BATCH, NEGATIVES, EPOCHS, RATE = 24, 2, 2.5, 5e-4
TOKENS, QUERY_TOKENS = 112, 48
MOST_TELLING = 9.0  # a token's inverse document frequency counts up to here
NAMES = """
    Anna Ben Carla Dmitri Elif Farah George Hana Ivan Jia Karim Lena Marco Nadia Omar Paula
    Quentin Rosa Sam Tara Uma Victor Wendy Ximena Yusuf Zoe Arjun Bella Chidi Dana Emeka Freya
    Gus Heidi Imani Jonas Kira Luis Mei Noah Olga Pierre Rhea Stefan Tess Viktor Willa Yara Zane
    Astrid Boris Celine Dev Esme Felix Greta
""".split()
TAKEN = {
    "synthetic-persona-chat": 440,
    "self-dialogue-corpus": 100,
    "topical-chat": 40,
    "sgd-schema-guided": 60,
    "multiwoz-2.1": 30,
}

Dialogue = list[tuple[str, str]]  # (speaker, text)


def read_corpus(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def choose(corpus: Sequence[dict[str, Any]]) -> list[Dialogue]:
    """The dialogues that questions.tsv numbers, their speakers given names."""
    rng = random.Random(7)
    pool = []
    for source, count in TAKEN.items():
        some = [d for d in corpus if d["source"] == source and 8 <= len(d["turns"]) <= 40]
        pool += rng.sample(some, min(count, len(some)))
    rng.shuffle(pool)
    chosen = []
    for dialogue in pool:
        if "user" in {turn["speaker"] for turn in dialogue["turns"]}:
            named = {"user": rng.choice(NAMES), "assistant": "Assistant"}
        else:
            rng.random()
            named = dict(zip("AB", rng.sample(NAMES, 2), strict=True))
        chosen.append(
            [(named[t["speaker"]], " ".join(t["text"].split())) for t in dialogue["turns"]]
        )
    return chosen


def window(dialogue: Dialogue, at: int) -> tuple[str, int]:
    """A turn as memory/embed.py embeds it, and where its own words begin."""
    speaker, own = dialogue[at]
    before = dialogue[max(0, at - 2) : at] if len(own) < 250 else []
    context = "".join(f"{name}: {text[:200]}\n" for name, text in before)
    return f"{context}{speaker}: {own}", len(context)


class Update(nn.Module):
    """A linear layer and its low-rank update."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer
        self.down = nn.Parameter(torch.randn(RANK, layer.in_features) / layer.in_features**0.5)
        self.up = nn.Parameter(torch.zeros(layer.out_features, RANK))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + x @ self.down.T @ self.up.T


def adapt(model: nn.Module) -> None:
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for layer in model.encoder.layer[FROZEN:]:
        attention = layer.attention
        for owner, names in (
            (attention.self, ("query", "key", "value")),
            (attention.output, ("dense",)),
            (layer.intermediate, ("dense",)),
            (layer.output, ("dense",)),
        ):
            for name in names:
                setattr(owner, name, Update(getattr(owner, name)))


@dataclass(frozen=True)
class Texts:
    """B texts of at most T tokens: unit vectors (B, T, D), which are meant (B, T), their ids
    (B, T), and the unit mean of each text (B, D)."""

    tokens: Tensor
    meant: Tensor
    ids: Tensor
    means: Tensor


class Reader:
    def __init__(self, folder: Path) -> None:
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.base: Any = AutoModel.from_pretrained(folder).eval()
        self.model: Any = AutoModel.from_pretrained(folder).eval()
        adapt(self.model)

    def read(self, texts: Sequence[tuple[str, int]], most: int, *, base: bool = False) -> Texts:
        batch = self.tokenizer(
            [text for text, _ in texts],
            padding=True,
            truncation=True,
            max_length=most,
            return_tensors="pt",
            return_offsets_mapping=True,
        )
        spans = batch.pop("offset_mapping")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            states = (self.base if base else self.model)(**batch).last_hidden_state
        states, mask = states.float(), batch["attention_mask"][..., None]
        begins = torch.tensor([own for _, own in texts])
        meant = (spans[..., 1] > spans[..., 0]) & (spans[..., 0] >= begins[:, None])
        means = normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
        return Texts(normalize(states, dim=-1), meant, batch["input_ids"], means)


def interaction(queries: Texts, turns: Texts, telling: Tensor) -> Tensor:
    """Late interaction of Q queries with N turns, (Q, N)."""
    near = torch.einsum("qid,njd->qinj", queries.tokens, turns.tokens)
    near = near.masked_fill(~turns.meant[None, None], -1.0).amax(-1)  # (Q, T, N)
    weight = telling[queries.ids] * queries.meant
    return (near * weight[..., None]).sum(1) / weight.sum(1)[:, None].clamp(min=1e-3)


def frequencies(tokenizer: Any, corpus: Sequence[dict[str, Any]]) -> Tensor:
    """Inverse document frequency of each token over a quarter of the corpus's turns."""
    held: Counter[int] = Counter()
    texts = [turn["text"][:500] for dialogue in corpus[::4] for turn in dialogue["turns"]]
    for start in range(0, len(texts), 2000):
        some = tokenizer(texts[start : start + 2000], add_special_tokens=False)["input_ids"]
        for ids in some:
            held.update(set(ids[:128]))
    rare = [math.log((len(texts) + 50) / (held[id_] + 1)) for id_ in range(tokenizer.vocab_size)]
    return torch.tensor(rare).clamp(max=MOST_TELLING)


@dataclass(frozen=True)
class Example:
    dialogue: Dialogue
    evidence: tuple[int, ...]
    question: str


def read_questions(dialogues: Sequence[Dialogue]) -> list[Example]:
    lines = (HERE / "questions.tsv").read_text("utf-8").splitlines()[1:]
    examples = []
    for line in lines:
        number, turns, question = line.split("\t")
        dialogue = dialogues[int(number)]
        evidence = tuple(int(turn) for turn in turns.replace(",", " ").split())
        if evidence and max(evidence) < len(dialogue):
            examples.append(Example(dialogue, evidence, question))
    return examples


def loss_of(reader: Reader, some: Sequence[Example], telling: Tensor, rng: random.Random) -> Tensor:
    turns = [window(one.dialogue, rng.choice(one.evidence)) for one in some]
    for one in some:
        others = [at for at in range(len(one.dialogue)) if at not in one.evidence]
        turns += [
            window(one.dialogue, at) for at in rng.sample(others, min(NEGATIVES, len(others)))
        ]
    also = [{window(one.dialogue, at) for at in one.evidence} for one in some]
    double = torch.tensor(
        [[turn in e and i != j for j, turn in enumerate(turns)] for i, e in enumerate(also)]
    )
    questions = [(one.question, 0) for one in some]
    asked, told = reader.read(questions, QUERY_TOKENS), reader.read(turns, TOKENS)
    right = torch.arange(len(some))
    late = interaction(asked, told, telling).masked_fill(double, -9.0)
    mean = (asked.means @ told.means.T).masked_fill(double, -9.0)
    with torch.no_grad():
        before = [reader.read(x, TOKENS, base=True).means for x in (questions, turns[: len(some)])]
    away = sum(
        (1 - (now * then).sum(-1)).mean()
        for now, then in zip((asked.means, told.means[: len(some)]), before, strict=True)
    )
    return cross_entropy(25 * late, right) + 0.5 * cross_entropy(20 * mean, right) + away


def save(reader: Reader, telling: Tensor) -> None:
    tensors = {
        name: value.to(torch.float16).contiguous()
        for name, value in reader.model.state_dict().items()
        if name.endswith((".down", ".up"))
    }
    tensors["telling"] = telling.to(torch.float16)
    save_file(tensors, HERE / "embedder.safetensors", metadata={"base": BASE, "format": "pt"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    corpus = read_corpus(parser.parse_args().corpus)
    torch.manual_seed(0)
    rng = random.Random(0)
    reader = Reader(embedder_folder())
    telling = frequencies(reader.tokenizer, corpus)
    examples = read_questions(choose(corpus))
    trained = [p for p in reader.model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=RATE, weight_decay=0.01)
    steps = int(EPOCHS * len(examples) / BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda s: min(1.0, (s + 1) / 25) * max(0.03, 0.5 * (1 + math.cos(math.pi * s / steps))),
    )
    for step in range(steps):
        loss = loss_of(reader, rng.sample(examples, BATCH), telling, rng)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        schedule.step()
        print(f"\r{step + 1}/{steps} loss {loss.item():.3f}", end="", flush=True)
        if step % 100 == 99 or step == steps - 1:
            save(reader, telling)


if __name__ == "__main__":
    main()
