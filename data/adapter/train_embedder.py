"""Train the adapter of the built-in embedder: `python -m data.adapter.train_embedder CORPUS`.

CORPUS is dialogues_en.jsonl.gz, a line a dialogue: {"source", "turns": [{"speaker", "text"}]}, made
of the public sets that README.md names. questions.tsv beside this file holds questions that this
project wrote about 670 of those dialogues, with the turns that answer them; conversations_en.txt in
data/dialogues holds conversations over months that it wrote, with theirs. Low-rank updates (Hu et
al. 2021) of all six layers are trained so that a question finds its turn among those of the batch
and those of the same conversation that are nearest to it, by late interaction and by the mean
vector; a penalty keeps the mean vectors near those of the model as it was. Every MEASURED-th
conversation is kept out and measured. A checkpoint is written every 100 steps. Afterwards run
train_korean.py, whose teacher this is, and fit_ranking.py.
"""

import argparse
import gzip
import json
import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize, pad
from transformers import AutoModel, AutoTokenizer

from chatbot.models import embedder_folder
from data.low_rank import Update

HERE = Path(__file__).parent
DIALOGUES = HERE.parent / "dialogues"
FILE = HERE / "embedder.safetensors"
BASE = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # sha256 of the weights
RANK = 16  # of the updates
BATCH, NEGATIVES, STEPS, RATE = 16, 2, 550, 4e-4
NEAREST = 8  # wrong turns of the same conversation, of which the negatives are drawn
CONVERSATIONS = 175  # are trained with; the later ones are for fit_ranking.py
MEASURED = 12  # every so manieth of them is kept out
TOKENS, QUERY_TOKENS = 112, 48
PADDED = 24  # texts padded to the same length
MOST_TELLING = 9.0  # a token's inverse document frequency counts up to here
TERMINAL = ("User", "Assistant")  # the speakers of a chat with this program
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
Window = tuple[str, int]  # a turn as memory/embed.py embeds it, and where its own words begin


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


def read_rows() -> Iterator[tuple[int, tuple[int, ...], str, str, str]]:
    """questions.tsv: the number of the dialogue, the places of the turns that answer, from 0, the
    question, a short answer, a reply."""
    for line in (HERE / "questions.tsv").read_text("utf-8").splitlines()[1:]:
        number, places, question, brief, reply = line.split("\t")
        yield int(number), tuple(map(int, places.replace(",", " ").split())), question, brief, reply


def window(dialogue: Dialogue, at: int) -> Window:
    speaker, own = dialogue[at]
    before = dialogue[max(0, at - 2) : at] if len(own) < 250 else []
    context = "".join(f"{name}: {text[:200]}\n" for name, text in before)
    return f"{context}{speaker}: {own}", len(context)


def adapt(model: Any) -> None:
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for layer in model.encoder.layer:
        attention = layer.attention
        for owner, names in (
            (attention.self, ("query", "key", "value")),
            (attention.output, ("dense",)),
            (layer.intermediate, ("dense",)),
            (layer.output, ("dense",)),
        ):
            for name in names:
                setattr(owner, name, Update(getattr(owner, name), RANK))


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
        self.base, self.model = (
            AutoModel.from_pretrained(folder, attn_implementation="eager").eval() for _ in range(2)
        )
        adapt(self.model)

    def read(self, texts: Sequence[Window], most: int, *, base: bool = False) -> Texts:
        order = sorted(range(len(texts)), key=lambda at: len(texts[at][0]))
        parts = [
            self._read([texts[at] for at in order[start : start + PADDED]], most, base)
            for start in range(0, len(order), PADDED)
        ]
        longest = max(part.ids.shape[1] for part in parts)
        back = torch.tensor(order).argsort()
        tokens, meant, ids = (
            torch.cat([_widened(getattr(part, name), longest) for part in parts])[back]
            for name in ("tokens", "meant", "ids")
        )
        return Texts(tokens, meant, ids, torch.cat([part.means for part in parts])[back])

    def _read(self, texts: Sequence[Window], most: int, base: bool) -> Texts:
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


def _widened(tensor: Tensor, length: int) -> Tensor:
    """(B, T, ...) to (B, length, ...), with zeros."""
    width = length - tensor.shape[1]
    return pad(tensor, (0, 0) * (tensor.dim() - 2) + (0, width)) if width else tensor


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
    """A question about a conversation, given by the windows of its turns; `evidence` and `near`,
    wrong turns that stand near it, are places in it."""

    turns: tuple[Window, ...]
    evidence: tuple[int, ...]
    question: Window
    near: tuple[int, ...] = ()


def read_questions(dialogues: Sequence[Dialogue]) -> list[Example]:
    """Those of questions.tsv."""
    windows = [tuple(window(one, at) for at in range(len(one))) for one in dialogues]
    return [
        Example(windows[number], evidence, (question, 0))
        for number, evidence, question, _, _ in read_rows()
        if evidence and max(evidence) < len(windows[number])
    ]


