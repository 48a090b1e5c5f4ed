"""Opening and migrating the database, from every older schema and from damaged files."""

import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from memory import schema
from memory.errors import DatabaseFault, NewerSchema
from memory.log import Log

NEWEST = len(schema.MIGRATIONS)
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
