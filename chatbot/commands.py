"""Slash commands: one table, from which /help, completion and the documentation come.

A command is a function of a session and its argument; what it shows goes to `session.screen`, what
the loop shall do next is its Outcome. Knows the chat and its memory; nothing about keys. A wrong
argument is a BadInput, shown by the loop as one line.
"""

import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from chatbot.errors import BadInput, ChatbotFault
from chatbot.hints import nearest
from chatbot.insight import slash
from chatbot.rows import (
    explanation,
    local,
    marks,
    plan_lines,
    receipt_lines,
    several,
    turn_label,
)
from chatbot.screen import Screen, clip, columns, safe, short_name
from memory.errors import MemoryFault
from memory.types import Hit, Turn

if TYPE_CHECKING:
    from chatbot.chat import Chat

SHOWN = 20  # turns or conversations that a list shows unless told otherwise
FOUND = 10  # hits of /memory search


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the loop shall do after a command: leave, generate the reply anew, or begin the next
    prompt with some text."""

    leave: bool = False
    regenerate: bool = False
    prefill: str = ""


class Session(Protocol):
    """What a command works on. `ask` puts a yes-or-no question; no is the default. `wait` is for
    the model: False if the user stopped it. `generate` shows a reply as it comes, and returns its
    text, None if it was stopped."""

    chat: "Chat"
    screen: Screen

    def ask(self, question: str) -> bool: ...

    def wait(self) -> bool: ...

    def generate(self, begin: "Callable[[threading.Event], Iterator[str]]") -> str | None: ...


Choices = Callable[["Chat"], Iterable[tuple[str, str]]]  # values of an argument, with descriptions


@dataclass(frozen=True, slots=True)
class Command:
    """One row of the table. `choices` are completed; they are looked up when asked for."""

    name: str
    argument: str
    help: str
    run: Callable[[Session, str], Outcome | None]
    aliases: tuple[str, ...] = ()
    choices: Choices | None = None
    verbs: "tuple[Command, ...]" = ()

    @property
    def usage(self) -> str:
        return f"/{self.name} {self.argument}".rstrip()

    @property
    def rows(self) -> list[tuple[str, str]]:
        """How the command is written and what it does; a row for each verb, if it has any."""
        if not self.verbs:
            return [(self.usage, self.help)]
        return [(f"/{self.name} {verb.usage[1:]}", verb.help) for verb in self.verbs]


def run(session: Session, line: str) -> Outcome | None:
    """Run the command in `line`, which begins with a slash.

    Errors: BadInput and whatever the command meets (ChatbotFault, MemoryFault).
    """
    name, _, argument = line[1:].partition(" ")
    if "\n" in name:
        name, _, argument = line[1:].partition("\n")
    command = find(name)
    with suppress(MemoryFault):  # a command that needs the memory tells of it itself
        session.chat.lose_forgotten()
    return command.run(session, argument.strip())


def find(name: str) -> Command:
    """The command of this name or alias. Errors: BadInput that gives the nearest."""
    by_name = {key: command for command in COMMANDS for key in (command.name, *command.aliases)}
    if found := by_name.get(name.lower()):
        return found
    near = nearest(name, by_name)
    known = "did you mean " in near
    hint = near.replace("did you mean ", "did you mean /") if known else ": /help lists them"
    raise BadInput(f"no command /{name}{hint} (a prompt that starts with a slash: //{name})")


def complete(chat: "Chat", text: str) -> Iterator[tuple[str, int, str]]:
    """Completions of a line: what to insert, how many characters it replaces, a description."""
    name, space, argument = text[1:].partition(" ")
    if not text.startswith("/") or "\n" in text:
        return
    if not space:
        for command in COMMANDS:
            if command.name.startswith(name.lower()):
                yield f"/{command.name}", len(text), command.help
        return
    for command in COMMANDS:
        if name.lower() in (command.name, *command.aliases) and command.choices is not None:
            for value, description in command.choices(chat):
                if value.startswith(argument) and value != argument:
                    yield value, len(argument), description


def table() -> str:
    """The commands as a Markdown table, for the documentation."""
    rows = [row for command in COMMANDS for row in command.rows]
    lines = [f"| `{usage.replace('|', chr(92) + '|')}` | {about} |" for usage, about in rows]
    return "\n".join(["| command | what it does |", "| --- | --- |", *lines])


# -- the session ----------------------------------------------------------------------------------


def _help(session: Session, argument: str) -> None:
    if argument:
        command = find(argument.lstrip("/"))
        _pairs(session, command.rows)
        if command.aliases:
            session.screen.note("also " + ", ".join(f"/{alias}" for alias in command.aliases))
        return
    _pairs(session, [row for command in COMMANDS for row in command.rows])
    session.screen.line()
    _pairs(session, KEYS)


def _exit(_session: Session, _argument: str) -> Outcome:
    return Outcome(leave=True)


def _new(session: Session, _argument: str) -> None:
    session.chat.new()
    session.screen.note("a new conversation; what was said before is still remembered")


def _private(session: Session, argument: str) -> None:
    chat = session.chat
    if argument not in ("", "on", "off"):
        raise BadInput(f"/private takes on or off, not {argument!r}")
    if argument == "off" or (not argument and chat.private):
        chat.new()
        session.screen.note("a new conversation, which is stored again; the private one is gone")
    else:
        chat.new(private=True)
        session.screen.note("a private conversation: nothing of it is stored, /new ends it")


def _model(session: Session, argument: str) -> None:
    chat = session.chat
    if argument:
        chat.use_model(argument)
        session.screen.note(f"loading {argument}; the next reply waits for it")
        return
    state = "" if chat.ready else " (loading)"
    session.screen.line(chat.settings.model + state)
    session.screen.note("/model NAME changes it; `chatbot models list` names some that fit here")


def _system(session: Session, argument: str) -> None:
    chat = session.chat
    if argument:
        chat.settings.system = None if argument == "default" else argument
        session.screen.note("the system prompt is changed from the next prompt on")
    session.screen.line(chat.system)


def _set(session: Session, argument: str) -> None:
    chat = session.chat
    if argument:
        key, _, value = argument.replace("=", " ", 1).partition(" ")
        if not value.strip():
            raise BadInput(f"/set {key} needs a value: /set KEY VALUE")
        chat.settings.decoding = chat.settings.decoding.with_settings({key: value.strip()})
    _show_decoding(session)


def _strategy(session: Session, argument: str) -> None:
    if argument:
        _set(session, f"strategy {argument}")
    else:
        _show_decoding(session)


def _show_decoding(session: Session) -> None:
    values = session.chat.settings.decoding.as_dict()
    session.screen.line(
        ", ".join(f"{key} {'-' if value is None else value}" for key, value in values.items())
    )


def _stats(session: Session, _argument: str) -> None:
    chat = session.chat
    stats: dict[str, object] = dict(chat.memory.stats())
    stats["window"] = "{} of {} tokens".format(*chat.window_used)
    if chat.last is not None and (usage := chat.last.usage) is not None:
        seconds = max(usage.total - usage.first_token, 1e-6)
        stats["last prompt"] = f"{usage.prompt} tokens, {usage.reused} of them kept from before"
        stats["last reply"] = (
            f"{usage.reply} tokens, first after {usage.first_token:.2f} s,"
            f" then {max(usage.reply - 1, 0) / seconds:.1f} tokens/s"
        )
    _pairs(session, [(key, str(value)) for key, value in stats.items()])


# -- the memory -----------------------------------------------------------------------------------


def _memory(session: Session, argument: str) -> None:
    verb, _, rest = argument.partition(" ")
    by_name = {command.name: command for command in MEMORY}
    if verb and verb not in by_name:
        raise BadInput(f"no /memory {verb}{nearest(verb, by_name)}")
    by_name[verb or "list"].run(session, rest.strip())


def _memory_search(session: Session, argument: str) -> None:
    if not argument:
        raise BadInput("/memory search needs words to search for")
    session.screen.note("searching…")
    with suppress(ChatbotFault):  # two threads must not import transformers at once
        if not session.wait():
            return
    hits = session.chat.memory.recall(argument, k=FOUND)
    _show_hits(session, hits)
    if not hits:
        session.screen.note("nothing found")


def _memory_list(session: Session, argument: str) -> None:
    limit = _number(argument, "/memory list") if argument else SHOWN
    turns = session.chat.memory.log.turns(limit=limit)
    for turn in turns:
        _show_turn(session, turn)
    if not turns:
        session.screen.note("the memory is empty: nothing was said yet")


def _memory_show(session: Session, argument: str) -> None:
    for id_ in _numbers(argument, "/memory show"):
        turn = session.chat.memory.log.turn(id_)
        session.screen.line(turn_label(turn), "marker")
        session.screen.line(turn.text)


def _memory_forget(session: Session, argument: str) -> None:
    from memory import forgetting

    doomed_ids = _doomed(session, argument)
    if doomed_ids is None:
        return
    plan = forgetting.plan(session.chat.memory, doomed_ids)
    if not plan.turns:
        session.screen.note("nothing found: nothing is forgotten")
        return
    for line in plan_lines(plan):
        session.screen.line(clip(line, session.screen.width))
    doomed, left = list(plan.turns), plan.quoting
    if left and session.ask(f"Forget {several(len(left), 'reply')}, too?"):
        doomed, left = [*doomed, *left], ()
    if session.ask(f"Forget {several(len(doomed), 'turn')} for good?"):
        receipt = session.chat.forget([turn.id for turn in doomed])
        for line in receipt_lines(receipt, left):
            session.screen.note(line)
    else:
        session.screen.note("nothing was forgotten")


def _doomed(session: Session, argument: str) -> list[int] | None:
    """The turns that `/memory forget` names: by number, or by what they hold; None if the user
    didn't wait for the search."""
    verb, _, query = argument.partition(" ")
    if verb != "search" or not query.strip():
        return _numbers(argument, "/memory forget")
    from memory import forgetting

    with suppress(ChatbotFault):  # two threads must not import transformers at once
        if not session.wait():
            return None
    return [turn.id for turn in forgetting.choose(session.chat.memory, query)]


