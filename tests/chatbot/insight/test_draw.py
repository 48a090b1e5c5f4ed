"""Numbers as rows: widths in columns, nothing too wide, nothing that steers a terminal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatbot.insight import draw
from chatbot.screen import columns
from tests.chatbot.insight.screens import shown

TEXT = st.text(
    alphabet=st.one_of(st.sampled_from("ab 가나다\n\t\x1b\x9b…⟨"), st.characters()), max_size=30
)


@pytest.mark.parametrize(
    ("share", "bar"),
    [
        (0, ""),
        (1e-9, ""),
        (0.001, "▏"),
        (0.5, "████"),
        (0.55, "████▍"),
        (1, "████████"),
        (7, "████████"),
        (-1, ""),
    ],
)
def test_bars(share: float, bar: str) -> None:
    assert draw.bar(share, 8) == bar


def test_a_bar_grows_with_its_share_and_never_past_its_room() -> None:
    lengths = [draw.bar(share / 100, 20) for share in range(101)]
    assert all(len(bar) <= 20 for bar in lengths)
    eighths = [8 * (len(bar) - 1) + draw.EIGHTHS.find(bar[-1]) % 9 for bar in lengths[1:]]
    assert eighths == sorted(eighths)


def test_shares_in_per_cent() -> None:
    assert [draw.percent(share) for share in (0, 1e-9, 0.0005, 0.4513, 1)] == [
        "0.0 %", "<0.1 %", "0.1 %", "45.1 %", "100.0 %",
    ]  # fmt: skip


def test_heat_has_a_style_in_colour_and_a_shade_without() -> None:
    values = [0, 0.1, 0.2, 0.5, 0.9, 1, 2]
    styles = ["", "", "heat1", "heat4", "heat7", "heat7", "heat7"]
    assert [draw.heat(value, colour=True) for value in values] == [(s, "  ") for s in styles]
    plain = [draw.heat(value, colour=False, width=1) for value in values]
    assert "".join(text for _, text in plain) == "  ░▒███"
    assert {style for style, _ in plain} == {""}


def test_every_heat_style_is_one_that_screens_know() -> None:
    for level in range(1, draw.HEATS + 1):
        assert shown([[(f"heat{level}", "x")]], plain=False).startswith("\x1b[38;5;")


@given(TEXT, st.integers(0, 20))
def test_cutting_and_padding_keep_to_columns(text: str, width: int) -> None:
    assert columns(draw.cut(text, width)) <= width
    assert columns(draw.pad(text, width)) == width == columns(draw.pad(text, width, right=True))


def test_cutting_counts_korean_twice() -> None:
    assert draw.cut("이번 여름 휴가", 8) == "이번 여…"
    assert draw.pad("휴가", 6) == "휴가  "
    assert draw.pad("휴가", 6, right=True) == "  휴가"


@given(
    st.lists(st.lists(TEXT, min_size=3, max_size=3), max_size=5),
    st.integers(1, 60),
    st.sets(st.integers(0, 2)),
)
def test_a_table_is_never_wider(cells: list[list[str]], width: int, right: set[int]) -> None:
    headers = ("token", "확률", "")
    rows = draw.table(headers, cells, width, right)
    assert len(rows) == 1 + len(cells)
    lines = shown(rows, plain=True).splitlines()
    assert len(lines) == len(rows)
    assert all(columns(line) <= max(width, 4) for line in lines)


def test_a_table_stands_in_columns() -> None:
    rows = [("망했어", "9", "-24.47"), (("bold", "a city"), "12", "-8.08")]
    assert shown(draw.table(("text", "n", "sum"), rows, 40, right=(1, 2)), plain=True) == (
        "text     n     sum\n"
        "망했어   9  -24.47\n"
        "a city  12   -8.08\n"
    )  # fmt: skip
    assert shown(draw.table(("", "", ""), rows, 14, right=(1, 2)), plain=True) == (
        "망…    9  -24…\n"
        "a c…  12  -8.…\n"
    )  # fmt: skip


def test_flow_breaks_between_fragments() -> None:
    pieces = [("heat1", "아버지가"), ("", "·방에\n"), ("", "들어가신다"), ("", "."), ("", "x" * 30)]
    assert shown(draw.flow(pieces, 12, indent=2), plain=True).splitlines() == [
        "  아버지가", "  ·방에↵", "  들어가신다", "  .", "  " + "x" * 9 + "…",
    ]  # fmt: skip


@given(st.lists(st.tuples(st.just(""), TEXT), max_size=6), st.integers(4, 30))
def test_flow_is_never_wider(pieces: list[tuple[str, str]], width: int) -> None:
    for line in shown(draw.flow(pieces, width, indent=2), plain=True).splitlines():
        assert columns(line) <= width


def test_nothing_steers_the_terminal() -> None:
    text = shown([[("", "a\x1b[2Jb\x9bc\nd\te")]], plain=True)
    assert text == "a␛[2Jb⟨9B⟩c↵d⇥e\n"


def test_prose_is_wrapped() -> None:
    rows = draw.paragraph("한 줄에 다 들어가지 않는 글", 12, "dim", indent=2)
    assert [text for row in rows for _, text in row] == ["  한 줄에 다", "  들어가지", "  않는 글"]
