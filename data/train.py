"""Train the adapter of the built-in chat model: `python -m data.train EXAMPLES`.

EXAMPLES is what make.py wrote. Low-rank updates (Hu et al. 2021, arXiv 2106.09685) of the linear
layers of the upper two thirds are trained on the replies alone. A checkpoint is written every SAVED
seconds, and when Ctrl-C or --minutes ends it; --resume goes on with it. Beside EXAMPLES it leaves
gpt.safetensors, which is used once it lies in data/adapter. --start goes on from such a file with
other examples; with --mean what is left lies half-way from there. On two cores it trains some
hundred tokens a second; with an accelerator, some ten thousand. Every MEASURED-th example is kept
out; its loss is printed with each checkpoint.
"""

import argparse
import json
import math
import random
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer

from chatbot.catalogue import DEFAULT_GPT
from chatbot.encoding import Encoder
from chatbot.engines import Message
from chatbot.fetching import origin_of
from chatbot.models import resolve
from data.low_rank import Update
from memory.adapter import GPT

RANK, RATE, WARM = 32, 4e-4, 20  # of the updates; the highest learning rate; steps up to it
TOKENS = 1536  # of a batch, padding counted: more at once is slower on a CPU
FROZEN = 10  # lower layers that are left as they are: a sixth of the time
LONGEST = 1024  # tokens of an example; longer ones are left out
SHARE = 0.85  # of the updates is shipped: all of them let the model forget what it knew
KOREAN = 0.6  # of the Korean examples are drawn for each epoch: they are twice as long
MEASURED = 160  # every so manieth example is kept out
SAVED = 300.0
LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def adapt(model: nn.Module, frozen: int = FROZEN) -> dict[str, Update]:
    """Freeze the model and put an update on each linear layer above the `frozen` lowest blocks;
    by name, as "model.layers.12.mlp.up_proj"."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    updates = {}
    for name, module in list(model.named_modules()):
        owner, _, last = name.rpartition(".")
        if last in LAYERS and int(name.split(".")[2]) >= frozen:
            updates[name] = Update(module, RANK)
            setattr(model.get_submodule(owner), last, updates[name])
    return updates


@dataclass(frozen=True, slots=True)
class Branch:
    """Where the ids of one question and its reply begin; those from `reply` to `end` are learnt."""

    begin: int
    reply: int
    end: int


@dataclass(frozen=True, slots=True)
class Example:
    """Ids of a window, then those of the branches, of which none sees another: what a window says
    of memories is read once for all that is asked about them."""

    ids: tuple[int, ...]
    branches: tuple[Branch, ...]
    korean: bool = False


def joined(asked: Sequence[tuple[Sequence[int], Sequence[int]]], korean: bool = False) -> Example:
    """An example of windows that begin alike, each with its reply."""
    common = min(len(window) for window, _ in asked)
    first = asked[0][0]
    for window, _ in asked[1:]:
        common = next((at for at in range(common) if window[at] != first[at]), common)
    ids, branches = list(first[:common]), []
    for window, reply in asked:
        begin = len(ids)
        ids += [*window[common:], *reply]
        branches.append(Branch(begin, begin + len(window) - common, len(ids)))
    return Example(tuple(ids), tuple(branches), korean)


def read_examples(path: Path, tokenizer: Any) -> list[Example]:
    encoder, examples = Encoder(tokenizer), []
    for line in path.read_text("utf-8").splitlines():
        raw = json.loads(line)
        start = [Message(**one) for one in raw["messages"]]
        asked = []
        for one in ({"content": start[-1].content, "reply": raw["reply"]}, *raw["others"]):
            window = encoder.encode([*start[:-1], Message("user", one["content"])])
            reply = tokenizer(one["reply"], add_special_tokens=False)["input_ids"]
            asked.append((window, [*reply, tokenizer.eos_token_id]))
        example = joined(asked, raw["kind"].endswith("ko"))
        if len(example.ids) <= LONGEST:
            examples.append(example)
    return examples


def batches(examples: Sequence[Example], rng: random.Random) -> list[list[Example]]:
    """Batches of examples of like length, in random order."""
    order = sorted(examples, key=lambda one: len(one.ids) + rng.random() * 40)
    made: list[list[Example]] = [[]]
    for one in order:
        if (len(made[-1]) + 1) * len(one.ids) > TOKENS:
            made.append([])
        made[-1].append(one)
    rng.shuffle(made)
    return made


def drawn(examples: Sequence[Example], rng: random.Random) -> list[Example]:
    """The examples of one epoch."""
    return [one for one in examples if not one.korean or rng.random() < KOREAN]


def loss_of(model: Any, batch: Sequence[Example]) -> tuple[Tensor, int]:
    """The mean loss over the replies' tokens, and their number."""
    longest = max(len(one.ids) for one in batch)
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    places = torch.arange(longest).repeat(len(batch), 1)
    learnt = torch.zeros_like(ids, dtype=torch.bool)
    seen = torch.ones(longest, longest, dtype=torch.bool).tril().repeat(len(batch), 1, 1, 1)
    for row, one in enumerate(batch):
        ids[row, : len(one.ids)] = torch.tensor(one.ids)
        shared = one.branches[0].begin
        for branch in one.branches:
            learnt[row, branch.reply - 1 : branch.end - 1] = True
            places[row, branch.begin : branch.end] -= branch.begin - shared
            seen[row, 0, branch.begin :, shared : branch.begin] = False
    mask = torch.zeros(seen.shape, dtype=model.dtype)
    mask.masked_fill_(~seen, torch.finfo(model.dtype).min)
    ids, mask, places, learnt = (one.to(model.device) for one in (ids, mask, places, learnt))
    states = model.model(
        input_ids=ids, attention_mask=mask, position_ids=places, use_cache=False
    ).last_hidden_state
    targets = ids.roll(-1, 1)[learnt]
    logits = model.lm_head(states[learnt]).float()
    return cross_entropy(logits, targets), len(targets)


