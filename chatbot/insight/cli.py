"""The commands of the shell that look inside a GPT.

A command reads its text, opens the glass, measures, and prints rows or JSON. Every import that
costs time is made in the command that needs it. chatbot/cli.py puts COMMANDS beside its own.
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chatbot.errors import BadInput, ModelFault
from chatbot.rows import INTERRUPTED, complain, dump
from chatbot.screen import Screen

if TYPE_CHECKING:
    from chatbot.cli import Options
    from chatbot.insight.draw import Row
    from chatbot.insight.glass import Glass

PICTURES = (".png", ".svg")


# -- what the commands share ----------------------------------------------------------------------


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """`chatbot explain --model M` is `chatbot --model M explain`: the options keep it."""
    if value is not None:
        setattr(context.obj, str(parameter.name), value)


def model_options(command: Any) -> Any:
    """The options of every command that looks inside: --model, --home, --json."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
        click.option("--home", metavar="DIR", callback=_keep, expose_value=False,
                     help="The folder that holds everything of one user."),
        click.option("--model", metavar="M", callback=_keep, expose_value=False,
                     help="A model's name, folder, GGUF file or hub name."),
    ):  # fmt: skip
        command = option(command)
    return command


def inside_options(command: Any) -> Any:
    """The same and --plot."""
    option = click.option(
        "--plot",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        callback=_picture,
        help="Also draw it: FILE ends in .png or .svg.",
    )
    return model_options(option(command))


def _picture(_context: click.Context, _parameter: click.Parameter, file: Path | None) -> Any:
    """Refuse what can't be drawn before anything is loaded."""
    if file is not None:
        check_picture(file)
    return file


def check_picture(file: Path) -> None:
    """Errors: BadInput for another ending, or when there is nothing to draw with."""
    from importlib.util import find_spec

    if file.suffix.lower() not in PICTURES:
        raise BadInput(f"can't draw {file}: give a file that ends in .png or .svg")
    if find_spec("matplotlib") is None:
        raise BadInput("--plot needs matplotlib: pip install 'chatbot-that-remembers[plot]'")


def given(text: str | None) -> str:
    """TEXT, or standard input for "-" or nothing. Errors: BadInput."""
    if text is None or text == "-":
        from chatbot.cli import read_standard_input

        text = read_standard_input()
    if not text.strip():
        raise BadInput("the text is empty: give TEXT, or pipe it in")
    return text


def open_glass(options: "Options") -> "Glass":
    """The model that the options name, to be looked into. Errors: ModelFault."""
    from chatbot.insight.glass import Glass

    glass = Glass.open(options.settings().model)
    if note := glass.note:
        complain(note)
    return glass


def screen() -> Screen:
    """Standard output."""
    return Screen(sys.stdout)


def show(rows: Iterable["Row"]) -> None:
    """Print rows to standard output."""
    from chatbot.insight import draw

    draw.show(screen(), rows)


def print_json(value: Any) -> None:
    """Print a value as one JSON object."""
    click.echo(dump(value))


# -- the commands ---------------------------------------------------------------------------------


@click.command()
@inside_options
@click.option("--candidates", metavar="A,B,…", help="Compare these continuations of TEXT.")
@click.option(
    "--top",
    type=click.IntRange(1, 1000),
    default=10,
    show_default=True,
    help="How many of the likeliest next tokens to show.",
)
@click.argument("text", required=False)
@click.pass_obj
def explain(
    options: "Options",
    text: str | None,
    candidates: str | None,
    top: int,
    as_json: bool,
    plot: Path | None,
) -> None:
    """Show how the next word of TEXT comes about, layer by layer.

    TEXT (or standard input) is continued as it stands, without a chat template. It may have a gap,
    as "The sky is ( ).": what stands before it is read. --candidates are put into the gap and
    scored by the sum of their tokens' log-probabilities, and by the mean.
    """
    wanted, words = given(text), listed(candidates)
    glass = open_glass(options)
    from chatbot.insight import nextword, nextword_view

    found = nextword.explain(glass, wanted, top)
    scored = nextword.compare(glass, wanted, words) if words else []
    if as_json:
        row = nextword_view.explained_json(found)
        print_json(row | {"candidates": nextword_view.compared_json(scored)})
    else:
        width = screen().width
        show(nextword_view.explained(found, width))
        if scored:
            show([[], *nextword_view.compared(scored, wanted, width)])
    if plot is not None:
        from chatbot.insight.plot import draw_next_word

        if warning := draw_next_word(found, scored, plot):
            complain(warning)


def listed(candidates: str | None) -> list[str]:
    """The candidates in a list separated by commas, each once. Errors: BadInput."""
    if candidates is None:
        return []
    words = list(dict.fromkeys(word.strip() for word in candidates.split(",") if word.strip()))
    if not words:
        raise BadInput(f"--candidates {candidates!r} names none: separate them by commas")
    return words


