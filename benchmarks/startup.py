"""How long until the prompt is visible, and how long light commands take.

    python -m benchmarks.startup

Medians of ten, each in a new process, the prompt in a pseudo-terminal. Prints one JSON object last
on standard output.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from statistics import median

from tests.chatbot.terminal_driver import Terminal

RUNS = 10
COMMAND = (sys.executable, "-m", "chatbot")


def seconds(call: Callable[[], None]) -> float:
    """The median of RUNS."""
    times = []
    for _ in range(RUNS):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return round(median(times), 3)


def measure(home: str) -> dict[str, float]:
    environment = {**os.environ, "CHATBOT_HOME": home}

    def prompt() -> None:
        with Terminal(COMMAND, environment=environment) as terminal:
            terminal.wait_for_prompt()  # it is killed then, with what loads in the background

    def run(*arguments: str) -> None:
        subprocess.run(
            [*COMMAND, *arguments], env=environment, stdout=subprocess.DEVNULL, check=True
        )

    return {
        "prompt_s": seconds(prompt),
        "help_s": seconds(lambda: run("--help")),
        "memory_list_s": seconds(lambda: run("memory", "list")),
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        print(json.dumps(measure(home), indent=1))


if __name__ == "__main__":
    main()
