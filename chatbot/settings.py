"""Folders and settings of one user: `settings.toml`, the environment, the command line.

Knows where things lie and which values they take; touches the disk only to read settings.toml.
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chatbot.catalogue import DEFAULT_GPT
from chatbot.decoding import Decoding
from chatbot.errors import BadInput
from chatbot.hints import nearest


@dataclass(slots=True)
class Settings:
    """What a session starts with; slash commands change it while the session lasts.

    `system` None means the system prompt of chatbot/context.py. `memories` is how many recalled
    turns a reply is given at most; with `recall` off it is given none. `secrets` is one of SECRETS.
    """

    home: Path
    model: str = DEFAULT_GPT
    decoding: Decoding = field(default_factory=lambda: Decoding.default("sample"))
    system: str | None = None
    memories: int = 3
    recall: bool = True
    secrets: str = "flag"

    @property
    def database(self) -> Path:
        return self.home / "chatbot.db"

    @property
    def history(self) -> Path:
        """The prompts that were typed before."""
        return self.home / "history"


# What to do about keys and card numbers in what is said: say so, leave them out, say nothing.
SECRETS = ("flag", "mask", "keep")

# What settings.toml may hold, with the type of each value; [decoding] takes the keys of /set.
KEYS: Mapping[str, tuple[type, str]] = {
    "model": (str, "the model, as for --model"),
    "strategy": (str, "greedy, beam or sample"),
    "system": (str, "the system prompt"),
    "memories": (int, "how many recalled turns a reply is given at most (0 to 50)"),
    "secrets": (
        str,
        "keys and card numbers in what is said: flag (say so), mask (leave them out) or keep",
    ),
    "decoding": (dict, "a table of the keys that /set takes"),
}


def find_home(option: str | None) -> Path:
    """The folder that holds everything of one user: --home, CHATBOT_HOME, or the system's own.

    Errors: BadInput.
    """
    if given := option or os.environ.get("CHATBOT_HOME"):
        try:
            return Path(given).expanduser().absolute()
        except RuntimeError as error:
            raise BadInput(f"{given}: no such user has a home: give a folder") from error
    import platformdirs

    return platformdirs.user_data_path("chatbot", appauthor=False)


def load_settings(
    home: Path,
    *,
    model: str | None = None,
    strategy: str | None = None,
    assignments: tuple[str, ...] = (),
    recall: bool = True,
) -> Settings:
    """Settings from `home`/settings.toml, then from the command line, which wins.

    `assignments` are the KEY=VALUE strings of --set. Errors: BadInput.
    """
    stored = _read(home / "settings.toml")
    decoding = Decoding.default(strategy or stored.get("strategy", "sample"))
    given = {key: str(value) for key, value in stored.get("decoding", {}).items()}
    if strategy:
        given.pop("strategy", None)
    decoding = decoding.with_settings(given | parse_assignments(assignments))
    settings = Settings(home, decoding=decoding, recall=recall)
    settings.model = model or stored.get("model", DEFAULT_GPT)
    settings.system = stored.get("system")
    settings.memories = stored.get("memories", settings.memories)
    if not 0 <= settings.memories <= 50:
        raise BadInput(f"settings.toml: memories is {settings.memories}: give 0 to 50")
    settings.secrets = stored.get("secrets", settings.secrets)
    if settings.secrets not in SECRETS:
        near = nearest(settings.secrets, SECRETS)
        raise BadInput(f"settings.toml: secrets is {settings.secrets!r}{near}")
    return settings


def parse_assignments(assignments: tuple[str, ...]) -> dict[str, str]:
    """KEY=VALUE strings as a mapping. Errors: BadInput."""
    pairs = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise BadInput(f"can't read --set {assignment!r}: write KEY=VALUE, as temperature=0.7")
        pairs[key.strip()] = value.strip()
    return pairs


def _read(path: Path) -> dict[str, Any]:
    try:
        stored = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise BadInput(f"can't read {path} ({error.strerror}): make it readable") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"{path} isn't TOML ({error}): mend or remove it") from error
    for key, value in stored.items():
        if key not in KEYS:
            raise BadInput(f"{path}: unknown key {key!r}{nearest(key, KEYS)}")
        wanted = KEYS[key][0]
        if not isinstance(value, wanted) or isinstance(value, bool):
            raise BadInput(f"{path}: {key} is {value!r}: give {KEYS[key][1]}")
    return stored
