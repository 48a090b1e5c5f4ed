"""How soon a reply begins as a conversation grows, and how fast it is written.

    python -m benchmarks.turn

A conversation of 30 turns, some of them Korean, through the whole chatbot (Chat, a fresh memory,
the built-in models). Between turns the model reads ahead, as it does while a user types;
--no-read-ahead leaves that out. Then every window is read once more by a model that has kept
nothing. Last, the same reply is written by this engine and by transformers' own `generate`, turn
and turn about, on the same model in memory. Prints one JSON object last on standard output:

    first_token_ms             by turn: from the packed window to the first token, KV cache kept
    first_token_ms_not_kept    by turn: the same windows, nothing kept
    prompt_tokens              by turn
    reused_share               by turn: prompt tokens that needn't be read, of all
    decode_tokens_per_s        this engine, greedy, after the first token
    generate_tokens_per_s      transformers' generate, the same
    prefill_tokens_per_s       of the longest window, nothing kept
"""

import argparse
import json
import platform
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from chatbot.catalogue import DEFAULT_GPT
from chatbot.chat import Chat
from chatbot.cli import open_embedder
from chatbot.decoding import Decoding
from chatbot.engines import Message, Piece, Usage
from chatbot.local import LocalEngine
from chatbot.models import resolve
from chatbot.settings import Settings
from memory.store import Memory

LINES = (
    "Hi! I just moved to Galway and I don't know anybody here yet.",
    "My dog Biscuit came with me on the train, he slept the whole way.",
    "What should I look at when I choose a flat?",
    "I would like to be near the river, but it is expensive there.",
    "안녕, 한국어로도 얘기할 수 있어?",
    "I start my new job at the aquarium on Monday.",
    "They want me to look after the sea otters, can you believe it?",
    "What do sea otters eat?",
    "I am a bit nervous about the first day. Any advice?",
    "My sister Hana is coming to visit in October.",
    "She is allergic to peanuts, so I need to be careful when I cook.",
    "Give me an idea for a dinner without nuts.",
    "I also need to find a vet for Biscuit. How do I find a good one?",
    "오늘은 비가 와서 하루 종일 집에 있었어.",
    "I read a book about the history of maps. Did you know that Ptolemy made one?",
    "Who was Ptolemy?",
    "I think I want to learn Irish. Where do I begin?",
    "How do I say good morning in Irish?",
    "The first day at work went well! The otters are called Amália and Eusébio.",
    "My boss is called Teresa and she has worked there for twenty years.",
    "I was so tired that I fell asleep on the tram.",
    "What could I cook that takes less than fifteen minutes?",
    "I forgot to water the plants again.",
    "Hana 언니가 다음 주에 온대. 뭐 하고 놀까?",
    "We could go to the Aran Islands for a day. What is there to see?",
    "Which month does Hana come, do you remember?",
    "Biscuit was at the vet today, he is fine but a little too heavy.",
    "How much should a small dog eat in a day?",
    "I have been here for a month now and I already feel at home.",
    "Thank you for listening. What did I tell you about my job?",
)
STORY = (Message("user", "Tell me a long story about a ship that is lost in a storm."),)
ROUNDS = 3
WAIT = 120  # seconds, at most, for one reading ahead


class Watched:
    """A LocalEngine that notes the windows it was shown and says when it has read ahead."""

    def __init__(self, engine: LocalEngine) -> None:
        self.engine = engine
        self.name, self.window, self.count = engine.name, engine.window, engine.count
        self.windows: list[Sequence[Message]] = []
        self.ready = threading.Event()

    def stream(
        self,
        messages: Sequence[Message],
        decoding: Decoding,
        stop: threading.Event | None = None,
    ) -> Iterator[Piece]:
        self.windows.append(messages)
        return self.engine.stream(messages, decoding, stop)

    def warm(self, messages: Sequence[Message], stop: threading.Event | None = None) -> None:
        self.engine.warm(messages, stop)
        self.ready.set()