def _pin(session: Session, argument: str) -> None:
    chat = session.chat
    if not argument and chat.private:
        raise BadInput("a private conversation isn't stored, so nothing of it can be pinned")
    for id_ in _numbers(argument, "/pin") if argument else [_last_prompt(chat).id]:
        chat.pin(id_)
        session.screen.note(f"pinned turn {id_}: every prompt comes with it")


def _unpin(session: Session, argument: str) -> None:
    for id_ in _numbers(argument, "/unpin"):
        session.chat.unpin(id_)
        session.screen.note(f"unpinned turn {id_}")


def _last_prompt(chat: "Chat") -> Turn:
    prompts = [turn for turn in chat.history if turn.role == "user"]
    if not prompts:
        raise BadInput("there is no turn yet to pin: say something first, or give an ID")
    return prompts[-1]


MEMORY: tuple[Command, ...] = (
    Command("search", "QUERY", "find what bears on QUERY, best first", _memory_search),
    Command("list", "[N]", "show the newest turns", _memory_list),
    Command("show", "ID…", "show turns in full", _memory_show),
    Command("forget", "ID…|search QUERY", "delete turns for good, after asking", _memory_forget),
    Command("pin", "ID…", "let turns join every prompt", _pin),
    Command("unpin", "ID…", "let turns come only when they are recalled", _unpin),
)


