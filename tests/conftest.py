"""Fixtures on real parts: the built-in models, databases and homes in temporary folders."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatbot.catalogue import DEFAULT_GPT
from chatbot.local import LocalEngine
from chatbot.models import embedder_folder, resolve
from memory.embed import SentenceEmbedder
from memory.store import Memory


@pytest.fixture(scope="session")
def embedder() -> SentenceEmbedder:
    """The built-in embedder."""
    return SentenceEmbedder(embedder_folder(), name="all-MiniLM-L6-v2")


@pytest.fixture(scope="session")
def gpt() -> LocalEngine:
    """The built-in GPT. Its cache is kept from test to test, as in a long conversation."""
    return LocalEngine.from_files(resolve(DEFAULT_GPT))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home of one user, which CHATBOT_HOME names."""
    folder = tmp_path / "home"
    monkeypatch.setenv("CHATBOT_HOME", str(folder))
    return folder


@pytest.fixture
def memory(tmp_path: Path, embedder: SentenceEmbedder) -> Iterator[Memory]:
    """An empty memory with the built-in embedder."""
    store = Memory(tmp_path / "chatbot.db", lambda: embedder)
    yield store
    store.close()


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests see no settings of the person who runs them."""
    for name in ("CHATBOT_HOME", "NO_COLOR"):
        if name in os.environ:
            monkeypatch.delenv(name)
