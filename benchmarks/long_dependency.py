"""The long dependency: a fact is told, n other words follow, it is asked for. Who still knows it?

    python -m benchmarks.long_dependency --plot docs/long_dependency.png --table
    python -m benchmarks.long_dependency --quick        # a few minutes, a few facts
    python -m benchmarks.long_dependency --resume FILE  # go on with a run that was ended

Four systems:

    lstm           a small LSTM, and
    small gpt      a small GPT with as many parameters, both trained here, by the same recipe, on a
                   made-up language (see small_networks.py); chance is 1 in 20
    gpt            the built-in GPT with its window: `Chat` with recall off, as by --no-memory
    gpt + memory   the same with this program's memory: `Chat` with recall on

The last two are told a plain fact, hear small talk made by a grammar (see small_talk.py), and are
asked the plain question, all greedily; a reply is right when it holds the value. Their chance is
next to none: no value is ever said in the small talk. Beside it stands how often the value was the
likeliest of ten of its kind, where chance is 1 in 10. Up to 3,000 words each fact is told in a
conversation of its own, at whose end it is asked for. Beyond, all facts are told at the start of
one log, which grows by the day, and are asked for in its latest conversation of 10,000 words, more
than the window holds; the facts that were told first stand some words farther back than the
distance says. Of this log the first 100,000 words are really embedded. To embed a million takes
hours on a small machine: the vectors of the others are composed from those of single words and
from residuals of real texts, as in scale.py; their texts and their words are real, and so are the
vectors of facts and questions.

Intervals are Wilson's, 95 %, over facts, and for the two small networks over texts and seeds.
Prints one JSON object last on standard output; progress goes to standard error. Ctrl-C keeps what
is done: a file is named that --resume goes on with.
"""

import argparse
import json
import math
import random
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import asking
from benchmarks.scale import Bar
from benchmarks.small_networks import VALUES, Gpt, Lstm, answered, pair, parameters, train
from benchmarks.small_talk import MEASURED, Fact, facts

SYSTEMS = ("lstm", "small gpt", "gpt", "gpt + memory")
DISTANCES = (10, 30, 100, 300, 1000, 3000, 10_000, 100_000, 1_000_000)
ALONE = 3000  # words up to which each fact has a conversation of its own
SEED = 20261122
Z = 1.959964  # of a 95 % interval
LOOKS = (
    ("#b2182b", "s", ":"),
    ("#ef8a62", "D", "-."),
    ("#67a9cf", "^", "--"),
    ("#2166ac", "o", "-"),
)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured.

    `texts` are asked of each small network of each of `seeds` seeds, up to 10,000 words; beyond,
    where reading takes long, `long_texts`.
    """

    distances: tuple[int, ...] = DISTANCES
    facts: int = len(MEASURED)
    seeds: int = 3
    steps: int = 800
    texts: int = 200
    long_texts: int = 32


QUICK = Sizes((10, 100, 10_000), facts=3, seeds=1, steps=60, texts=50, long_texts=8)


@dataclass(frozen=True, slots=True)
class Result:
    """How many of `asked` questions one system answered in one case: a fact, or a network's seed.

    `likeliest`: in how many of them the value was likelier than nine others of its kind;
    `in_window` and `recalled`: in how many the fact stood in the history, or was given as a memory.
    `reply` is what was said. All of these are the chat's alone.
    """

    system: str
    distance: int
    case: int
    answered: int
    asked: int
    likeliest: int = 0
    in_window: int = 0
    recalled: int = 0
    reply: str = ""


class Results:
    """Results in a file, a line each, so that a run can be ended and gone on with."""

    def __init__(self, path: Path, sizes: Sizes) -> None:
        self.path, self.all = path, list[Result]()
        head = json.dumps(asdict(sizes))
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        if lines and lines[0] != head:
            raise SystemExit(f"{path} was made with {lines[0]}, not {head}: give the same options")
        if not lines:
            path.write_text(head + "\n", "utf-8")
        self.all = [Result(**json.loads(line)) for line in lines[1:]]

    def add(self, result: Result) -> None:
        self.all.append(result)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(result), ensure_ascii=False) + "\n")

    def has(self, systems: Iterable[str], distances: Iterable[int], case: int) -> bool:
        """Whether all of it is done."""
        done = {(one.system, one.distance) for one in self.all if one.case == case}
        return all((system, n) in done for system in systems for n in distances)


def wilson(right: int, asked: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927)."""
    share, spread = right / asked, Z**2 / asked
    middle = share + spread / 2
    width = Z * math.sqrt(share * (1 - share) / asked + spread / (4 * asked))
    return max(0.0, (middle - width) / (1 + spread)), min(1.0, (middle + width) / (1 + spread))


# -- measuring ------------------------------------------------------------------------------------


