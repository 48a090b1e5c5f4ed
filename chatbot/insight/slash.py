"""The slash commands that look inside the GPT that one chats with.

A handler is a function of a session and its argument, as in chatbot/commands.py, where the table
names it. Importing this is light; what costs time is imported by the handler that needs it.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from chatbot.errors import BadInput, ChatbotFault, ModelFault
from chatbot.hints import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from chatbot.chat import Chat, Exchange
    from chatbot.commands import Session
    from chatbot.encoding import Encoder
    from chatbot.engines import Message
    from chatbot.insight.draw import Row
    from chatbot.insight.glass import Glass
    from chatbot.insight.influence import Influence
    from memory.types import Hit


# -- what the handlers share ----------------------------------------------------------------------


def glass(session: "Session") -> "Glass":
    """A copy of the chat's model to look into, loaded when it is first needed. Errors: ModelFault.

    It is kept as long as the session talks to that model.
    """
    name = session.chat.settings.model
    kept = _GLASSES.get(session.chat)
    if kept is not None and kept.name == name:
        return kept
    if name.startswith("openai:"):
        raise ModelFault(f"{name} answers over a connection: only a local model can be seen into")
    session.screen.note(f"looking inside {name} (a copy of the model is loaded once)")
    session.chat.wait()  # transformers must not be imported by two threads at once
    from chatbot.insight.glass import Glass

    _GLASSES.pop(session.chat, None)  # two at once may not fit into the memory
    opened = Glass.open(name)
    if opened.note:
        session.screen.note(opened.note)
    _GLASSES[session.chat] = opened
    return opened


def last(session: "Session") -> "Exchange":
    """The last prompt and its reply, with the window it was given. Errors: BadInput."""
    exchange = session.chat.last
    if exchange is None:
        raise BadInput("there is no reply yet in this session: say something first")
    return exchange


def window_ids(session: "Session") -> list[int]:
    """The ids of the window that the last reply was generated from. Errors: BadInput."""
    return _encoder(session).encode(_own(session).window.messages)


def reply_ids(session: "Session") -> list[int]:
    """The ids of the last reply, those that were generated where they are known. Errors: BadInput,
    also for an empty reply.

    The token that ended it isn't among them.
    """
    from chatbot.insight.influence import said

    exchange = _own(session)
    return list(said(_encoder(session), exchange.window.messages, exchange.reply.text)[1])


def _own(session: "Session") -> "Exchange":
    """The last exchange, if the chat's model made its reply. Errors: BadInput."""
    exchange, model = last(session), session.chat.settings.model
    if exchange.reply.model != model:
        raise BadInput(
            f"the last reply is {exchange.reply.model}'s, not {model}'s:"
            f" /model {exchange.reply.model} goes back to it"
        )
    return exchange


def _encoder(session: "Session") -> "Encoder":
    """The chat's own encoder, which knows the ids that its model generated; else the glass's."""
    from chatbot.encoding import Encoder

    own = getattr(session.chat.engine, "encoder", None)
    return own if isinstance(own, Encoder) else glass(session).encoder


def show(session: "Session", rows: "Iterable[Row]") -> None:
    """Show rows on the session's screen."""
    from chatbot.insight import draw

    draw.show(session.screen, rows)


def options(argument: str, *known: str) -> tuple[str, dict[str, str]]:
    """The text of an argument, and the values of the options in it: `--name VALUE`, where a VALUE
    with spaces stands in double quotes. Errors: BadInput for an option that isn't `known`."""
    given: dict[str, str] = {}

    def take(found: re.Match[str]) -> str:
        name, value = found[1], found[3] if found[2] is None else found[2]
        if name not in known:
            raise BadInput(f"no option --{name}{nearest(name, known)}")
        if value is None:
            raise BadInput(f"--{name} needs a value")
        given[name] = value
        return ""

    return _OPTION.sub(take, argument).strip(), given


def count(text: str, name: str) -> int:
    """A number from 1 to 1000. Errors: BadInput."""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= 1000:
        raise BadInput(f"{name} takes a number from 1 to 1000, not {text!r}")
    return int(text)


def picture(given: "Mapping[str, str]") -> Path | None:
    """The file that --plot names. Errors: BadInput if it can't be drawn."""
    if "plot" not in given:
        return None
    from chatbot.insight.cli import check_picture

    file = Path(given["plot"])
    check_picture(file)
    return file


_OPTION = re.compile(r'(?:^|(?<=\s))--([a-z][a-z-]*)(?:[ =]+(?:"([^"]*)"|([^\s"]\S*)))?\s*')
_GLASSES: "WeakKeyDictionary[Chat, Glass]" = WeakKeyDictionary()


