"""Long runs of what `make test` runs shortened: what must hold through every accident.

    python -m tests.soak kills --count 500 --seed 1
    python -m tests.soak company --count 20000 --seed 1
    python -m tests.soak full --count 100 --seed 1
    python -m tests.soak damage
    python -m tests.soak fuzz --cases 100000 --seed 1

Each prints one JSON object last on standard output, and progress on standard error; the exit code
is 1 if anything was wrong.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests import company as together
from tests import crashes, damages, fuzz

MEMBERS = 8  # processes at once on one memory
LIVES = 8  # on one home, one after the other
DISK = 16 << 20  # bytes of a small disk
FREE = 400_000  # bytes at most that are free on it when it is nearly full


def kills(count: int, seed: int) -> dict[str, Any]:
    """Kill `count` lives, as many of each moment, each at a random time of its length."""
    crashes.make_small()
    chance = random.Random(seed)
    wrong: dict[str, list[str]] = {kind: [] for kind in crashes.KINDS}
    killed, early = Counter[str](), 0
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        lengths = {moment: _length(Path(folder), moment) for moment in crashes.MOMENTS}
        homes = _Homes(Path(folder))
        for number in range(count):
            moment = list(crashes.MOMENTS)[number % len(crashes.MOMENTS)]
            home, ledger = homes.next(moment, number)
            seconds = chance.uniform(0, 1.05 * lengths[moment])
            announced = crashes.run_life(home, moment, number + 1, seconds)
            killed[moment] += 1
            early += ["done"] not in announced
            wrong["tracebacks"] += ledger.add(announced)
            found = crashes.look(home)
            for kind, some in ledger.compare(found).items():
                wrong[kind] += [f"{moment}, kill {number}: {one}" for one in some]
            ledger.settle(found)
            _progress(f"{number + 1} of {count}: {moment}, {_so_far(wrong)}")
    return {
        "kills": count,
        "seed": seed,
        "in the middle": early,
        "by moment": killed,
        **_counted(wrong),
        "seconds": round(time.monotonic() - began, 1),
    }


def company(count: int, seed: int) -> dict[str, Any]:
    """Let 8 processes do `count` operations on one memory.

    How long a recall takes is told beside what it takes in one process alone, and in as many
    processes of which each has a memory of its own: these wait for the processor, too, but not for
    one another's transactions. Both go on from copies of what the company left.
    """
    together.make_small()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        homes = [Path(name) / str(number) / "home" for number in range(MEMBERS + 2)]
        shared = homes[0]
        shared.mkdir(parents=True)
        rows = together.gather([shared] * MEMBERS, count, seed)
        _progress(f"{count} operations in {time.monotonic() - began:.0f} s")
        for home in homes[1:]:
            shutil.copytree(shared, home)
        few = max(MEMBERS, count // 10)
        alone = together.gather(homes[-1:], few, seed + 1)
        apart = together.gather(homes[1:-1], few, seed + 2)
        wrong = together.judge(shared, rows)
    every = [row for row in (*rows, *alone, *apart) if row[0] in ("fault", "traceback")]
    recalls = {
        name: together.seconds(some, "recall")
        for name, some in (("company", rows), ("alone", alone), ("apart", apart))
    }
    tails = {name: together.percentile(some, 0.99) for name, some in recalls.items()}
    return {
        "operations": sum(row[0] == "took" for row in rows),
        "processes": MEMBERS,
        "processors": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "seed": seed,
        "by kind": Counter(row[1] for row in rows if row[0] == "took"),
        **{kind: len(some) for kind, some in wrong.items()},
        "recall p50 ms": {
            name: round(1e3 * together.percentile(some, 0.5), 1) for name, some in recalls.items()
        },
        "recall p99 ms": {name: round(1e3 * tail, 1) for name, tail in tails.items()},
        "slowest recall ms": {name: round(1e3 * some[-1], 1) for name, some in recalls.items()},
        "p99 by that alone": round(tails["company"] / tails["alone"], 2),
        "p99 by that apart": round(tails["company"] / tails["apart"], 2),
        "examples": [some[0] for some in wrong.values() if some] + [row[1] for row in every[:3]],
        "seconds": round(time.monotonic() - began, 1),
    }


def full(count: int, seed: int, folder: Path) -> dict[str, Any]:
    """Live `count` lives on the small disk `folder`, of which little is free, and then make room.

    What ends a life must be one clear line.
    """
    crashes.make_small()
    chance = random.Random(seed)
    wrong: dict[str, list[str]] = {kind: [] for kind in crashes.KINDS}
    lines = Counter[str]()
    for number in range(count):
        moment = list(crashes.MOMENTS)[number % len(crashes.MOMENTS)]
        home, ledger = _Homes(folder).next(moment, number)
        if moment != "migrating":
            ledger.add(crashes.run_life(home, "importing", 900, None))
        _fill(folder / "filler", chance.randrange(FREE))
        announced = crashes.run_life(home, moment, number + 1, None)
        (folder / "filler").unlink()
        told = [one[1] for one in announced[-1:] if one[0] == "refused"]
        lines.update(line.replace(str(home), "HOME") for line in told)
        clear = [line for line in told if "\n" not in line and "free some space" in line]
        wrong["tracebacks"] += [line for line in told if line not in clear]
        wrong["tracebacks"] += ledger.add([one for one in announced if one[0] != "refused"])
        for kind, some in ledger.compare(crashes.look(home)).items():
            wrong[kind] += [f"{moment}, life {number}: {one}" for one in some]
        shutil.rmtree(home)
        _progress(f"{number + 1} of {count}: {moment}, {_so_far(wrong)}")
    return {
        "lives": count,
        "seed": seed,
        "ended by a full disk": lines.total(),
        "lines": lines,
        **_counted(wrong),
    }


def _fill(filler: Path, free: int) -> None:
    """Leave about so many bytes free on the disk of `filler`."""
    with filler.open("wb") as file:
        file.write(bytes(max(0, shutil.disk_usage(filler.parent).free - free)))


def on_a_small_disk(arguments: list[str]) -> int:
    """Run this module with the folder of a disk of its own, which nobody else sees."""
    with tempfile.TemporaryDirectory() as folder:
        script = f'mount -t tmpfs -o size={DISK} tmpfs "$0" && exec "$@" --folder "$0"'
        command = [sys.executable, "-m", "tests.soak", *arguments]
        return subprocess.run(
            ["unshare", "--map-root-user", "--mount", "sh", "-c", script, folder, *command],
            check=False,
        ).returncode


def damage() -> dict[str, Any]:
    """Harm a home, or the embedder's folder, in every way there is a case for."""
    began = time.monotonic()
    outcomes = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        damages.make_home(folder / "home")
        for number, case in enumerate(damages.CASES):
            home = folder / f"case{number}" / "home"
            shutil.copytree(folder / "home", home)
            outcomes.append(damages.judge(case, home))
            _tell_outcome(outcomes[-1])
        for number, case in enumerate(damages.MODEL_CASES):
            outcomes.append(damages.judge_model(case, folder / f"models{number}"))
            _tell_outcome(outcomes[-1])
            shutil.rmtree(folder / f"models{number}")
    return {
        "cases": len(outcomes),
        "opened": sum(not outcome.line for outcome in outcomes),
        "refused": sum(bool(outcome.line) for outcome in outcomes),
        "wrong": {outcome.case: outcome.wrong for outcome in outcomes if outcome.wrong},
        "lines": {outcome.case: outcome.line for outcome in outcomes},
        "examples": [one for outcome in outcomes for one in outcome.wrong],
        "seconds": round(time.monotonic() - began, 1),
    }


