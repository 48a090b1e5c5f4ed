"""Write the generated parts of the docs: commands, slash commands, keys, settings.

    python docs/generate.py

A part stands between `<!-- generated: NAME -->` and `<!-- end -->`. A test checks that the files
are as this script would write them.
"""

import re
import sys
from pathlib import Path

import click

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from chatbot import commands, decoding, settings  # noqa: E402
from chatbot.cli import cli  # noqa: E402
from memory import secret  # noqa: E402

FILES = ("README.md", "docs/commands.md")
PART = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def command_help() -> str:
    """The help of every command, in the order of the command line."""
    parts = []

    def visit(command: click.Command, path: list[str], parent: click.Context | None) -> None:
        context = click.Context(
            command,
            info_name=path[-1],
            parent=parent,
            max_content_width=90,
            terminal_width=90,
            **command.context_settings,
        )
        name = " ".join(path)
        parts.append(f"### {name}\n\n```text\n{command.get_help(context)}\n```\n")
        if isinstance(command, click.Group):
            for child in command.list_commands(context):
                found = command.get_command(context, child)
                assert found is not None
                visit(found, [*path, child], context)

    visit(cli, ["chatbot"], None)
    return "\n".join(parts)


def markdown_table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |"
                     for line in lines)  # fmt: skip


def slash_commands() -> str:
    return commands.table()


def keys() -> str:
    return markdown_table(("key", "what it does"), [(keys, does) for keys, does in commands.KEYS])


def decoding_settings() -> str:
    defaults = {name: decoding.Decoding.default(name) for name in decoding.STRATEGIES}
    rows = []
    for setting in decoding.SETTINGS:
        values = {str(getattr(default, setting.key)) for default in defaults.values()}
        shown = values.pop() if len(values) == 1 else ", ".join(
            f"{name}: {getattr(default, setting.key)}" for name, default in defaults.items()
        )  # fmt: skip
        if setting.key != "strategy":
            rows.append((f"`{setting.key}`", setting.help, setting.allowed, shown))
    return markdown_table(("key", "what it does", "allowed", "default"), rows)


def settings_file() -> str:
    rows = [(f"`{key}`", meaning) for key, (_, meaning) in settings.KEYS.items()]
    return markdown_table(("key", "what it is"), rows)


def secret_kinds() -> str:
    return ", ".join(sorted(set(secret.KINDS), key=str.casefold)) + "."


PARTS = {
    "command_help": command_help,
    "slash_commands": slash_commands,
    "keys": keys,
    "decoding_settings": decoding_settings,
    "settings_file": settings_file,
    "secret_kinds": secret_kinds,
}


def generated(text: str) -> str:
    """`text` with every generated part as it should be."""
    return PART.sub(lambda part: f"{part[1]}\n{PARTS[part[2]]()}\n\n{part[3]}", text)


def main() -> None:
    for name in FILES:
        path = ROOT / name
        path.write_text(generated(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
