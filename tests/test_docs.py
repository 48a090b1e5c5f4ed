"""The docs say what the code does: generated parts are fresh, links lead somewhere."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def generator() -> object:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["README.md", "docs/commands.md"])
def test_generated_parts_are_fresh(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert "<!-- generated:" in text
    assert generator().generated(text) == text, "run `make docs`"  # type: ignore[attr-defined]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_map_of_the_rooms_is_whole() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| ((?:chatbot|memory)/[\w/., ]+\.py) \|", text, re.MULTILINE)
    named = set()
    for row in listed:
        first, *beside = row.split(", ")
        named |= {first, *(f"{first.rpartition('/')[0]}/{name}" for name in beside)}
    there = {
        f"{room}/{path.name}"
        for room in ("chatbot", "chatbot/insight", "memory")
        for path in (ROOT / room).glob("*.py")
        if path.name not in ("__init__.py", "__main__.py")
    }
    small = {"chatbot/errors.py", "memory/errors.py", "chatbot/hints.py"}
    assert named == there - small