# -- the conversation -----------------------------------------------------------------------------


def _regenerate(_session: Session, _argument: str) -> Outcome:
    return Outcome(regenerate=True)


def _undo(session: Session, _argument: str) -> None:
    prompt = session.chat.undo()
    session.screen.note(f"taken back: {clip(prompt, 60)}")


def _edit(session: Session, _argument: str) -> Outcome:
    return Outcome(prefill=session.chat.undo())


def _history(session: Session, argument: str) -> None:
    limit = _number(argument, "/history") if argument else SHOWN
    history = session.chat.history
    if len(history) > limit:
        session.screen.note(f"({len(history) - limit} earlier turns: /history {len(history)})")
    show_turns(session.screen, history[-limit:])
    if not history:
        session.screen.note("nothing was said yet in this conversation")


def _resume(session: Session, argument: str) -> None:
    chat = session.chat
    if not argument:
        for each in chat.memory.log.conversations()[-SHOWN:]:
            text = f"{local(each.latest)}  {short_name(each.title)} ({each.turns} turns)"
            session.screen.pair(f"{each.id:>4}", text, 6)
        session.screen.note("/resume ID goes on with one of them")
        return
    chat.resume(_number(argument, "/resume"))
    show_turns(session.screen, chat.history[-4:])


def _rename(session: Session, argument: str) -> None:
    chat = session.chat
    if not argument:
        raise BadInput("/rename needs a title")
    if chat.private:
        raise BadInput("a private conversation isn't stored, so it has no title")
    if chat.conversation is None:
        raise BadInput("this conversation has no turn yet: say something first")
    argument = chat.kept(argument)
    chat.memory.log.rename(chat.conversation, " ".join(argument.split()))
    session.screen.note(f"conversation {chat.conversation} is now called {clip(argument, 60)}")


