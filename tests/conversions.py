"""Conversions of a memory that end by SIGKILL, at every line of them, and what is left.

    python -m tests.conversions HOME encrypt|rekey|decrypt

HOME is a plain memory with turns that hold the canary. Each moment works on a copy: a forked
process converts it and is killed when a line of memory/encryption.py is reached the first or the
last time; then the copy is opened as the program does. Prints one JSON object.
"""

import json
import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from memory import cipher, encryption
from memory.errors import DatabaseFault
from memory.log import Log

CANARY = "zanzibarquux"
MAGIC = b"SQLite format 3"
FIRST, SECOND = (cipher.derive(key) for key in ("the first key", "the second key"))
KEYS = {"encrypt": (None, FIRST), "rekey": (FIRST, SECOND), "decrypt": (FIRST, None)}
encryption.STEPS = 500  # so that it is killed while SQLite writes the copy, too

Line = tuple[int, int]  # in memory/encryption.py, and how often it was reached


def main() -> None:
    home, kind = Path(sys.argv[1]), sys.argv[2]
    before, after = KEYS[kind]
    original = home.with_name(f"{home.name}-{kind}")
    shutil.copytree(home, original)
    if before is not None:
        encryption.convert(original / "chatbot.db", None, before)
    wanted = rows(original / "chatbot.db")
    left: Counter[str] = Counter()
    wrong: list[str] = []
    moments = reached(lambda: convert(copy_of(original), before, after))
    for moment in moments:
        work = copy_of(original)
        killed = run_killed(moment, lambda work=work: convert(work, before, after))  # type: ignore[misc]
        state, faults = judge(work, before, after, wanted)
        left[state] += 1
        faults += [] if killed else ["it was not killed"]
        wrong += [f"line {moment[0]}, time {moment[1]}: {fault}" for fault in faults]
    print(json.dumps({"moments": len(moments), "left": left, "wrong": wrong}))


def copy_of(original: Path) -> Path:
    work = original.with_name("work")
    shutil.rmtree(work, ignore_errors=True)
    return Path(shutil.copytree(original, work))


def convert(home: Path, before: bytes | None, after: bytes | None) -> None:
    encryption.convert(home / "chatbot.db", before, after, lambda *_: None)


def judge(
    home: Path, before: bytes | None, after: bytes | None, wanted: list[Any]
) -> tuple[str, list[str]]:
    """Which of the two memories is there, and what is wrong with it."""
    database = home / "chatbot.db"
    is_new = key_of(database) == after
    faults = []
    try:
        if rows(database) != wanted:
            faults.append("the rows differ")
        if cipher.is_encrypted(database) and (clear := in_the_clear(home)):
            faults.append(f"in the clear: {clear}")
        convert(home, key_of(database), before if is_new else after)  # once more, or back
        if rows(database) != wanted:
            faults.append("the rows differ after the next conversion")
    except (DatabaseFault, OSError) as error:
        faults.append(str(error))
    return "new" if is_new else "old", faults


def key_of(database: Path) -> bytes | None:
    if not cipher.is_encrypted(database):
        return None
    return next(raw for raw in (FIRST, SECOND) if raw.endswith(cipher.salt_of(database)))


def rows(database: Path) -> list[Any]:
    """What the memory holds, opened as the program does."""
    log = Log(database, unlocked=key_of(database))
    try:
        with log.reading() as connection:
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"
            return [
                tuple(row)
                for table in ("turns", "conversations", "pins", "vectors", "words", "counters")
                for row in connection.exec_driver_sql(f"SELECT * FROM {table} ORDER BY 1")
            ]
    finally:
        log.close()


def in_the_clear(home: Path) -> list[str]:
    """The files below `home` that hold the canary, or look like a database."""
    marks = [CANARY.encode(coded) for coded in ("utf-8", "utf-16-le", "utf-16-be")]
    marks += [MAGIC, CANARY[4:].encode()]
    found = []
    for path in home.rglob("*"):
        data = path.read_bytes() if path.is_file() else b""
        if path.suffix == ".codes" or any(mark in data for mark in marks):
            found.append(path.name)
    return sorted(found)


# -- moments --------------------------------------------------------------------------------------


def reached(work: Callable[[], None]) -> list[Line]:
    """The lines that `work` reaches, each the first and the last time."""
    count: Counter[int] = Counter()

    def heard(line: int) -> None:
        count[line] += 1

    trace(heard, work)
    return sorted({(line, time) for line, times in count.items() for time in (1, times)})


def run_killed(moment: Line, work: Callable[[], None]) -> bool:
    """Do `work` in a process that is killed at a moment; whether it was."""
    process = os.fork()
    if process == 0:
        _die_at(moment, work)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL


def _die_at(moment: Line, work: Callable[[], None]) -> NoReturn:
    times = 0

    def heard(line: int) -> None:
        nonlocal times
        times += line == moment[0]
        if (line, times) == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    try:
        trace(heard, work)
    finally:
        os._exit(0)


def trace(heard: Callable[[int], None], work: Callable[[], None]) -> None:
    def inside(frame: FrameType, event: str, _: object) -> Any:
        if event == "line":
            heard(frame.f_lineno)
        return inside

    def entered(frame: FrameType, _event: str, _: object) -> Any:
        return inside if frame.f_code.co_filename == encryption.__file__ else None

    sys.settrace(entered)
    try:
        work()
    finally:
        sys.settrace(None)


if __name__ == "__main__":
    main()