def measure_networks(results: Results, sizes: Sizes, bar: Bar) -> None:
    for seed in range(sizes.seeds):
        networks: tuple[Lstm | Gpt, ...] = pair(seed)
        for name, network in zip(SYSTEMS[:2], networks, strict=True):
            if not results.has([name], sizes.distances, seed):
                _measure_network(results, sizes, name, network, seed, bar)


def _measure_network(
    results: Results, sizes: Sizes, name: str, network: Lstm | Gpt, seed: int, bar: Bar
) -> None:
    train(network, seed, sizes.steps, partial(bar, f"training the {name}, seed {seed}"))
    for place, distance in enumerate(sizes.distances, start=1):
        if not results.has([name], [distance], seed):
            texts = sizes.texts if distance <= asking.LATEST else sizes.long_texts
            right = answered(network, seed, distance, texts)
            results.add(Result(name, distance, seed, right, texts))
        bar(f"asking the {name}, seed {seed}", place, len(sizes.distances))


def measure_near(results: Results, sizes: Sizes, told: Sequence[Fact], bar: Bar) -> None:
    distances = [distance for distance in sizes.distances if distance <= ALONE]
    engine, embedder = _models()
    for case, fact in enumerate(told):
        bar("asking near", case, len(told))
        if results.has(SYSTEMS[2:], distances, case):
            continue
        rng = random.Random(SEED + case)
        with tempfile.TemporaryDirectory() as folder:
            for recall, distance, answer in asking.ask_near(
                fact, distances, rng, Path(folder), engine, embedder
            ):
                if not results.has([SYSTEMS[2 + recall]], [distance], case):
                    results.add(_result(recall, distance, case, answer))
    bar("asking near", len(told), len(told))


def measure_far(results: Results, sizes: Sizes, told: Sequence[Fact], bar: Bar) -> None:
    distances = [distance for distance in sizes.distances if distance > ALONE]
    if all(results.has(SYSTEMS[2:], distances, case) for case in range(len(told))):
        return
    with tempfile.TemporaryDirectory() as folder:
        far = asking.Far(told, random.Random(SEED), Path(folder), *_models())
        try:
            for distance in distances:
                latest = far.grow(distance, bar)
                _ask_all(results, far, distance, latest, bar)
        finally:
            far.close()


def _ask_all(results: Results, far: asking.Far, distance: int, latest: int, bar: Bar) -> None:
    """First without recall: the replies that are taken back again are then no work for it."""
    for recall in (False, True):
        for case, fact in enumerate(far.facts):
            bar(f"asking {SYSTEMS[2 + recall]}, {distance:,}", case + 1, len(far.facts))
            if not results.has([SYSTEMS[2 + recall]], [distance], case):
                results.add(_result(recall, distance, case, far.ask(fact, latest, recall)))


def _models() -> tuple[Any, Any]:
    """The built-in GPT and embedder."""
    from chatbot.catalogue import DEFAULT_GPT
    from chatbot.cli import open_embedder
    from chatbot.engines import open_engine

    return open_engine(DEFAULT_GPT), open_embedder()


def _result(recall: bool, distance: int, case: int, answer: asking.Answer) -> Result:
    return Result(
        SYSTEMS[2 + recall],
        distance,
        case,
        int(answer.right),
        1,
        int(answer.likeliest),
        int(answer.in_window),
        int(answer.recalled),
        answer.reply,
    )


# -- showing --------------------------------------------------------------------------------------


