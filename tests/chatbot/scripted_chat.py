"""The terminal with a scripted engine: everything else (chat, log, screen, keys) is the real one.

    python -m tests.chatbot.scripted_chat HOME SCRIPT [--pipe]

SCRIPT is a JSON file: {"replies": {prompt: text}, "piece": characters in a piece, "gate": a file,
"gated": whether loading waits until the gate is there, "fault": why loading fails}. A prompt
without a reply is echoed. A "⏸" in a reply waits until the gate is there or the reply is stopped.
"""

import json
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from chatbot.chat import Chat
from chatbot.decoding import Decoding
from chatbot.encryption import open_memory
from chatbot.engines import Message, Piece, Usage
from chatbot.errors import ModelFault
from chatbot.settings import load_settings
from tests.stand_ins import WordCounter, WordReader

PAUSE = "⏸"


class ScriptedEngine(WordCounter):
    """An engine whose replies are written down; a word is a token."""

    name = "scripted"
    window = 2000

    def __init__(self, script: Mapping[str, Any]) -> None:
        while script.get("gated") and not Path(script["gate"]).exists():
            time.sleep(0.01)
        if "fault" in script:
            raise ModelFault(script["fault"])
        self._script = script

    def stream(
        self,
        messages: Sequence[Message],
        decoding: Decoding,
        stop: threading.Event | None = None,
    ) -> Iterator[Piece]:
        stop = stop or threading.Event()
        prompt = messages[-1].content
        text = self._script.get("replies", {}).get(prompt, f"You said: {prompt}")
        size = self._script.get("piece", 3)
        usage = Usage(self.count(messages), 0, len(text.split()), 0.01, 0.02, 0)
        at = 0
        while at < len(text):
            if text[at] == PAUSE:
                while not stop.is_set() and not Path(self._script.get("gate", "")).is_file():
                    time.sleep(0.01)
                at += 1
            if stop.is_set():
                yield Piece("", "interrupted", usage)
                return
            piece = text[at : at + size].split(PAUSE)[0]
            at += len(piece)
            yield Piece(piece)
        yield Piece("", "stop", usage)


class LetterEmbedder(WordReader):
    """Text as the frequencies of its letters: an embedder that needs no model."""

    id = "letters"
    dimension = 64

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        letters = np.frombuffer("".join(texts).encode("utf-32-le"), np.uint32) % self.dimension
        owners = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
        counts = np.bincount(
            owners * self.dimension + letters, minlength=len(texts) * self.dimension
        )
        rows = counts.reshape(len(texts), self.dimension).astype(np.float32)
        rows[:, 0] += 1e-3
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def open_chat(home: Path, script: Mapping[str, Any]) -> Chat:
    """A chat in `home` whose replies are those of the script."""
    settings = load_settings(home, model="scripted", recall=False)
    memory = open_memory(settings, LetterEmbedder)
    return Chat(memory, settings, lambda name: ScriptedEngine(script))


def main() -> None:
    from chatbot.terminal import run, run_pipe

    home, script = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text("utf-8"))
    chat = open_chat(home, script)
    if "--pipe" in sys.argv:
        sys.exit(run_pipe(chat, sys.stdin.buffer, sys.stdout))
    sys.exit(run(chat))


if __name__ == "__main__":
    main()
