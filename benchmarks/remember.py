"""Does it remember? Facts told among small talk in one process, each asked for in a new one.

    python -m benchmarks.remember                 # ten facts among 200 other turns
    python -m benchmarks.remember --facts 30 --seed 1

The real program is driven in a pseudo-terminal, greedily, as a user would: one `chatbot` is told
everything, a new one is asked each question, once with and once without --no-memory. A question is
answered when the reply contains the fact. Prints one JSON object last on standard output; progress
goes to standard error.
"""

import argparse
import itertools
import json
import random
import sys
import tempfile
from pathlib import Path

from memory.log import Log
from tests.chatbot.terminal_driver import CTRL_D, ENTER, Terminal

FACTS = Path(__file__).parents[1] / "data" / "evaluation" / "facts_en.json"
REPLY_TOKENS = 40


def talk(home: Path, prompts: list[str], *arguments: str, show: str = "") -> list[str]:
    """Say each prompt to a new `chatbot` in a pseudo-terminal; its replies, as they were logged."""
    command = [sys.executable, "-m", "chatbot", "--strategy", "greedy"]
    command += ["--set", f"max_tokens={REPLY_TOKENS}", *arguments]
    with Terminal(command, environment={"CHATBOT_HOME": str(home)}, columns=120) as terminal:
        for number, prompt in enumerate(prompts, start=1):
            terminal.wait_for_prompt()
            terminal.send(prompt + ENTER)
            terminal.wait_for(f"> {prompt}", count=prompts[:number].count(prompt))
            if show:
                print(f"\r{show} {number}/{len(prompts)}", end="", file=sys.stderr, flush=True)
        terminal.wait_for_prompt()
        terminal.send(CTRL_D)
        if code := terminal.leave():
            raise SystemExit(f"chatbot left with {code}:\n{terminal.text}")
    log = Log(home / "chatbot.db")
    replies = [turn.text for turn in log.turns(limit=2 * len(prompts)) if turn.role == "assistant"]
    log.close()
    return replies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--facts", type=int, default=10, help="how many")
    parser.add_argument("--others", type=int, default=200, help="how many other turns")
    parser.add_argument("--seed", type=int, default=0, help="which facts, and in which order")
    arguments = parser.parse_args()
    stored = json.loads(FACTS.read_text(encoding="utf-8"))
    rng = random.Random(arguments.seed)
    facts = rng.sample(stored["facts"], min(arguments.facts, len(stored["facts"])))
    small_talk = itertools.islice(itertools.cycle(stored["small_talk"]), arguments.others)
    told = [*(fact["told"] for fact in facts), *small_talk]
    rng.shuffle(told)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        talk(home, told, show="telling")
        for number, fact in enumerate(facts, start=1):
            row = dict(fact)
            for name, options in (("memory", []), ("no_memory", ["--no-memory"])):
                (reply,) = talk(home, [fact["question"]], *options)
                row[name] = reply
                row[f"{name}_ok"] = any(word in reply.lower() for word in fact["answers"])
            rows.append(row)
            print(f"\rasking {number}/{len(facts)} ", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    result = {
        "facts": len(facts),
        "others": arguments.others,
        "seed": arguments.seed,
        "answered": sum(bool(row["memory_ok"]) for row in rows),
        "answered_without_memory": sum(bool(row["no_memory_ok"]) for row in rows),
        "replies": rows,
    }
    print(json.dumps(result, ensure_ascii=False, indent=1))


if __name__ == "__main__":
    main()
