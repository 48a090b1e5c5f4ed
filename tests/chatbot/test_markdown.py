"""Markdown that arrives in pieces: the rows never depend on the pieces, and nothing is lost."""

import re

from hypothesis import example, given, settings
from hypothesis import strategies as st
from prompt_toolkit.utils import get_cwidth

from chatbot.markdown import Markdown, Row

SAMPLE = """\
# A heading

Some **bold words**, *soft* ones, `code` and a [link](https://example.org).
A second line with 5 * 3 and snake_case_name.

- first
- second, which is long enough that it has to be wrapped onto another row
  1. inner

> quoted

```python
def f(x):
    return x ** 2  # **not bold**
```

| name | age |
| --- | --- |
| 지수 | 31 |
| Bob | 7 |

---
끝입니다.
"""

# Texts that are full of markup, of both scripts, complete and broken.
TEXTS = st.lists(
    st.sampled_from(
        "* ** _ ` ``` ~~ [ ]( ) | |--| \\ word 漢字 é --- xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx".split()
    )
    | st.sampled_from(["- ", "# ", "> ", "1. ", "\n", "\n\n", " ", "\t", "긴 한국어 문장"])
    | st.text(max_size=8),
    max_size=40,
).map("".join)


def whole(text: str, width: int = 40) -> list[Row]:
    markdown = Markdown(width)
    return markdown.feed(text) + markdown.finish()


def plain(rows: list[Row]) -> list[str]:
    return ["".join(text for _, text in row) for row in rows]


def test_sample() -> None:
    assert plain(whole(SAMPLE)) == [
        "A heading",
        "",
        "Some bold words, soft ones, code and a",
        "link (https://example.org).",
        "A second line with 5 * 3 and",
        "snake_case_name.",
        "",
        "• first",
        "• second, which is long enough that it",
        "  has to be wrapped onto another row",
        "  1. inner",
        "",
        "│ quoted",
        "",
        "```python",
        "def f(x):",
        "    return x ** 2  # **not bold**",
        "```",
        "",
        "name │ age",
        "─────┼────",
        "지수 │ 31",
        "Bob  │ 7",
        "",
        "─" * 40,
        "끝입니다.",
    ]


def test_styles() -> None:
    [row] = whole("plain **bold *both*** `a*b` ~~gone~~")
    assert row == (
        ("", "plain "),
        ("bold", "bold "),
        ("bold italic", "both"),
        ("", " "),
        ("code", "a*b"),
        ("", " "),
        ("strike", "gone"),
    )


def test_bold_before_a_korean_particle() -> None:
    assert whole("**서울**은 크다") == [(("bold", "서울"), ("", "은 크다"))]


def test_markup_that_never_ends_stays_as_written() -> None:
    text = "a ** b, `c and [d, 2*3*4, _e f_g"
    assert plain(whole(text)) == [text]


def test_a_finished_line_leaves_at_once() -> None:
    markdown = Markdown(40)
    assert plain(markdown.feed("one\ntwo")) == ["one"]
    assert plain(markdown.tail()) == ["two"]


def test_a_long_line_leaves_row_by_row() -> None:
    markdown = Markdown(20)
    rows = markdown.feed("word " * 100)
    assert len(rows) >= 24
    assert len(markdown.tail()) <= 2


@given(TEXTS, st.integers(4, 60), st.data())
@settings(max_examples=400, deadline=None)
def test_rows_do_not_depend_on_the_pieces(text: str, width: int, data: st.DataObject) -> None:
    markdown = Markdown(width)
    rows: list[Row] = []
    rest = text
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        rows += markdown.feed(rest[:size])
        markdown.tail()  # looking changes nothing
        rest = rest[size:]
    assert rows + markdown.finish() == whole(text, width)


@given(TEXTS, st.integers(4, 60))
@settings(max_examples=400, deadline=None)
def test_nothing_is_lost_or_doubled(text: str, width: int) -> None:
    """Letters and digits come out once and in order, whatever surrounds them."""

    def letters(some: str) -> str:
        return re.sub(r"[\W_]+", "", some)

    assert letters("".join(plain(whole(text, width)))) == letters(text)


@given(st.lists(st.from_regex(r"[a-z]{1,9}( [a-z]{1,9}){0,4}", fullmatch=True), min_size=1))
def test_every_finished_line_is_a_row(lines: list[str]) -> None:
    markdown = Markdown(80)
    assert plain(markdown.feed("\n".join(lines))) == lines[:-1]
    assert plain(markdown.finish()) == lines[-1:]


@given(TEXTS, st.integers(6, 60))
@settings(max_examples=300, deadline=None)
def test_rows_fit(text: str, width: int) -> None:
    markdown = Markdown(width)
    rows = markdown.feed(text) + markdown.tail()
    for row in plain(rows):
        assert sum(max(get_cwidth(character), 0) for character in row) <= width


@given(TEXTS, st.lists(st.integers(6, 60), min_size=1, max_size=4), st.integers(1, 9))
@example("[](word)", [6], 1)
@settings(max_examples=300, deadline=None)
def test_a_change_of_width_loses_nothing(text: str, widths: list[int], piece: int) -> None:
    markdown = Markdown(40)
    rows: list[Row] = []
    for number, start in enumerate(range(0, len(text), piece)):
        width = widths[number % len(widths)]
        markdown.resize(width)
        rows += markdown.feed(text[start : start + piece])
        for row in plain(markdown.tail()):
            assert sum(max(get_cwidth(character), 0) for character in row) <= width
    rows += markdown.finish()
    letters = re.sub(r"[\W_]+", "", "".join(plain(rows)))
    assert letters == re.sub(r"[\W_]+", "", text)


@given(TEXTS)
@settings(max_examples=200, deadline=None)
def test_the_tail_shows_all_that_arrived(text: str) -> None:
    """What is generated is on the screen at once: finished rows and tail together."""
    markdown = Markdown(40)
    shown = "".join(plain(markdown.feed(text) + markdown.tail()))
    finished = "".join(plain(whole(text, 40)))
    assert len(re.sub(r"[\W_]+", "", shown)) >= len(re.sub(r"[\W_]+", "", finished))