def read_conversations() -> list[list[Example]]:
    """Those of conversations_en.txt that have evidence, conversation by conversation."""
    conversations = []
    for text in (DIALOGUES / "conversations_en.txt").read_text("utf-8").split("#\n")[1:]:
        turns: list[Window] = []
        asked = []
        session: Dialogue = []
        for line in text.splitlines():
            if line.startswith("=="):
                session = []
            elif line.startswith("?"):
                question, evidence, *_ = (part.strip() for part in line[1:].split("|"))
                if evidence != "-":
                    asked.append((question, tuple(int(n) - 1 for n in evidence.split(","))))
            else:
                speaker, said = line.split(" ", 1)[1].split(": ", 1)
                session.append((speaker.lower() if speaker in TERMINAL else speaker, said))
                turns.append(window(session, len(session) - 1))
        conversations.append([Example(tuple(turns), e, (question, 0)) for question, e in asked])
    return conversations


@torch.inference_mode()
def rank(reader: Reader, some: Sequence[Example], telling: Tensor) -> Tensor:
    """Late interaction of Q questions about one conversation with each of its N turns, (Q, N)."""
    asked = reader.read([one.question for one in some], QUERY_TOKENS)
    parts = [
        interaction(asked, reader.read(some[0].turns[start : start + 2 * PADDED], TOKENS), telling)
        for start in range(0, len(some[0].turns), 2 * PADDED)
    ]
    return torch.cat(parts, dim=1)


def mine(reader: Reader, examples: Sequence[Example], telling: Tensor) -> list[Example]:
    """The examples with the wrong turns that stand nearest."""
    by_conversation: dict[tuple[Window, ...], list[Example]] = {}
    for one in examples:
        by_conversation.setdefault(one.turns, []).append(one)
    mined = []
    for at, some in enumerate(by_conversation.values(), start=1):
        for one, scores in zip(some, rank(reader, some, telling), strict=True):
            nearest = [n for n in scores.argsort(descending=True).tolist() if n not in one.evidence]
            mined.append(replace(one, near=tuple(nearest[:NEAREST])))
        print(f"\rmining {at}/{len(by_conversation)}", end="", flush=True)
    return mined


def measure(reader: Reader, kept: Sequence[Sequence[Example]], telling: Tensor) -> str:
    """The share of evidence among the first five and ten turns of each kept conversation."""
    found = {5: 0.0, 10: 0.0}
    for some in kept:
        for one, scores in zip(some, rank(reader, some, telling), strict=True):
            order = scores.argsort(descending=True).tolist()
            for k in found:
                found[k] += len({*order[:k]} & {*one.evidence}) / len({*one.evidence})
    count = sum(map(len, kept))
    shares = (f"recall@{k} {hits / count:.4f}" for k, hits in found.items())
    return f"of {count}: " + ", ".join(shares)


def loss_of(reader: Reader, some: Sequence[Example], telling: Tensor, rng: random.Random) -> Tensor:
    turns = [one.turns[rng.choice(one.evidence)] for one in some]
    for one in some:
        turns += [one.turns[at] for at in rng.sample(one.near, min(NEGATIVES, len(one.near)))]
    also = [{one.turns[at] for at in one.evidence} for one in some]
    double = torch.tensor(
        [[turn in e and i != j for j, turn in enumerate(turns)] for i, e in enumerate(also)]
    )
    questions = [one.question for one in some]
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
    write(tensors)


def write(tensors: dict[str, Tensor]) -> None:
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(whole, FILE, metadata={"base": BASE, "format": "pt"})


def averaged(one: dict[str, Tensor], other: dict[str, Tensor]) -> dict[str, Tensor]:
    """The mean of two adapters, whose ranks add up (Wortsman et al. 2022, arXiv 2203.05482): it
    finds more than either in conversations that neither was trained with."""
    mean = {name: tensor for name, tensor in one.items() if not name.endswith(".up")}
    for name, up in one.items():
        if not name.endswith(".up"):
            continue
        down = name.removesuffix(".up") + ".down"
        ups = [up] if name not in other else [up, other[name]]
        mean[name] = torch.cat([half.float() / 2 for half in ups], dim=1).half()
        if down in other:
            mean[down] = torch.cat([one[down], other[down]])
    return mean


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument(
        "--go-on", action="store_true", help="from the adapter that is there, to the mean of both"
    )
    arguments = parser.parse_args()
    corpus = read_corpus(arguments.corpus)
    torch.manual_seed(0)
    rng = random.Random(0)
    reader = Reader(embedder_folder())
    before = load_file(FILE) if arguments.go_on else None
    if before:
        reader.model.load_state_dict(before, strict=False)
    telling = frequencies(reader.tokenizer, corpus)
    written = read_conversations()[:CONVERSATIONS]
    kept = written[::MEASURED]
    examples = [one for at, some in enumerate(written) if at % MEASURED for one in some]
    # The conversations twice: they are more like those of people who use this than the dialogues.
    examples = mine(reader, examples, telling) * 2 + mine(
        reader, read_questions(choose(corpus)), telling
    )
    print("\nbefore:", measure(reader, kept, telling), flush=True)
    trained = [p for p in reader.model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda s: min(1.0, (s + 1) / 25) * max(0.03, 0.5 * (1 + math.cos(math.pi * s / STEPS))),
    )
    for step in range(STEPS):
        loss = loss_of(reader, rng.sample(examples, BATCH), telling, rng)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        schedule.step()
        print(f"\r{step + 1}/{STEPS} loss {loss.item():.3f}", end="", flush=True)
        if step % 100 == 99 or step == STEPS - 1:
            save(reader, telling)
            print("", measure(reader, kept, telling), flush=True)
    if before:
        write(averaged(load_file(FILE), before))


if __name__ == "__main__":
    main()