# -- the handlers ---------------------------------------------------------------------------------


def explain(session: "Session", argument: str) -> None:
    """/explain [TEXT] [--candidates A,B,…] [--top N] [--plot FILE]: how the next word comes about.

    Without TEXT: the window of the last turn, and the word that its reply began with.
    """
    from chatbot.insight.cli import listed

    text, given = options(argument, "candidates", "top", "plot")
    words, file = listed(given.get("candidates")), picture(given)
    top = count(given.get("top", "10"), "--top")
    if words and not text:
        raise BadInput(
            "--candidates need a TEXT that they continue: /explain TEXT --candidates A,B"
        )
    ids, reply = ([], []) if text else (window_ids(session), reply_ids(session))
    looking = glass(session)
    from chatbot.insight import nextword, nextword_view

    if text:
        found = nextword.explain(looking, text, top)
    else:
        found = nextword.explain_ids(looking, ids, reply, top)
    scored = nextword.compare(looking, text, words) if words else []
    show(session, nextword_view.explained(found, session.screen.width))
    if scored:
        show(session, [[], *nextword_view.compared(scored, text, session.screen.width)])
    if file is not None:
        from chatbot.insight.plot import draw_next_word

        session.screen.note(draw_next_word(found, scored, file) or f"drew {file}")


def attention(session: "Session", argument: str) -> None:
    """/attention [TEXT] [--layer N] [--head N] [--sink] [--heads] [--vectors WORD] [--plot FILE]:
    which earlier words each word looks at.

    Alone: at which parts of its window the last reply looked; with options alone, the map of its
    own words.
    """
    argument, flags = _flags(argument, "sink", "heads")
    text, given = options(argument, "layer", "head", "vectors", "plot")
    numbers = {name: count(given[name], f"--{name}") for name in ("layer", "head") if name in given}
    file = picture(given)
    if not text and not flags and not given:
        show(session, _reply_attention(session))
        return
    text = text or last(session).reply.text
    looking = glass(session)
    from chatbot.insight import attention_view as view
    from chatbot.insight.attention import Asked, look, measure

    looked = look(looking, text)
    asked = Asked(
        **numbers, sink="sink" in flags, heads="heads" in flags, word=given.get("vectors")
    )
    measured = measure(looking, looked, asked)
    screen = session.screen
    show(session, view.rows(looked, measured, screen.width, colour=not screen.plain))
    if file is not None:
        view.draw_map(measured, file)
        screen.note(f"drew {file}")


def _reply_attention(session: "Session") -> "Iterable[Row]":
    """Which parts of its window the last reply looked at."""
    window, exchange = window_ids(session), last(session)
    reply = reply_ids(session)
    own = glass(session)
    from chatbot.insight import attention_view as view
    from chatbot.insight.attention import shares_of
    from chatbot.insight.parts import spans_of

    spans = spans_of(_encoder(session), exchange.window, len(reply))
    shares = shares_of(own, window, reply, spans)
    return view.shares_rows(shares, exchange.hits, session.screen.width)


def _flags(argument: str, *names: str) -> tuple[str, set[str]]:
    """The argument without those of its options that take no value, and which they are."""
    found = re.findall(rf"(?<!\S)--({'|'.join(names)})(?!\S)", argument)
    return re.sub(rf"(?<!\S)--(?:{'|'.join(names)})(?!\S)\s*", "", argument), set(found)


def compare(session: "Session", argument: str) -> None:
    """/compare [TEXT] [--temperatures T,T,…] [--beams N] [--max-tokens N] [--seed N] [--tree]
    [--steps N]: the same prompt by every strategy.

    Without TEXT: the window of the last turn. Ctrl-C ends it with what there is.
    """
    from chatbot.insight.cli import numbers

    argument, flags = _flags(argument, "tree")
    text, given = options(argument, "temperatures", "beams", "max-tokens", "seed", "steps")
    steps = count(given.get("steps", "8"), "--steps")
    temperatures = numbers(given.get("temperatures", "0.3,0.7,1,1.5"), "--temperatures")
    most, beams, seed = (
        count(given.get(name, value), f"--{name}")
        for name, value in (("max-tokens", "60"), ("beams", "4"), ("seed", "1"))
    )
    messages = _asked(session, text)
    looking = glass(session)
    from chatbot.cli import stop_on_interrupt
    from chatbot.insight import strategies, strategies_view
    from chatbot.local import LocalEngine

    own = session.chat.engine
    if not isinstance(own, LocalEngine):
        raise ModelFault(f"{own.name} isn't a local model: only such a one can be seen into")
    planned = strategies.plans(temperatures, beams, most, seed)
    engine = strategies.Told(own)
    told: set[str] = set()

    def progress(label: str, _done: int, _total: int) -> None:
        if label not in told:
            session.screen.note(f"{label}…")
        told.add(label)

    with stop_on_interrupt() as stop:
        replies = list(strategies.write(engine, messages, planned, stop, progress))
        found = strategies.compare(looking, engine, messages, replies, planned)
    width = session.screen.width
    show(session, strategies_view.rows(found, width))
    if "tree" in flags:
        show(session, strategies_view.trees(found, looking, width, steps))


