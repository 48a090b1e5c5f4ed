"""Opening and migrating the database, from every older schema and from damaged files."""

import shutil
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from memory import health, schema
from memory.errors import DatabaseFault, NewerSchema
from memory.log import Log, Making
from memory.salvage import salvage

NEWEST = len(schema.MIGRATIONS)
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
COLUMNS = "id, conversation, role, speaker, text, at, status, model, decoding, seed, retracted"


def database_at(path: Path, version: int) -> None:
    """A database as an older version of the program left it, with two turns in it."""
    engine = sa.create_engine(f"sqlite:///{path}")
    sa.event.listen(engine, "connect", schema._configure)
    sa.event.listen(engine, "begin", schema._begin)
    schema.migrate(engine, path, to=version)
    if version >= 1:
        with schema.writing(engine, path) as connection:
            for statement in (
                "INSERT INTO conversations VALUES (1, 'old', '2026-01-01T00:00:00.000000Z')",
                f"INSERT INTO turns ({COLUMNS}) VALUES (1, 1, 'user', 'user', 'my cat is Momo',"
                " '2026-01-01T00:00:00.000000Z', 'complete', NULL, NULL, NULL, 0)",
                f"INSERT INTO turns ({COLUMNS})"
                " VALUES (2, 1, 'assistant', 'assistant', 'A fine name.',"
                " '2026-01-01T00:00:01.000000Z', 'complete', 'm', '{}', 7, 0)",
            ):
                connection.exec_driver_sql(statement)
    engine.dispose()


def tables(path: Path) -> set[str]:
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        return {name for (name,) in rows if not name.startswith(("sqlite_", "words_"))}


@pytest.mark.parametrize("version", range(NEWEST + 1))
def test_every_older_schema_is_brought_up_with_its_turns(tmp_path: Path, version: int) -> None:
    path = tmp_path / "chatbot.db"
    database_at(path, version)
    log = Log(path)
    texts = [turn.text for turn in log.turns()]
    log.close()
    assert texts == (["my cat is Momo", "A fine name."] if version >= 1 else [])
    fresh = tmp_path / "fresh.db"
    Log(fresh).close()
    assert tables(path) == tables(fresh) == set(schema.metadata.tables) | {"words"}


def test_vectors_of_an_older_schema_are_kept_with_their_embedder(tmp_path: Path) -> None:
    path = tmp_path / "chatbot.db"
    database_at(path, 2)
    with sqlite3.connect(path) as connection:
        for row in ((2, 0, "new", b"\1\2"), (1, 1, "old", b"\3\4"), (1, 0, "new", b"\5\6")):
            connection.execute("INSERT INTO vectors VALUES (?, ?, ?, ?)", row)
    log = Log(path)
    query = sa.select(schema.vectors, schema.embedders.c.name).join(schema.embedders)
    with log.reading() as connection:
        rows = connection.execute(query.order_by(schema.vectors.c.seq)).all()
    assert [(row.turn, row.part, row.name, row.vector) for row in rows] == [
        (1, 0, "new", b"\5\6"),
        (1, 1, "old", b"\3\4"),
        (2, 0, "new", b"\1\2"),
    ]
    log.close()


def test_the_tables_of_the_code_are_those_of_the_migrations(tmp_path: Path) -> None:
    log = Log(tmp_path / "chatbot.db")
    inspector = sa.inspect(log.engine)
    for name, table in schema.metadata.tables.items():
        assert {column["name"] for column in inspector.get_columns(name)} == set(
            table.columns.keys()
        )
    log.close()


def test_a_migration_that_fails_leaves_the_schema_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "chatbot.db"
    database_at(path, 1)

    def half(connection: sa.Connection) -> None:
        connection.exec_driver_sql("CREATE TABLE halfway (id INTEGER)")
        raise RuntimeError("power cut")

    with monkeypatch.context() as patched:
        patched.setattr(schema, "MIGRATIONS", (schema.MIGRATIONS[0], half))
        with pytest.raises(RuntimeError, match="power cut"):
            Log(path)
    assert "halfway" not in tables(path)
    log = Log(path)
    assert len(log.turns()) == 2
    log.close()


