"""Connections: SQLite made safe for several processes, PostgreSQL by psycopg."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError

from shipway.core.errors import StateUnusable, StoreUnavailable
from shipway.store.sql.faults import translated_faults

LOCK_WAIT_S = 15
_CONNECT_TIMEOUT_S = 5
# Any fixed number will do, as long as every control process uses the same one.
_WRITER_LOCK = 0x5348_4950_5741_59
WRITES = {"shipway_writes": True}
"""Execution options of a connection whose transaction will write."""


def create_engine(url: str) -> sa.Engine:
    """An engine for a SQLAlchemy URL; nothing is connected yet.

    Raises:
        StoreUnavailable: the URL is malformed or names a database that Shipway does not know.
    """
    parsed = _parsed(url)
    if parsed.get_backend_name() == "sqlite":
        return _sqlite(parsed)
    return _postgresql(parsed.set(drivername="postgresql+psycopg"))


def _parsed(url: str) -> sa.URL:
    # Hosting providers write `postgres://`, which SQLAlchemy does not know.
    text = f"postgresql{url[8:]}" if url.startswith("postgres://") else url
    next_step = "Use `postgresql://user:password@host/name` or `sqlite:////absolute/path`."
    try:
        parsed = sa.make_url(text)
    except (ArgumentError, ValueError):
        raise StoreUnavailable(
            "`SHIPWAY_DATABASE_URL` is not a database URL.", next_step=next_step
        ) from None  # the cause quotes the URL, or the password in it
    if parsed.get_backend_name() not in {"sqlite", "postgresql"}:
        raise StoreUnavailable(
            f"Shipway keeps no state in `{parsed.get_backend_name()}` databases.",
            next_step=next_step,
        )
    return parsed


def _sqlite(url: sa.URL) -> sa.Engine:
    _make_parent(url.database)
    engine = sa.create_engine(url, connect_args={"timeout": LOCK_WAIT_S}, hide_parameters=True)
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _make_parent(database: str | None) -> None:
    if not database:
        return
    parent = Path(database).absolute().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise StateUnusable(
            f"The state directory `{parent}` cannot be used: {exc.strerror}.",
            next_step="Make it writable, or name another with `--dir`.",
            directory=str(parent),
        ) from exc


def _set_up_sqlite(connection: sqlite3.Connection, record: Any) -> None:
    del record
    # The driver must not begin transactions by itself: it would begin them too late and deferred.
    connection.isolation_level = None
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("shipway_writes", False)
    # A deferred transaction that turns into a writer fails at once when another one wrote meanwhile.
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _postgresql(url: sa.URL) -> sa.Engine:
    engine = sa.create_engine(
        url,
        hide_parameters=True,
        pool_pre_ping=True,
        isolation_level="READ COMMITTED",
        connect_args={"connect_timeout": _CONNECT_TIMEOUT_S, "application_name": "shipway"},
    )
    event.listen(engine, "begin", _begin_postgresql)
    return engine


def _begin_postgresql(connection: sa.Connection) -> None:
    if not connection.get_execution_options().get("shipway_writes", False):
        return
    with translated_faults():
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_WAIT_S}s'")
        # One writer at a time, as on SQLite: version numbers and the audit chain need an order,
        # and writes of the control plane are rare and short.
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITER_LOCK})")
