"""A keyring in the file that TEST_KEYRING names, so that the system's own is left alone.

`PYTHON_KEYRING_BACKEND=tests.chatbot.file_keyring.FileKeyring` lets the real package use it.
"""

import json
import os
from pathlib import Path

from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked, PasswordDeleteError


class FileKeyring(KeyringBackend):
    priority = 1

    def get_password(self, service: str, username: str) -> str | None:
        return self._read().get(f"{service} {username}")

    def set_password(self, service: str, username: str, password: str) -> None:
        self._write({**self._read(), f"{service} {username}": password})

    def delete_password(self, service: str, username: str) -> None:
        kept = self._read()
        if kept.pop(f"{service} {username}", None) is None:
            raise PasswordDeleteError("there is no such password")
        self._write(kept)

    def _read(self) -> dict[str, str]:
        path = Path(os.environ["TEST_KEYRING"])
        if path.is_dir():
            raise KeyringLocked("it is locked")
        return dict(json.loads(path.read_text("utf-8"))) if path.exists() else {}

    def _write(self, kept: dict[str, str]) -> None:
        Path(os.environ["TEST_KEYRING"]).write_text(json.dumps(kept), "utf-8")