def converse(
    watched: Watched, lines: Sequence[str], decoding: Decoding, read_ahead: bool
) -> list[Usage]:
    """What each turn of a conversation cost."""
    usages = []
    with tempfile.TemporaryDirectory() as folder:
        memory = Memory(Path(folder) / "chatbot.db", open_embedder)
        chat = Chat(memory, Settings(Path(folder), decoding=decoding), lambda _: watched)
        chat.wait()
        for place, line in enumerate(lines, 1):
            if read_ahead:
                watched.ready.clear()
                chat.read_ahead()
                watched.ready.wait(WAIT)
            reply = "".join(chat.turn(line))
            assert chat.last is not None
            assert chat.last.usage is not None
            usages.append(usage := chat.last.usage)
            tell(f"{place:2} {usage.first_token * 1000:6.0f} ms  {shares([usage])[0]:.0%} reused")
            tell(f"   {line}\n   > {' '.join(reply.split())[:80]}")
        memory.close()
    return usages


def begin(engine: LocalEngine, window: Sequence[Message], decoding: Decoding) -> Usage:
    """What the first token of a reply to `window` costs a model that has kept nothing."""
    engine.forget()
    last = list(engine.stream(window, replace(decoding, max_tokens=1)))[-1]
    assert last.usage is not None
    return last.usage


def decode_speed(engine: LocalEngine, tokens: int) -> float:
    """Tokens a second after the first."""
    decoding = Decoding(strategy="greedy", repetition_penalty=1.0, max_tokens=tokens)
    usage = list(engine.stream(STORY, decoding))[-1].usage
    assert usage is not None
    return (usage.reply - 1) / (usage.total - usage.first_token)


def generate_speed(engine: LocalEngine, tokens: int) -> float:
    """The same by transformers' own `generate`."""
    ids = torch.tensor([engine.encoder.encode(STORY)], device=engine.model.device)
    generate: Any = engine.model.generate

    def timed(length: int) -> tuple[float, int]:
        began = time.perf_counter()
        out = generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=length,
            pad_token_id=min(engine.ends),
        )
        return time.perf_counter() - began, out.shape[1] - ids.shape[1]

    first, _ = timed(1)
    whole, written = timed(tokens)
    return (written - 1) / (whole - first)


def shares(usages: Sequence[Usage]) -> list[float]:
    return [round(usage.reused / usage.prompt, 3) for usage in usages]


def milliseconds(usages: Sequence[Usage]) -> list[int]:
    return [round(usage.first_token * 1000) for usage in usages]


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--model", default=DEFAULT_GPT)
    parser.add_argument("--turns", type=int, default=len(LINES), help="at most %(default)s")
    parser.add_argument("--tokens", type=int, default=64, help="of a reply, at most")
    parser.add_argument("--no-read-ahead", action="store_true")
    options = parser.parse_args()
    engine = LocalEngine.from_files(resolve(options.model))
    watched = Watched(engine)
    decoding = replace(Decoding.default("greedy"), max_tokens=options.tokens)
    kept = converse(watched, LINES[: options.turns], decoding, not options.no_read_ahead)
    tell("the same windows, nothing kept")
    fresh = [begin(engine, window, decoding) for window in watched.windows]
    tell("this engine and generate, turn and turn about")
    speeds = [
        (decode_speed(engine, options.tokens), generate_speed(engine, options.tokens))
        for _ in range(ROUNDS)
    ]
    longest = max(fresh, key=lambda usage: usage.prompt)
    result = {
        "model": options.model,
        "dtype": str(engine.model.dtype).removeprefix("torch."),
        "device": str(engine.model.device),
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "read_ahead": not options.no_read_ahead,
        "first_token_ms": milliseconds(kept),
        "first_token_ms_not_kept": milliseconds(fresh),
        "prompt_tokens": [usage.prompt for usage in kept],
        "reused_share": shares(kept),
        "decode_tokens_per_s": round(median(ours for ours, _ in speeds), 1),
        "generate_tokens_per_s": round(median(theirs for _, theirs in speeds), 1),
        "prefill_tokens_per_s": round(longest.prompt / longest.first_token, 1),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