def _tell_outcome(outcome: damages.Outcome) -> None:
    state = "; ".join(outcome.wrong) or outcome.line or "opens"
    _progress(f"{outcome.case}: {state}")


def fuzzing(cases: int, seed: int) -> dict[str, Any]:
    """Feed each parser its share of `cases`: half from hypothesis, half from atheris, which is
    guided by coverage; all from hypothesis where there is no atheris."""
    began = time.monotonic()
    has_guide = find_spec("atheris") is not None
    share = -(-cases // len(fuzz.TARGETS))
    rows: dict[str, dict[str, Any]] = {}
    for name in fuzz.TARGETS:
        some = share - share // 2 if has_guide else share
        rows[name] = fuzz.by_properties(name, some, seed).as_row()
        _progress(f"{name}: {rows[name]}")
        if has_guide:
            rows[f"{name}, guided"] = _guided(name, share // 2, seed)
            _progress(f"{name}, guided: {rows[f'{name}, guided']}")
    return {
        "cases": sum(row["cases"] for row in rows.values()),
        "guided": sum(row["cases"] for name, row in rows.items() if name.endswith("guided")),
        "seed": seed,
        "by target": {name: row["cases"] for name, row in rows.items()},
        "slowest_ms": max(row["slowest_ms"] for row in rows.values()),
        "examples": [
            f"{name}: {one}" for name, row in rows.items() for one in row["found"].items()
        ],
        "seconds": round(time.monotonic() - began, 1),
    }


def _guided(name: str, cases: int, seed: int) -> dict[str, Any]:
    """A target under atheris, which takes a process to itself. One that dies is a finding."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "findings.json"
        options = ["--cases", str(cases), "--seed", str(seed), "--guided", str(out)]
        command = [sys.executable, "-m", "tests.fuzz", name, *options]
        ended = subprocess.run(command, capture_output=True, check=False, text=True)
        row: dict[str, Any] = {"cases": 0, "slowest_ms": 0.0, "found": {}}
        if out.exists():
            row = json.loads(out.read_text("utf-8"))
        if ended.returncode:
            row["found"]["the process died"] = [1, ended.stderr[-2000:]]
    return row


class _Homes:
    """The homes that lives are lived on: one for some lives, and an old one for each migration."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ledger = crashes.Ledger()
        self._lives = 0

    def next(self, moment: str, number: int) -> tuple[Path, crashes.Ledger]:
        if moment == "migrating":
            home = self._folder / f"old{number}"
            texts = crashes.an_older_home(home, 1 + number // len(crashes.MOMENTS) % 2, 500_000)
            return home, crashes.Ledger(set(texts))
        if self._lives % LIVES == 0:
            self._ledger = crashes.Ledger()
        home = self._folder / f"home{self._lives // LIVES}"
        home.mkdir(exist_ok=True)
        self._lives += 1
        return home, self._ledger


def _length(folder: Path, moment: str) -> float:
    """How long a life of this moment takes, undisturbed, on a home that holds some turns."""
    home = folder / f"measured {moment}"
    if moment == "migrating":
        crashes.an_older_home(home, 2, 500_000)
    else:
        home.mkdir()
        crashes.run_life(home, "importing", 900, None)
    began = time.monotonic()
    crashes.run_life(home, moment, 901, None)
    return time.monotonic() - began


def _counted(wrong: dict[str, list[str]]) -> dict[str, Any]:
    """How often something went wrong in each way, and an example of each."""
    return {
        **{kind: len(some) for kind, some in wrong.items()},
        "examples": [some[0] for some in wrong.values() if some],
    }


def _so_far(wrong: dict[str, list[str]]) -> str:
    """What was wrong until now: that a long run is lost shall not lose it."""
    some = [f"{kind}: {one}" for kind, each in wrong.items() for one in each]
    return "; ".join(some[-3:]) or "nothing wrong"


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("what", choices=["kills", "company", "full", "damage", "fuzz"])
    parser.add_argument("--count", type=int, help="kills, lives or operations")
    parser.add_argument("--cases", type=int, default=100_000, help="of fuzz")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="of full: a small disk, made if not given")
    options = parser.parse_args()
    if options.what == "full" and options.folder is None:
        sys.exit(on_a_small_disk(sys.argv[1:]))
    count = options.count or {"kills": 500, "company": 20_000, "full": 100}.get(options.what, 0)
    figures = {
        "kills": lambda: kills(count, options.seed),
        "company": lambda: company(count, options.seed),
        "full": lambda: full(count, options.seed, options.folder),
        "damage": damage,
        "fuzz": lambda: fuzzing(options.cases, options.seed),
    }[options.what]()
    print(json.dumps(figures, ensure_ascii=False))
    sys.exit(1 if figures["examples"] else 0)


if __name__ == "__main__":
    main()