@torch.inference_mode()
def measure(model: Any, kept: Sequence[Example]) -> float:
    total = count = 0.0
    for batch in batches(kept, random.Random(0)):
        loss, tokens = loss_of(model, batch)
        total, count = total + loss.item() * tokens, count + tokens
    return total / count


def save(
    updates: dict[str, Update], base: str, path: Path, start: Mapping[str, Tensor] | None = None
) -> None:
    """Write the updates, a SHARE of them: between the model as it was and as it was trained lies
    one that is good at both (Wortsman et al. 2022, arXiv 2109.01903). With the weights that they
    had at the `start`, as `load` gives them, the mean of both is written, for the same reason.
    """
    tensors = {
        f"{name}.{part}": share * getattr(update, part).detach().cpu()
        for name, update in updates.items()
        for part, share in (("down", 1.0), ("up", SHARE))
    }
    if start:
        tensors = {name: (now + start[name].float()) / 2 for name, now in tensors.items()}
    written = {name: now.to(torch.bfloat16).contiguous() for name, now in tensors.items()}
    save_file(written, path, metadata={"base": base, "format": "pt"})


def load(updates: dict[str, Update], path: Path) -> dict[str, Tensor]:
    """Give the updates the weights that `save` wrote; these are returned."""
    tensors = load_file(path)
    for name, update in updates.items():
        update.down.data.copy_(tensors[f"{name}.down"])
        update.up.data.copy_(tensors[f"{name}.up"] / SHARE)
    return tensors


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("examples", type=Path)
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument(
        "--minutes", type=float, help="end by then; the learning rate falls by then"
    )
    parser.add_argument("--resume", type=Path, metavar="FILE", help="go on with this checkpoint")
    parser.add_argument("--start", type=Path, metavar="FILE", help="go on from these weights")
    parser.add_argument("--mean", action="store_true", help="leave the mean with those of --start")
    arguments = parser.parse_args()
    if arguments.mean and not arguments.start:
        parser.error("--mean needs --start: name the weights to take the mean with")
    torch.manual_seed(0)
    files = resolve(DEFAULT_GPT)
    base = origin_of(files.folder)["converted_from_sha256"]
    tokenizer = AutoTokenizer.from_pretrained(files.folder)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model: Any = AutoModelForCausalLM.from_pretrained(
        files.folder,
        dtype=torch.bfloat16,
        attn_implementation="eager" if device == "cpu" else "sdpa",  # the faster one backwards
    )
    model.to(device)
    updates = adapt(model)
    start = load(updates, arguments.start) if arguments.start else None
    for update in updates.values():
        update.to(device)
    examples = read_examples(arguments.examples, tokenizer)
    kept = examples[::MEASURED]
    learnt = [one for at, one in enumerate(examples) if at % MEASURED]
    return train(model, updates, learnt, kept, arguments, base, start if arguments.mean else None)


