"""Forgetting as a user does it: the memory's own, and the prompts that were typed before.

Knows the format of the file of prompts, which is prompt-toolkit's: an entry is an empty line, a
line `# time`, and each of the prompt's lines behind a `+`.
"""

import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from memory.traces import Traces, overwrite

if TYPE_CHECKING:
    from memory.forgetting import Receipt
    from memory.store import Memory

_ENTRY = re.compile(rb"\n# [^\n]*\n(?:\+[^\n]*\n)+")


def forget(memory: "Memory", history: Path, ids: Iterable[int]) -> "Receipt":
    """Delete turns for good, out of the prompts in the file `history` too. Errors: UnknownTurn."""
    from memory import forgetting

    return forgetting.forget(memory, ids, lambda traces: blank_prompts(history, traces))


def blank_prompts(history: Path, traces: Traces) -> int:
    """Blank the entries that hold something of what is forgotten; return how many.

    An entry that is all empty lines is none; the file keeps its length, so that another chat may
    go on adding to it.
    """
    with suppress(OSError):  # there may be none; what can't be written to is found afterwards
        data = history.read_bytes()
        count = 0

        def blanked(entry: re.Match[bytes]) -> bytes:
            nonlocal count
            if not traces.quoted_in(_prompt(entry[0])):
                return entry[0]
            count += 1
            return b"\n" * len(entry[0])

        over = _ENTRY.sub(blanked, data)
        overwrite(history, data, over)
        return count
    return 0


def _prompt(entry: bytes) -> str:
    lines = entry.decode("utf-8", "replace").split("\n")[2:]
    return "\n".join(line[1:] for line in lines)