@click.command()
@inside_options
@click.option("--layer", type=int, metavar="N", help="One layer, from 1, not the mean of all.")
@click.option("--head", type=int, metavar="N", help="One head of that layer, from 1.")
@click.option("--sink", is_flag=True, help="Leave the first token in, on which most heads park.")
@click.option("--heads", is_flag=True, help="List the heads that matter most.")
@click.option("--vectors", "word", metavar="WORD", help="Query, key and value of a word of TEXT.")
@click.argument("text", required=False)
@click.pass_obj
def attention(
    options: "Options", /, text: str | None, as_json: bool, plot: Path | None, **asked: Any
) -> None:
    """Show which earlier words each word of TEXT (or of standard input) looks at.

    Attention is a diagnostic: it tells where the model looked, not why it says what it says.
    """
    text = given(text)
    glass = open_glass(options)
    from chatbot.insight import attention_view as view
    from chatbot.insight.attention import Asked, look, measure

    looked = look(glass, text)
    measured = measure(glass, looked, Asked(**asked))
    if as_json:
        print_json({"model": glass.name, "text": text, **view.as_json(looked, measured)})
    else:
        shown = screen()
        show(view.rows(looked, measured, shown.width, colour=not shown.plain))
    if plot is not None:
        view.draw_map(measured, plot)


@click.command()
@model_options
@click.option(
    "--temperatures",
    metavar="T,T,…",
    default="0.3,0.7,1,1.5",
    show_default=True,
    help="Sample at these.",
)
@click.option("--beams", type=click.IntRange(2, 32), default=4, show_default=True)
@click.option("--max-tokens", type=click.IntRange(1, 100_000), default=60, show_default=True)
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True)
@click.option("--tree", is_flag=True, help="Show which candidates of the beam lived and died.")
@click.option(
    "--steps",
    type=click.IntRange(1, 1000),
    default=8,
    show_default=True,
    help="How many steps of the tree to show.",
)
@click.argument("text", required=False)
@click.pass_obj
def compare(options: "Options", /, text: str | None, **asked: Any) -> int:
    """Reply to TEXT by greedy, beam search and direct sampling, side by side.

    TEXT (or standard input) is a prompt, as in a chat with no history. No repetition penalty, no
    top-p: nothing but the strategy. Probabilities are the model's own at temperature 1. Ctrl-C
    ends it with what there is.
    """
    text = given(text)
    temperatures = numbers(asked["temperatures"], "--temperatures")
    settings = options.settings()
    if settings.model.startswith("openai:"):
        raise ModelFault(
            f"{settings.model} answers over a connection: only a local model can be seen into"
        )
    from chatbot.cli import stop_on_interrupt
    from chatbot.context import SYSTEM, front
    from chatbot.engines import Message
    from chatbot.fetching import terminal_progress
    from chatbot.insight import strategies, strategies_view
    from chatbot.local import LocalEngine
    from chatbot.models import resolve

    system = SYSTEM if settings.system is None else settings.system
    messages = [*front(system, ()), Message("user", text)]
    planned = strategies.plans(temperatures, asked["beams"], asked["max_tokens"], asked["seed"])
    engine = strategies.Told(LocalEngine.from_files(resolve(settings.model)))
    with stop_on_interrupt() as stop:
        with terminal_progress("tokens") as progress:
            replies = list(strategies.write(engine, messages, planned, stop, progress))
        glass = open_glass(options)  # not before: what the strategies take would hold it, too
        found = strategies.compare(glass, engine, messages, replies, planned)
    if asked["as_json"]:
        print_json(strategies.as_row(found, glass, tree=asked["tree"]))
    else:
        shown = strategies_view.rows(found, screen().width)
        show(shown)
        if asked["tree"]:
            show(strategies_view.trees(found, glass, screen().width, asked["steps"]))
    return 0 if found.whole else INTERRUPTED


def numbers(text: str, name: str) -> list[float]:
    """The numbers in a list separated by commas. Errors: BadInput."""
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        raise BadInput(f"{name} is {text!r}: give numbers, as 0.3,1") from None
    return found


@click.command()
@model_options
@click.option(
    "--language",
    type=click.Choice(["en", "ko"]),
    default="en",
    show_default=True,
    help="The language of the questions.",
)
@click.option("--markdown", is_flag=True, help="Print a page of documentation.")
@click.pass_obj
def limits(options: "Options", language: str, markdown: bool, as_json: bool) -> int:
    """Show what the model can't do: common sense, the window's edge, its size.

    Takes a minute or two. Ctrl-C ends it with what there is.
    """
    from chatbot.cli import stop_on_interrupt
    from chatbot.fetching import terminal_progress

    name = options.settings().model
    glass = open_glass(options)
    from chatbot.insight import limits as measuring
    from chatbot.insight import limits_view
    from chatbot.models import resolve

    with stop_on_interrupt() as stop, terminal_progress("steps") as progress:
        watch = measuring.Watch(progress, stop)
        found = measuring.limits(glass, resolve(name), language, watch)
    if as_json:
        print_json(measuring.as_row(found))
    elif markdown:
        click.echo(limits_view.markdown(found), nl=False)
    else:
        show(limits_view.rows(found, screen().width))
    return 0 if found.whole else INTERRUPTED


COMMANDS: tuple[click.Command, ...] = (explain, attention, compare, limits)