def _asked(session: "Session", text: str) -> "Sequence[Message]":
    """A prompt on its own, or the window of the last turn."""
    if not text:
        return last(session).window.messages
    from chatbot.context import front
    from chatbot.engines import Message

    return [*front(session.chat.system, ()), Message("user", text)]


def heat(session: "Session", _argument: str) -> None:
    """/heat: the last reply, shaded by the probability of its tokens."""
    window, reply = window_ids(session), reply_ids(session)
    looking = glass(session)
    from chatbot.insight.heat import heat_rows, measure

    screen = session.screen
    show(session, heat_rows(measure(looking, window, reply), screen.width, colour=not screen.plain))


def why(session: "Session", _argument: str) -> None:
    """/why: the memories that the last reply was given, and what each did to it."""
    chat = session.chat
    hits = given(chat)
    if not hits:
        session.screen.note("the last reply was given no memories")
        return
    from chatbot.insight import influence, influence_view

    taken: dict[int, int] = {}
    found = None
    if chat.last is None:
        session.screen.note(
            "the window of this reply is gone, and with it what the memories did: /regen makes both"
        )
    else:
        taken = influence.taken(chat.last.window.contents, chat.engine.count)
        found = _influence(session)
    show(session, influence_view.why_rows(hits, taken, found, session.screen.width))


def given(chat: "Chat") -> "Sequence[Hit]":
    """The memories that the last reply was given; after /resume the log knows them. Errors:
    BadInput."""
    if chat.last is not None:
        return chat.last.hits
    replies = [turn.id for turn in chat.history if turn.role == "assistant"]
    if not replies or chat.private:
        raise BadInput("there is no reply yet in this conversation: say something first")
    return chat.memory.log.recalled(replies[-1])


def _influence(session: "Session") -> "Influence | None":
    """What the memories did to the last reply; None, and a note why, where that can't be known."""
    from chatbot.insight.influence import measure

    try:
        exchange = _own(session)
        looking = glass(session)
        contents, reply = exchange.window.contents, exchange.reply.text
        return measure(looking, contents, reply, _encoder(session))
    except ChatbotFault as fault:
        session.screen.note(f"what they did to the reply isn't known: {fault}")
        return None


def whatif(session: "Session", argument: str) -> None:
    """/whatif -N… or none: the last reply without memory N of /why, or without any."""
    exchange, screen = last(session), session.screen
    made, hits, contents = exchange.reply, exchange.hits, exchange.window.contents
    if not hits:
        raise BadInput("the last reply was given no memories: there is nothing to leave out")
    if argument == "none":
        contents = contents.without_any()
    else:
        for number in _left_out(argument, len(hits)):
            contents = contents.without(hits[number - 1].turn.id)
    if made.seed is None and (made.decoding or {}).get("strategy") == "sample":
        screen.note("the seed of the reply isn't known: another one is drawn")
    text = session.generate(lambda stop: session.chat.what_if(contents, stop))
    session.chat.read_ahead()
    if text is None:
        return
    if text.split() == made.text.split():
        screen.note("the reply is the same (this one isn't kept)")
        return
    from chatbot.insight.influence_view import diff_rows

    cut_short = "" if made.status == "complete" else f", which was {made.status}"
    screen.note(f"compared with the reply{cut_short} (this one isn't kept):")
    show(session, diff_rows(made.text, text, screen.width, colour=not screen.plain))


def _left_out(argument: str, count: int) -> list[int]:
    """The numbers of memories that an argument names. Errors: BadInput."""
    words = argument.replace(",", " ").split()
    if not words:
        raise BadInput("/whatif needs a memory's number from /why, as in /whatif -1, or none")
    numbers = []
    for word in words:
        digits = word.removeprefix("-")
        if not digits.isascii() or not digits.isdigit() or not 1 <= int(digits[:9]) <= count:
            numbered = f"-1 to -{count}" if count > 1 else "-1"
            raise BadInput(f"/whatif takes {numbered}, or none, not {word[:30]!r}: see /why")
        numbers.append(int(digits[:9]))
    return numbers