def train(
    model: Any,
    updates: dict[str, Update],
    learnt: Sequence[Example],
    kept: Sequence[Example],
    arguments: argparse.Namespace,
    base: str,
    start: Mapping[str, Tensor] | None = None,
) -> int:
    """Train the updates of `model` on what is to be learnt; what was kept out is measured. See
    `save` for `start`."""
    rng = random.Random(0)
    trained = [p for update in updates.values() for p in update.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=RATE, weight_decay=0.01, fused=True)
    plan = [
        batch
        for _ in range(math.ceil(arguments.epochs))
        for batch in batches(drawn(learnt, rng), rng)
    ]
    plan = plan[: int(len(plan) * arguments.epochs / math.ceil(arguments.epochs))]
    first, checkpoint = 0, arguments.examples.with_suffix(".checkpoint")
    if arguments.resume:
        state = torch.load(arguments.resume, weights_only=True)
        for parameter, value in zip(trained, state["trained"], strict=True):
            parameter.data.copy_(value)
        optimiser.load_state_dict(state["optimiser"])
        first = state["step"]
    began = saved = time.monotonic()
    tokens, losses = 0, [0.0]
    step = first

    def keep() -> None:
        state = {"trained": trained, "optimiser": optimiser.state_dict(), "step": step}
        torch.save(state, checkpoint)
        save(updates, base, arguments.examples.with_name(GPT), start)
        recent = losses[-50:]
        print(
            f"\n{step}/{len(plan)}: loss {sum(recent) / len(recent):.3f}, kept out "
            f"{measure(model, kept):.3f}, {tokens / (time.monotonic() - began):.0f} tokens/s",
            file=sys.stderr,
            flush=True,
        )

    try:
        for step in range(first, len(plan)):
            spent = (time.monotonic() - began) / 60
            done = max(step / len(plan), spent / arguments.minutes if arguments.minutes else 0.0)
            if done >= 1:
                break
            rate = (
                RATE * min(1.0, (step + 1) / WARM) * max(0.05, (1 + math.cos(math.pi * done)) / 2)
            )
            for group in optimiser.param_groups:
                group["lr"] = rate
            loss, _ = loss_of(model, plan[step])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(trained, 1.0)
            optimiser.step()
            tokens += sum(len(one.ids) for one in plan[step])
            losses.append(loss.item())
            print(f"\r{step + 1}/{len(plan)} loss {loss.item():.3f}", end="", file=sys.stderr)
            if time.monotonic() - saved > SAVED:
                saved = time.monotonic()
                keep()
    except KeyboardInterrupt:
        print(f"\nended; --resume {checkpoint} goes on", file=sys.stderr)
        keep()
        return 130
    keep()
    return 0


if __name__ == "__main__":
    sys.exit(main())
