"""Reading the public sets that README.md names: packed lines of JSON, and tables."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path


def lines(path: Path) -> Iterator[str]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from (line.rstrip("\n") for line in file)


def dialogues(path: Path) -> Iterator[str]:
    for line in lines(path):
        yield from (turn["text"] for turn in json.loads(line)["turns"])


def column(path: Path, at: int) -> Iterator[str]:
    rows = lines(path)
    next(rows)
    yield from (row.split("\t")[at] for row in rows)


def paragraphs(path: Path, every: int = 1, most: int = 10**6, size: int = 1000) -> Iterator[str]:
    for at, line in enumerate(lines(path)):
        if at % every == 0:
            for text in json.loads(line)["text"].split("\n")[:most]:
                yield from (text[start : start + size] for start in range(0, len(text), size))