def summary(results: Sequence[Result]) -> dict[str, list[dict[str, Any]]]:
    """For each system, by distance: how many of how many were answered, and the interval."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for system in SYSTEMS:
        own = [one for one in results if one.system == system]
        rows[system] = [
            _row([one for one in own if one.distance == distance])
            for distance in sorted({one.distance for one in own})
        ]
    return rows


def _row(some: Sequence[Result]) -> dict[str, Any]:
    right, asked = sum(one.answered for one in some), sum(one.asked for one in some)
    row: dict[str, Any] = {"distance": some[0].distance, "answered": right, "n": asked}
    row["interval"] = [round(share, 3) for share in wilson(right, asked)]
    if some[0].system in SYSTEMS[2:]:
        row["likeliest_of_ten"] = sum(one.likeliest for one in some)
        row["in_window"] = sum(one.in_window for one in some)
        row["recalled"] = sum(one.recalled for one in some)
    return row


def table(rows: dict[str, list[dict[str, Any]]]) -> str:
    """Markdown: a row for each distance, a column for each system, in percent; for the chat also
    how often the value was the likeliest of ten."""
    distances = sorted({row["distance"] for some in rows.values() for row in some})
    lines = ["| words between | " + " | ".join(rows) + " |", "| ---: |" + " ---: |" * len(rows)]
    for distance in distances:
        cells = [_cell(some, distance) for some in rows.values()]
        lines.append(f"| {distance:,} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(some: Sequence[dict[str, Any]], distance: int) -> str:
    for row in some:
        if row["distance"] == distance:
            low, high = wilson(row["answered"], row["n"])
            cell = f"{row['answered'] / row['n']:.0%} ({100 * low:.0f} to {100 * high:.0f})"
            if "likeliest_of_ten" in row:
                cell += f"; {row['likeliest_of_ten'] / row['n']:.0%}"
            return cell
    return "–"


def plot(rows: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """The picture: one line for each system, told apart in print by marks and dashes, too."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for (system, some), (colour, mark, dash) in zip(rows.items(), LOOKS, strict=True):
        if not some:
            continue
        shares = [100 * row["answered"] / row["n"] for row in some]
        bounds = zip(shares, (row["interval"] for row in some), strict=True)
        errors = [(share - 100 * low, 100 * high - share) for share, (low, high) in bounds]
        axes.errorbar(
            [row["distance"] for row in some],
            shares,
            yerr=[[max(0.0, one[side]) for one in errors] for side in (0, 1)],
            color=colour, marker=mark, linestyle=dash, capsize=3, label=system,
        )  # fmt: skip
    chance = 100 / VALUES
    axes.axhline(chance, color="grey", linewidth=0.8)
    axes.annotate("chance (lstm, small gpt)", (10, chance + 1), color="grey", fontsize=8)
    axes.set(xscale="log", ylim=(-3, 103), ylabel="answered, %")
    axes.set_xlabel("words between the fact and the question")
    axes.set_title("A fact is told, n other words follow, it is asked for")
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    figure.savefig(path, dpi=160)


# -- the command ----------------------------------------------------------------------------------


def sizes_of(arguments: argparse.Namespace) -> Sizes:
    sizes = QUICK if arguments.quick else Sizes()
    given = {name: getattr(arguments, name) for name in ("facts", "seeds", "steps")}
    sizes = replace(sizes, **{name: value for name, value in given.items() if value is not None})
    if arguments.distances:
        sizes = replace(sizes, distances=tuple(sorted(arguments.distances)))
    return sizes


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="a few facts, distances and steps")
    parser.add_argument("--facts", type=int, help=f"how many, at most {len(MEASURED)}")
    parser.add_argument("--seeds", type=int, help="of each small network")
    parser.add_argument("--steps", type=int, help="of training each small network")
    parser.add_argument("--distances", type=int, nargs="+", help="in words")
    parser.add_argument("--only", choices=("networks", "near", "far"), help="one part alone")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="go on with this file")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write the picture, PNG or SVG")
    parser.add_argument("--table", action="store_true", help="print the table in Markdown")
    arguments = parser.parse_args()
    for distance in arguments.distances or ():
        if distance < 10 or distance % (10 if distance <= ALONE else 1000):
            parser.error(f"a distance is {distance}: give tens up to {ALONE:,}, thousands beyond")
    if arguments.plot:
        if arguments.plot.suffix not in (".png", ".svg"):
            parser.error(f"--plot is {arguments.plot}: name a .png or .svg")
        try:
            import matplotlib  # noqa: F401
        except ImportError:
            parser.error("--plot needs matplotlib: pip install 'chatbot-that-remembers[plot]'")
    return arguments


def main() -> int:
    arguments = parse()
    sizes, bar = sizes_of(arguments), Bar()
    with tempfile.NamedTemporaryFile(prefix="long_dependency_", suffix=".jsonl", delete=False) as f:
        path = arguments.resume or Path(f.name)
    results = Results(path, sizes)
    told = facts(MEASURED, SEED)[: sizes.facts]
    began, interrupted = time.monotonic(), False
    try:
        if arguments.only in (None, "networks"):
            measure_networks(results, sizes, bar)
        if arguments.only in (None, "near"):
            measure_near(results, sizes, told, bar)
        if arguments.only in (None, "far"):
            measure_far(results, sizes, told, bar)
    except KeyboardInterrupt:
        interrupted = True
        print(f"\nended; what is done is in {path}: --resume {path} goes on", file=sys.stderr)
    rows = summary(results.all)
    if arguments.plot:
        plot(rows, arguments.plot)
    if arguments.table:
        print(table(rows))
    result = {
        "seconds": round(time.monotonic() - began),
        "parameters": [parameters(one) for one in pair(0)],
        "chance_of_the_small_networks": round(1 / VALUES, 4),
        "words_really_embedded": asking.EMBEDDED,
        "complete": not interrupted and arguments.only is None,
        "systems": rows,
    }
    print(json.dumps(result, indent=1))
    return 130 if interrupted else 0


if __name__ == "__main__":
    sys.exit(main())
