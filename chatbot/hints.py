"""The nearest known name for one that was mistyped."""

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """': did you mean X?', or the known names when none is near."""
    names = list(known)
    if close := difflib.get_close_matches(name.lower(), names, n=1):
        return f": did you mean {close[0]}?"
    return f": known are {', '.join(names)}"
