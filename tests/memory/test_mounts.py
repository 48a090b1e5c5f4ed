"""File systems of other machines are told from this one's."""

from pathlib import Path

import pytest

from chatbot.cli import Options, open_chat
from memory import mounts
from memory.mounts import network_file_system

MOUNTINFO = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:26 / /home rw,relatime shared:9 - nfs4 server:/home rw,vers=4.2,addr=10.0.0.1
31 30 254:16 / /home/local rw,relatime - ext4 /dev/vdb rw
32 22 0:31 / /mnt/two\\040words rw,relatime master:3 propagate_from:2 - fuse.sshfs me@host: rw
33 22 0:32 / /srv rw - cifs //server/share rw
34 22 254:32 / /srv rw - xfs /dev/vdc rw
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/home/me/.local/share/chatbot", "nfs4"),
        ("/home", "nfs4"),
        ("/home/local/me", None),
        ("/homes/me", None),
        ("/mnt/two words/chatbot", "fuse.sshfs"),
        ("/srv/chatbot", None),  # what is mounted over it is of this machine
        ("/var/lib", None),
    ],
)
def test_the_innermost_mount_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, kind: str | None
) -> None:
    (tmp_path / "mountinfo").write_text(MOUNTINFO)
    monkeypatch.setattr(mounts, "MOUNTS", tmp_path / "mountinfo")
    assert network_file_system(Path(folder)) == kind


def test_nothing_is_said_where_the_system_tells_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mounts, "MOUNTS", tmp_path / "missing")
    assert network_file_system(tmp_path) is None


@pytest.mark.skipif(not mounts.MOUNTS.exists(), reason="only Linux tells what is mounted")
def test_this_systems_own_table_is_read() -> None:
    assert network_file_system(Path("/proc/self")) is None
    lines = mounts.MOUNTS.read_text().splitlines()
    assert (Path("/proc"), "proc") in [mounts._mount(line) for line in lines]


def test_a_chat_whose_home_is_on_a_network_file_system_begins_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = Options(home=str(tmp_path / "home"))
    with open_chat(options):
        assert capsys.readouterr().err == ""
    (tmp_path / "mountinfo").write_text(f"30 22 0:26 / {tmp_path} rw - nfs4 server:/home rw\n")
    monkeypatch.setattr(mounts, "MOUNTS", tmp_path / "mountinfo")
    with open_chat(options):
        said = capsys.readouterr().err
    assert said.count("\n") == 1 and "nfs4" in said and str(tmp_path / "home") in said