def test_two_processes_may_open_a_new_database_at_once(tmp_path: Path) -> None:
    path = tmp_path / "chatbot.db"
    code = "import sys, pathlib, memory.log as m; m.Log(pathlib.Path(sys.argv[1])).close()"
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(path)], stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, errors


def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "chatbot.db"
    database_at(path, NEWEST)
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {NEWEST + 1}")
    with pytest.raises(NewerSchema, match=f"schema {NEWEST + 1}.*upgrade"):
        Log(path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM turns").fetchone() == (2,)


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "chatbot.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 1")
        connection.execute("CREATE TABLE theirs (id INTEGER)")
    with pytest.raises(DatabaseFault, match="another program"):
        Log(path)
    assert tables(path) == {"theirs"}


def test_a_damaged_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "chatbot.db"
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(DatabaseFault, match="damaged"):
        Log(path)
    assert path.read_bytes() == b"this is no database" * 100


def test_files_and_folders_are_private_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "home" / "chatbot.db"
    Log(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


_COME_AND_GO = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
print(connection.execute("SELECT count(*) FROM turns").fetchone()[0])
connection.close()  # the last to close puts the log away
"""


def come_and_go(path: Path) -> int:
    """Let another process open the database, count the turns, and close it."""
    command = [sys.executable, "-c", _COME_AND_GO, str(path)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_opening_a_database_again_drops_no_locks(tmp_path: Path) -> None:
    """Else another process takes itself for the last, and what is said next is lost."""
    path = tmp_path / "chatbot.db"
    log = Log(path)
    first = log.append(None, "user", "one", speaker="user", at=NOW)
    Log(tmp_path / "." / "chatbot.db").close()
    with pytest.raises(DatabaseFault, match="is open in this program"):
        salvage(path, tmp_path / "new.db")
    assert come_and_go(path) == 1
    assert (tmp_path / "chatbot.db-wal").exists()
    log.append(first.conversation, "user", "two", speaker="user", at=NOW)
    assert come_and_go(path) == 2
    log.close()
    assert come_and_go(path) == 2


def test_a_database_is_checked_again_once_it_was_closed(tmp_path: Path) -> None:
    path = tmp_path / "chatbot.db"
    for _ in range(2):
        log = Log(path)
        assert schema.is_open(path)
        log.close()
        assert not schema.is_open(path)
    path.write_bytes(b"this is no database")
    with pytest.raises(DatabaseFault, match="damaged"):
        Log(path)


def test_a_commit_of_a_killed_writer_is_no_damage(tmp_path: Path) -> None:
    """It is killed after its commit is in the log, and before the log's index says so."""
    path = tmp_path / "chatbot.db"
    log = Log(path)
    log.append(None, "user", "one", speaker="user", at=NOW)
    shutil.copytree(tmp_path, tmp_path / "before")
    log.append(None, "user", "two", speaker="user", at=NOW)
    home = tmp_path / "killed"
    shutil.copytree(tmp_path / "before", home)
    shutil.copy(tmp_path / "chatbot.db-wal", home)
    log.close()
    keeper = subprocess.Popen(  # another process, which has it open and hasn't heard of it
        [sys.executable, "-c", _KEEP, str(home / "chatbot.db")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert keeper.stdin and keeper.stdout
    assert keeper.stdout.readline() == b"open\n"
    index = tmp_path / "before" / "chatbot.db-shm"
    with (home / "chatbot.db-shm").open("r+b") as file:
        file.write(index.read_bytes()[:96])  # as it was before
    other = Log(home / "chatbot.db")
    assert [turn.text for turn in other.turns()] == ["one"]  # "two" was never confirmed
    other.append(None, "user", "three", speaker="user", at=NOW)
    other.close()
    keeper.communicate(b"end\n")
    assert come_and_go(home / "chatbot.db") == 2


_KEEP = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("SELECT count(*) FROM turns").fetchone()
print("open", flush=True)
sys.stdin.readline()
"""


def test_a_large_database_is_checked_for_as_long_as_there_is_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "chatbot.db"
    Log(path).close()
    connection = sqlite3.connect(path)
    connection.execute("INSERT INTO conversations VALUES (1, 'long', '')")
    connection.execute(_MANY_TURNS, (3 * health.LARGE // 400,))
    connection.commit()
    connection.close()
    assert path.stat().st_size > health.LARGE
    data = bytearray(path.read_bytes())
    page = data.index(b"turn number 11 ") // 4096 * 4096
    data[page + 3] ^= 0x40  # far more cells than fit
    path.write_bytes(data)
    monkeypatch.setattr(health, "SECONDS", 60)
    with pytest.raises(DatabaseFault, match="damaged"):
        Log(path)
    monkeypatch.setattr(health, "SECONDS", 0)
    monkeypatch.setattr(health, "_TURNS_FIRST", (_ENDLESS,))
    Log(path).close()  # what isn't found now is told when it is read


_ENDLESS = """
    WITH RECURSIVE ids(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM ids) SELECT 'ok' FROM ids"""


_MANY_TURNS = """
    WITH RECURSIVE ids(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM ids WHERE id < ?)
    INSERT INTO turns SELECT id, 1, 'user', 'user',
        'turn number ' || id || ' ' || hex(zeroblob(200)), '', 'complete', NULL, NULL, NULL, 0, NULL
    FROM ids"""


def test_a_draft_of_a_living_process_stays_when_the_clock_jumps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "chatbot.db"
    log = Log(path)
    prompt = log.append(None, "user", "one", speaker="user", at=NOW)
    draft = log.begin_reply(prompt.conversation, speaker="m", at=NOW, making=Making())
    log.save_draft(draft, "half a re")
    set_clock(monkeypatch, -3600)
    other = Log(path)
    assert [turn.text for turn in other.turns()] == ["one"]
    other.close()
    log.finish_reply(draft, "half a reply", "complete")
    assert [turn.text for turn in log.turns()] == ["one", "half a reply"]
    log.close()


def set_clock(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let the system say what it says after its clock was set: Linux tells when it was booted by
    the clock as it is now."""
    linux = pytest.importorskip("psutil._pslinux", exc_type=ImportError)
    booted = linux.boot_time() + seconds
    monkeypatch.setattr(linux, "boot_time", lambda: booted)


def test_turns_keep_their_order_when_the_clock_jumps_back(tmp_path: Path) -> None:
    log = Log(tmp_path / "chatbot.db")
    first = log.append(None, "user", "one", speaker="user", at=NOW)
    for number, text in enumerate(("two", "three"), start=1):
        at = NOW - timedelta(days=number)
        log.append(first.conversation, "user", text, speaker="user", at=at)
    assert [turn.text for turn in log.turns(first.conversation)] == ["one", "two", "three"]
    log.close()


@pytest.mark.parametrize(("free", "advice"), [(8192, "free some space"), (1 << 30, "nothing was")])
def test_an_input_error_on_a_full_disk_is_said_to_be_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, advice: str
) -> None:
    """SQLite says so where the index of its log finds no room."""
    monkeypatch.setattr(schema, "disk_usage", lambda _: SimpleNamespace(free=free))
    error = sqlite3.OperationalError("disk I/O error")
    with (
        pytest.raises(DatabaseFault, match=advice),
        schema._as_fault(tmp_path / "chatbot.db"),
    ):
        raise sa.exc.OperationalError("SELECT 1", {}, error)


def test_several_that_first_open_a_file_wait_for_one_another(tmp_path: Path) -> None:
    """SQLite's own patience doesn't cover the change to a write-ahead log."""
    refused = iter(["database is locked"] * 3)

    class Refusing(sqlite3.Connection):
        def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
            if "journal_mode" in sql and (reason := next(refused, None)):
                raise sqlite3.OperationalError(reason)
            return super().execute(sql, *parameters)

    with closing(sqlite3.connect(tmp_path / "x.db", factory=Refusing)) as connection:
        schema._configure(connection, None)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert next(refused, None) is None
