"""An encrypted memory: nothing of it in the clear, no way in without the key, converted or not."""

import json
import random
import subprocess
import sys
import unicodedata
from contextlib import closing
from pathlib import Path

import pytest

from memory import cipher, encryption, forgetting, schema, store
from memory.errors import DatabaseFault, KeyFault
from memory.log import Log
from memory.salvage import salvage
from memory.store import Memory
from tests.conversions import CANARY, in_the_clear
from tests.memory.test_forgetting import OTHERS, Drawn

sqlcipher3 = pytest.importorskip("sqlcipher3.dbapi2", reason="chatbot[encrypt] isn't installed")

ROOT = Path(__file__).parents[2]
KEY = "correct horse 비밀"
SECRET = f"The safe opens with {CANARY}."


def opened(path: Path, key: str = KEY) -> Memory:
    return Memory(path, Drawn, lambda _: key)


@pytest.fixture
def plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plain memory with a secret in it, indexed, with an index file."""
    monkeypatch.setattr(store, "EXACT", 20)
    path = tmp_path / "home" / "chatbot.db"
    memory = Memory(path, Drawn)
    for text in OTHERS:
        memory.remember("user", text)
    memory.pin(memory.remember("user", SECRET).id)
    memory.catch_up(lambda *_: None)
    memory.close()
    return path


@pytest.fixture
def secret(plain: Path) -> Path:
    """The same memory, encrypted."""
    encryption.convert(plain, None, cipher.derive(KEY))
    return plain


def stored(memory: Memory, turn: int) -> list[bytes]:
    """A piece of each vector and of the codes of tokens that are stored for a turn."""
    with memory.log.reading() as connection:
        rows = connection.exec_driver_sql(
            "SELECT vector, tokens FROM vectors WHERE turn = ?", (turn,)
        )
        return [blob[:24] for row in rows for blob in row if blob]


def holding(home: Path, pieces: list[bytes]) -> set[str]:
    files = [path for path in home.rglob("*") if path.is_file()]
    return {path.name for path in files if any(one in path.read_bytes() for one in pieces)}


def contents(home: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in home.rglob("*") if path.is_file()}


def test_nothing_lies_in_the_clear(plain: Path) -> None:
    home = plain.parent
    memory = Memory(plain, Drawn)
    pieces = stored(memory, len(OTHERS) + 1)
    memory.close()
    assert "chatbot.db" in in_the_clear(home) and holding(home, pieces)  # what is seen if plain
    assert any(path.suffix == ".codes" for path in home.rglob("*"))
    encryption.convert(plain, None, cipher.derive(KEY))
    assert in_the_clear(home) == [] and not holding(home, pieces)

    memory = opened(plain)
    again = memory.remember("user", f"Once more: {CANARY}!")
    draft_of = memory.log.begin_reply(
        again.conversation, speaker="gpt", at=again.at, making=store.Making()
    )
    memory.log.save_draft(draft_of, f"You said {CANARY}")
    hits = memory.recall(f"what about {CANARY}?")
    assert {again.id, len(OTHERS) + 1} <= {hit.turn.id for hit in hits}
    pieces += stored(memory, again.id)
    assert len(pieces) > 2
    assert (home / "chatbot.db-wal").stat().st_size > 0
    assert in_the_clear(home) == [] and not holding(home, pieces)  # its log counts, too
    memory.close()
    assert in_the_clear(home) == []


def test_no_way_in_without_the_key(secret: Path) -> None:
    before = contents(secret.parent)
    with pytest.raises(KeyFault, match="is encrypted"):
        Memory(secret, Drawn)
    for wrong in ("", "correct horse", KEY + " "):
        with pytest.raises(KeyFault, match="doesn't open it") as fault:
            opened(secret, wrong)
        assert "\n" not in str(fault.value)
    assert contents(secret.parent) == before
    memory = opened(secret)
    assert memory.log.turn(len(OTHERS) + 1).text == SECRET
    memory.close()


def test_any_keyboard_writes_the_key(secret: Path) -> None:
    memory = opened(secret, unicodedata.normalize("NFD", KEY))
    assert memory.log.counts()["turns"] == len(OTHERS) + 1
    memory.close()


def test_another_program_opens_it_with_the_key(secret: Path) -> None:
    with closing(sqlcipher3.connect(secret)) as connection:
        connection.execute(f"PRAGMA key = '{KEY}'")
        assert (SECRET,) in connection.execute("SELECT text FROM turns").fetchall()


def test_without_the_package_it_says_what_to_install(
    secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sqlcipher3", None)
    with pytest.raises(DatabaseFault, match=r"pip install 'chatbot-that-remembers\[encrypt\]'"):
        opened(secret)


def test_there_and_back_changes_nothing_but_the_bytes(plain: Path) -> None:
    memory = Memory(plain, Drawn)
    before = list(memory.log.turns()), memory.recall("safe"), memory.stats()
    memory.close()
    first, second = cipher.derive("one"), cipher.derive("two")
    encryption.convert(plain, None, first)
    encryption.convert(plain, first, second)
    with pytest.raises(KeyFault):
        opened(plain, "one")
    memory = opened(plain, "two")
    assert (memory.log.turns(), memory.recall("safe")) == before[:2]
    assert memory.verify().sound
    memory.close()
    encryption.convert(plain, second, None)
    memory = Memory(plain, Drawn)
    memory.catch_up(lambda *_: None)
    assert (memory.log.turns(), memory.recall("safe")) == before[:2]
    assert memory.stats()["index_bytes"] == before[2]["index_bytes"]  # it has a file again
    memory.close()


def test_a_large_memory_keeps_no_index_file(secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "AT_ONCE", 25)
    memory = opened(secret)
    memory.rebuild(lambda *_: None)
    assert memory.backlog() == 0 and not (secret.parent / "index").exists()
    assert len(memory.vectors) == memory.stats()["vectors"] > store.AT_ONCE
    memory.close()


def test_forgetting_tells_what_it_looked_through(secret: Path) -> None:
    memory = opened(secret)
    told = memory.recall(SECRET)[0].turn.id
    receipt = forgetting.forget(memory, [told])
    assert receipt.clean and receipt.pieces > 0
    assert receipt.before > 0  # in the rows: the bytes tell nothing
    assert receipt.rows > 3 * len(OTHERS)
    assert CANARY not in " ".join(hit.turn.text for hit in memory.recall(SECRET))
    memory.close()


def test_a_row_that_stays_is_found(secret: Path) -> None:
    memory = opened(secret)
    with memory.log.writing() as connection:
        connection.exec_driver_sql("CREATE TABLE notes (text)")
        connection.exec_driver_sql("INSERT INTO notes VALUES (?)", (f"said {CANARY}",))
    receipt = forgetting.forget(memory, [len(OTHERS) + 1])
    assert {(one.file, one.kind) for one in receipt.remains} == {("chatbot.db", "word")}
    memory.close()


def test_who_has_it_open_is_not_disturbed(plain: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from memory.log import Log\n"
        "log = Log(Path(sys.argv[1])); log.counts(); print('open', flush=True)\n"
        "input(); print(log.counts()['turns'])\n"
    )
    before = plain.read_bytes()
    with subprocess.Popen(
        [sys.executable, "-c", code, str(plain)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == "open\n"
        with pytest.raises(DatabaseFault, match="another command has it open: close that"):
            encryption.convert(plain, None, cipher.derive(KEY))
        assert other.communicate("\n")[0] == f"{len(OTHERS) + 1}\n"
    assert plain.read_bytes() == before and not plain.with_name("chatbot.db.part").exists()


def test_two_processes_write_at_once(secret: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from datetime import UTC, datetime\n"
        "from memory.log import Log\n"
        "log = Log(Path(sys.argv[1]), lambda _: sys.argv[2]); print('open', flush=True)\n"
        "for n in range(40):\n"
        "    log.append(1, 'user', f'theirs {n}', speaker='user', at=datetime.now(UTC))\n"
    )
    memory = opened(secret)
    with subprocess.Popen(
        [sys.executable, "-c", code, str(secret), KEY], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == "open\n"
        for number in range(40):
            memory.remember("user", f"mine {number}", conversation=1)
        assert other.wait() == 0
    said = [turn.text for turn in memory.log.turns(1)]
    for whose in ("mine", "theirs"):
        assert [text for text in said if text.startswith(whose)] == [
            f"{whose} {number}" for number in range(40)
        ]
    assert memory.verify().damage == ()
    memory.close()


def test_a_copy_that_differs_does_not_count(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = encryption._copy

    def careless(*arguments: object) -> None:
        copy(*arguments)  # type: ignore[arg-type]
        with closing(cipher.connect(plain.with_name("chatbot.db.part"), raw)) as connection:
            connection.execute("UPDATE turns SET text = 'Soup.' WHERE id = 7")

    raw = cipher.derive(KEY)
    monkeypatch.setattr(encryption, "_copy", careless)
    with pytest.raises(DatabaseFault, match="the copy differs"):
        encryption.convert(plain, None, raw)
    assert not cipher.is_encrypted(plain) and not plain.with_name("chatbot.db.part").exists()
    log = Log(plain)
    assert log.turn(7).text == OTHERS[6]
    log.close()


def test_damage_is_told_from_encryption(plain: Path, tmp_path: Path) -> None:
    data = bytearray(plain.read_bytes())
    data[:4096] = random.Random(5).randbytes(4096)
    plain.write_bytes(data)
    assert not cipher.is_encrypted(plain)
    with pytest.raises(DatabaseFault, match="is damaged"):
        opened(plain)
    assert salvage(plain, tmp_path / "salvaged.db").turns > 0


@pytest.mark.parametrize("page", [0, 1, 3, -1])
def test_a_damaged_page_is_one_line(secret: Path, tmp_path: Path, page: int) -> None:
    data = bytearray(secret.read_bytes())
    data[page * 4096 + 50 if page >= 0 else len(data) - 2000] ^= 1
    secret.write_bytes(data)
    with pytest.raises(DatabaseFault, match="damaged") as fault:
        opened(secret)
    assert "\n" not in str(fault.value) and secret.read_bytes() == data
    assert "restore a copy" in str(fault.value) and "salvage" not in str(fault.value)
    with pytest.raises(DatabaseFault, match="is encrypted, no turn can be read"):
        salvage(secret, tmp_path / "salvaged.db")


@pytest.mark.parametrize("kind", ["encrypt", "rekey", "decrypt"])
def test_killed_at_any_line_one_whole_memory_is_left(plain: Path, kind: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "tests.conversions", str(plain.parent), kind],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    figures = json.loads(result.stdout)
    assert figures["wrong"] == []
    assert figures["moments"] > 80 and min(figures["left"][one] for one in ("old", "new")) > 10


def test_the_salt_of_an_open_memory_is_not_read_from_its_file(
    secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing the file would drop SQLite's locks on it."""
    read = schema.salt_of(secret)
    log = opened(secret)
    monkeypatch.setattr(cipher, "salt_of", lambda _: pytest.fail("the file was opened"))
    assert schema.salt_of(secret) == read
    log.close()
