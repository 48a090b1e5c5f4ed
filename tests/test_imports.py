"""What importing may load: memory/ stands alone, and light commands stay light."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "transformers", "faiss", "numpy", "huggingface_hub", "gguf", "accelerate"}


def test_memory_never_imports_chatbot() -> None:
    for path in (ROOT / "memory").glob("**/*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not any(name.split(".")[0] == "chatbot" for name in names), path


def loaded_by(arguments: list[str], home: Path) -> set[str]:
    """The modules that a run of the command has loaded when it ends."""
    code = (
        "import atexit, sys\n"
        f"atexit.register(lambda: print('LOADED', *sys.modules, file=sys.stderr))\n"
        f"sys.argv = ['chatbot', *{arguments!r}]\n"
        "from chatbot.cli import main\n"
        "main()\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "CHATBOT_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert result.returncode == 0, result.stderr
    line = next(line for line in result.stderr.splitlines() if line.startswith("LOADED"))
    return {name.split(".")[0] for name in line.split()}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["memory", "list"],
        ["memory", "list", "--json"],
        ["memory", "stats"],
        ["memory", "export"],
        ["conversations", "list"],
    ],
)
def test_light_commands_load_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    assert not loaded_by(arguments, tmp_path) & HEAVY


def test_a_chat_starts_without_looking_for_secrets() -> None:
    code = (
        "import sys, chatbot.cli, chatbot.chat, chatbot.keys, chatbot.terminal\n"
        "assert 'memory.secret' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize("module", ["chatbot", "memory", "chatbot.cli", "memory.types"])
def test_importing_is_silent(module: str) -> None:
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"import {module}"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
