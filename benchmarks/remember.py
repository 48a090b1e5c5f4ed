"""Does it remember? Facts told among small talk in one process, each asked for in a new one.

    python -m benchmarks.remember                 # ten facts among 200 other turns
    python -m benchmarks.remember --facts 30 --seed 1

The real program is driven in a pseudo-terminal, greedily, as a user would: one `chatbot` is told
everything, a new one is asked each question, once with and once without --no-memory. A question is
answered when the reply contains the fact. Prints one JSON object last on standard output; progress
goes to standard error.
"""

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path

from memory.log import Log
from tests.chatbot.terminal_driver import CTRL_D, ENTER, Terminal

# What is told, what is asked in other words, and what an answer must contain (one of them).
FACTS = (
    ("Our tortoise is called Hannibal.", "What is the name of my tortoise?", "hannibal"),
    ("I can't eat peanuts, they make my throat swell.", "Which nuts can't I eat?", "peanut"),
    ("I teach chemistry at a school in Leipzig.", "Which subject do I teach?", "chemistry"),
    ("My brother Anton plays the trombone in a brass band.", "What does Anton play?", "trombone"),
    ("The code of the bike shed is 8261.", "What is the bike shed code?", "8261"),
    ("We are getting married on 5 September.", "When is my wedding?", "5 september|september 5"),
    ("I was born in Montevideo.", "Where was I born?", "montevideo"),
    ("My favourite painter is Vermeer.", "Who is my favourite painter?", "vermeer"),
    ("I've booked a cabin near Lake Inari for winter.", "Where have I booked a cabin?", "inari"),
    ("My car is an orange Fiat from 1982.", "What colour is my car?", "orange"),
    ("My boss is called Philippa and she never answers mail.", "Who is my boss?", "philippa"),
    ("I keep bees, four hives behind the house.", "What do I keep behind my house?", "bee|hive"),
    ("My daughter Juno wants to become a marine biologist.", "What does Juno want to become?",
     "marine biolog"),
    ("I always drink rooibos in the evening.", "What do I drink in the evening?", "rooibos"),
    ("My grandfather was a lighthouse keeper.", "What was my grandfather's job?", "lighthouse"),
    ("I ran my first marathon in Valencia.", "Where did I run my first marathon?", "valencia"),
    ("The plumber comes on Wednesday at nine.", "When does the plumber come?", "wednesday"),
    ("My flat is on the seventh floor.", "Which floor do I live on?", "seventh|7th"),
    ("I'm writing a novel about a clockmaker.", "What is my novel about?", "clockmaker"),
    ("My best friend Kwame moved to Toronto.", "Where did Kwame move to?", "toronto"),
    ("I broke my left elbow when I was nine.", "Which bone did I break as a child?", "elbow"),
    ("Our choir rehearses in the old brewery.", "Where does my choir rehearse?", "brewery"),
    ("My shoe size is 43.", "What is my shoe size?", "43"),
    ("I'm afraid of heights.", "What am I afraid of?", "height"),
    ("My neighbour Mrs Lindqvist breeds rabbits.", "What does my neighbour breed?", "rabbit"),
    ("I won a chess tournament in Riga last year.", "Which tournament did I win?", "chess"),
    ("My passport number ends in 553.", "What does my passport number end in?", "553"),
    ("I gave my mother a kayak for her birthday.", "What did I give my mother?", "kayak"),
    ("I speak Finnish with my children.", "Which language do I speak with my children?", "finnish"),
    ("My dentist is Doctor Baptiste.", "Who is my dentist?", "baptiste"),
)  # fmt: skip

SMALL_TALK = (
    "Good morning!", "How are you today?", "It is raining again.", "Tell me a joke.",
    "What should I cook tonight?", "I slept badly.", "Do you like music?", "Why is the sky blue?",
    "The bus was late again.", "How do I boil an egg?", "I had a long meeting.", "Any plans today?",
    "What is the capital of Peru?", "I need a holiday.", "How does a microwave work?",
    "My coffee went cold.", "Give me a word that rhymes with orange.", "The garden looks lovely.",
    "Is it healthy to nap?", "I watched a film last night.", "How far away is the moon?",
    "I can't find my keys.", "What is a good name for a boat?", "Dinner was delicious.",
    "How do planes fly?", "It is so quiet here.", "Recommend me a book.", "My phone is slow.",
    "What is the best way to relax?", "I went for a walk.", "Who invented paper?", "Nice weather!",
    "How do you spell necessary?", "The neighbours are loud.", "What is a haiku?", "Thanks!",
    "I am a bit bored.", "Why do cats purr?", "The train was full.", "How do I fold a shirt?",
)  # fmt: skip

REPLY_TOKENS = 40


def talk(home: Path, prompts: list[str], *arguments: str, show: str = "") -> list[str]:
    """Say each prompt to a new `chatbot` in a pseudo-terminal; its replies, as they were logged."""
    command = [sys.executable, "-m", "chatbot", "--strategy", "greedy"]
    command += ["--set", f"max_tokens={REPLY_TOKENS}", *arguments]
    with Terminal(command, environment={"CHATBOT_HOME": str(home)}, columns=120) as terminal:
        for number, prompt in enumerate(prompts, start=1):
            terminal.wait_for_prompt()
            terminal.send(prompt + ENTER)
            terminal.wait_for(lambda one, shown=f"> {prompt}": shown in one.text)  # type: ignore[misc]
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
    parser.add_argument("--facts", type=int, default=10, help=f"how many, at most {len(FACTS)}")
    parser.add_argument("--others", type=int, default=200, help="how many other turns")
    parser.add_argument("--seed", type=int, default=0, help="which facts, and in which order")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    facts = rng.sample(FACTS, min(arguments.facts, len(FACTS)))
    told = [fact for fact, _, _ in facts]
    told += [SMALL_TALK[at % len(SMALL_TALK)] for at in range(arguments.others)]
    rng.shuffle(told)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        talk(home, told, show="telling")
        for number, (_, question, wanted) in enumerate(facts, start=1):
            row: dict[str, object] = {"question": question, "wanted": wanted}
            for name, options in (("memory", []), ("no_memory", ["--no-memory"])):
                (reply,) = talk(home, [question], *options)
                row[name] = reply
                row[f"{name}_ok"] = any(word in reply.lower() for word in wanted.split("|"))
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