def _export(session: Session, argument: str) -> None:
    if not argument:
        raise BadInput("/export needs a file that ends in .md or .json")
    path = _expanded(argument)
    if path.suffix.lower() not in (".md", ".json"):
        raise BadInput(f"can't export to {path}: give a file that ends in .md or .json")
    if not session.chat.history:
        raise BadInput("nothing to export: nothing was said yet in this conversation")
    text = export(session.chat.history, path.suffix.lower())
    try:
        if path.exists() and not session.ask(f"{path} is there already. Write over it?"):
            session.screen.note(f"{path} was left as it is")
            return
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            out.write(text)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadInput(f"can't write {path} ({reason}): choose another place") from error
    session.screen.note(f"wrote {len(session.chat.history)} turns to {path}")


def _expanded(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise BadInput(f"can't export to {path}: no such user has a home") from error


def export(history: Sequence[Turn], suffix: str) -> str:
    """A conversation as a Markdown (".md") or JSON (".json") file."""
    if suffix == ".json":
        rows = [asdict(turn) | {"at": turn.at.isoformat()} for turn in history]
        return json.dumps(rows, ensure_ascii=False, indent=2) + "\n"
    parts = [f"**{turn.speaker}** · {local(turn.at)}\n\n{turn.text}\n" for turn in history]
    return "\n".join(parts)


# -- how things look ------------------------------------------------------------------------------


def show_turns(screen: Screen, turns: Iterable[Turn]) -> None:
    """Turns of a conversation, as they were said."""
    for turn in turns:
        status = "" if turn.status == "complete" else f" ({turn.status})"
        screen.line(
            f"{short_name(turn.speaker)}{status}:", "user" if turn.role == "user" else "marker"
        )
        screen.line(turn.text)


def _pairs(session: Session, pairs: Sequence[tuple[str, str]]) -> None:
    width = max(len(left) for left, _ in pairs) + 2
    for left, right in pairs:
        session.screen.pair(left, right, width)


def _show_turn(session: Session, turn: Turn) -> None:
    pin = ("* " if turn.pinned else "") + "".join(f"({mark}) " for mark in marks(turn))
    label = f"{turn.id:>5}  {local(turn.at)}  {short_name(turn.speaker)}: "
    room = max(session.screen.width - columns(label) - len(pin), 20)
    session.screen.pair(f"{turn.id:>5}", label[7:] + pin + clip(safe(turn.text), room), 7)


def _show_hits(session: Session, hits: Sequence[Hit]) -> None:
    for style, line in explanation(hits, session.screen.width):
        session.screen.line(line, style)


def _number(argument: str, command: str) -> int:
    numbers = _numbers(argument, command)
    if len(numbers) > 1:
        raise BadInput(f"{command} takes one number, not {len(numbers)}")
    return numbers[0]


def _numbers(argument: str, command: str) -> list[int]:
    """Ids or counts, from 1 up, each once."""
    words = argument.replace(",", " ").split()
    if not words:
        raise BadInput(f"{command} needs a number")
    for word in words:
        if not word.isascii() or not word.isdigit() or not 0 < int(word[:99]) < 2**63:
            raise BadInput(f"{command} takes numbers from 1 up, not {clip(word, 30)!r}")
    return list(dict.fromkeys(map(int, words)))


def _strategies(_chat: "Chat") -> Iterable[tuple[str, str]]:
    from chatbot.decoding import STRATEGIES

    about = {
        "greedy": "the likeliest word each time",
        "beam": "several candidate sentences are kept",
        "sample": "drawn from the distribution",
    }
    return [(name, about.get(name, "")) for name in STRATEGIES]


def _settings(_chat: "Chat") -> Iterable[tuple[str, str]]:
    from chatbot.decoding import SETTINGS

    return [(f"{setting.key} ", setting.help) for setting in SETTINGS if setting.key != "strategy"]


def _memory_verbs(_chat: "Chat") -> Iterable[tuple[str, str]]:
    return [(f"{command.name} ", command.help) for command in MEMORY]


def _conversations(chat: "Chat") -> Iterable[tuple[str, str]]:
    newest_first = reversed(chat.memory.log.conversations())
    return [(str(each.id), clip(each.title, 40)) for each in newest_first][:SHOWN]


COMMANDS: tuple[Command, ...] = (
    Command("help", "[COMMAND]", "show the commands and keys", _help, ("h", "?")),
    Command("exit", "", "leave", _exit, ("quit", "q")),
    Command("new", "", "begin another conversation", _new),
    Command("private", "[on|off]", "begin a conversation of which nothing is stored", _private),
    Command("model", "[NAME]", "show or change the model", _model),
    Command("system", "[TEXT|default]", "show or change the system prompt", _system),
    Command("set", "[KEY VALUE]", "show or change the decoding settings", _set, choices=_settings),
    Command(
        "strategy",
        "[greedy|beam|sample]",
        "show or change how the next word is chosen",
        _strategy,
        choices=_strategies,
    ),
    Command(
        "memory",
        "[VERB …]",
        "look at what is remembered, and change it",
        _memory,
        choices=_memory_verbs,
        verbs=MEMORY,
    ),
    Command("pin", "[ID…]", "let your last prompt, or turns, join every prompt", _pin),
    Command("unpin", "ID…", "let turns come only when they are recalled", _unpin),
    Command("why", "", "show which memories the last reply was given", slash.why),
    Command(
        "whatif", "[-N…|none]", "generate the last reply without memory N, or any", slash.whatif
    ),
    Command("explain", "[TEXT]", "show how the next word comes about", slash.explain),
    Command("attention", "[TEXT]", "show which earlier words each word looks at", slash.attention),
    Command("compare", "[TEXT]", "show greedy, beam and sample side by side", slash.compare),
    Command("heat", "", "shade the last reply by its probabilities", slash.heat),
    Command("regen", "", "take the last reply back and generate another", _regenerate, ("retry",)),
    Command("undo", "", "take the last prompt and its reply back", _undo),
    Command("edit", "", "take the last exchange back and change its prompt", _edit),
    Command("history", "[N]", "show this conversation", _history),
    Command("resume", "[ID]", "list conversations, or go on with one", _resume, (), _conversations),
    Command("rename", "TITLE", "give this conversation a title", _rename),
    Command("export", "FILE", "write this conversation to a .md or .json file", _export),
    Command("stats", "", "show counts, sizes and the cost of the last reply", _stats),
)

KEYS: tuple[tuple[str, str], ...] = (
    ("Enter", "send"),
    ("Alt+Enter, Ctrl-J", "a new line"),
    ("Ctrl-C", "stop the reply; clear the line; twice on an empty line: leave"),
    ("Ctrl-D", "on an empty line: leave"),
    ("Ctrl-R", "search the prompts typed before"),
    ("Tab", "complete a command"),
    ("//", "begins a prompt that starts with a slash"),
)
