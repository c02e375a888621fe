"""DuckDB over files of the log: the views `predictions` and `feedback`, and nothing else within reach."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from threading import Event, Timer
from typing import TYPE_CHECKING

import msgspec

from shipway.core.errors import DeadlineExceeded, InvalidRequest, StoreUnavailable

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MEMORY_MB = 512
THREADS = 2


class LogFiles(msgspec.Struct, frozen=True, kw_only=True):
    """Files of one endpoint's log, as another process can be told of them.

    `predictions` are groups of files with the same columns. Of these, rows between `since` (included)
    and `until` (not included) are wanted; None for no bound. Without `shadows`, only answers that a caller
    got are: each request once, by its primary or its candidate.
    """

    predictions: tuple[tuple[str, ...], ...] = ()
    feedback: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    shadows: bool = True

    @property
    def paths(self) -> tuple[str, ...]:
        """All of them."""
        return (*(path for group in self.predictions for path in group), *self.feedback)


@contextmanager
def connected(
    files: LogFiles,
    *,
    temp_dir: Path,
    memory_mb: int = MEMORY_MB,
    threads: int = THREADS,
    may_write: Sequence[Path] = (),
) -> Iterator[DuckDBPyConnection]:
    """A connection with the views `predictions` and `feedback` over these files.

    It reaches no other file than these and those it `may_write`, and no network; what does not fit into
    `memory_mb` goes to `temp_dir`. Its settings are locked. Closed when the block ends.

    Raises:
        StoreUnavailable: a file of the log is away or damaged, also where that shows in the block.
    """
    # 60 MB, and most processes never have a question.
    import duckdb

    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": f"{memory_mb}MB",
        "threads": str(threads),
        "temp_directory": str(temp_dir),
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
    }
    connection = duckdb.connect(config=settings)
    try:
        with _translated_faults():
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute("SET parquet_metadata_cache = true")
            connection.execute(f"CREATE VIEW predictions AS {_predictions(connection, files)}")
            connection.execute(f"CREATE VIEW feedback AS {_feedback(files)}")
            allowed = [*files.paths, *(str(path) for path in may_write)]
            connection.execute(f"SET allowed_paths = {_list(allowed)}")
            connection.execute("SET enable_external_access = false")
            connection.execute("SET lock_configuration = true")
            yield connection
    finally:
        connection.close()


def holding(files: LogFiles, names: Sequence[str]) -> LogFiles:
    """Those files whose predictions have all of these columns: others were written when less was kept.

    Raises:
        StoreUnavailable: a file of the log is away or damaged.
    """
    import duckdb

    with _translated_faults(), duckdb.connect() as connection:
        groups = tuple(
            group
            for group in files.predictions
            if {*names} <= {name for name, _ in _columns(connection, group)}
        )
    return msgspec.structs.replace(files, predictions=groups)


@contextmanager
def _translated_faults() -> Iterator[None]:
    """Tells errors of DuckDB as those of the log's files, but for a statement of ours that is wrong, and for bounds."""
    import duckdb

    try:
        yield
    except (
        duckdb.BinderException,
        duckdb.CatalogException,
        duckdb.InterruptException,
        duckdb.OutOfMemoryException,
        duckdb.ParserException,
    ):
        raise
    except duckdb.Error as exc:
        raise StoreUnavailable(
            f"The prediction log cannot be read: {reason_of(exc)}.",
            next_step="Try again; if that is of no help, put the log's files back from a backup.",
        ) from exc


def reason_of(error: Exception) -> str:
    """What DuckDB says is wrong, without the place in the statement."""
    return str(error).partition("\n")[0][:300].rstrip(".")


@contextmanager
def bounded(connection: DuckDBPyConnection, *, timeout_s: float) -> Iterator[None]:
    """Ends what the connection does in the block once that time has passed.

    Raises:
        DeadlineExceeded: it has.
        InvalidRequest: it needs more memory, with what goes to the disk, than the connection may have.
    """
    import duckdb

    late = DeadlineExceeded(
        f"The query of the prediction log took longer than {timeout_s:g} s.",
        next_step="Ask for a shorter time or one version, or for fewer columns.",
    )
    is_over = Event()

    def interrupt() -> None:
        is_over.set()
        connection.interrupt()

    timer = Timer(timeout_s, interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
        if is_over.is_set():  # between two statements, where an interrupt meets none
            raise late
    except duckdb.InterruptException as exc:
        raise late from exc
    except duckdb.OutOfMemoryException as exc:
        raise InvalidRequest(
            "The query of the prediction log needs more memory than it may have.",
            next_step="Ask for fewer rows or columns, or a shorter time.",
        ) from exc
    finally:
        timer.cancel()


def quoted(name: str) -> str:
    """A column's name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as SQL has it."""
    return "'" + text.replace("'", "''") + "'"


def _list(texts: Sequence[str]) -> str:
    return "[" + ", ".join(literal(text) for text in texts) + "]"


def _read(paths: Sequence[str]) -> str:
    return f"read_parquet({_list(paths)}, hive_partitioning = false)"


def _predictions(connection: DuckDBPyConnection, files: LogFiles) -> str:
    if not files.predictions:
        return f"SELECT {_nothing(_SYSTEM)} WHERE false"
    as_text = _disputed(connection, files.predictions)
    where = " AND ".join(["true", *_bounds(files)])
    parts = []
    for group in files.predictions:
        names = [name for name, _ in _columns(connection, group) if name in as_text]
        casts = ", ".join(f"{quoted(n)}::VARCHAR AS {quoted(n)}" for n in names)
        star = f"* REPLACE ({casts})" if casts else "*"
        parts.append(f"SELECT {star} FROM {_read(group)} WHERE {where}")
    return " UNION ALL BY NAME ".join(parts)


def _bounds(files: LogFiles) -> Iterator[str]:
    if files.since is not None:
        yield f"_at >= {literal(files.since.isoformat())}::TIMESTAMPTZ"
    if files.until is not None:
        yield f"_at < {literal(files.until.isoformat())}::TIMESTAMPTZ"
    if not files.shadows:
        yield "_role <> 'shadow'"


def _disputed(connection: DuckDBPyConnection, groups: Sequence[Sequence[str]]) -> frozenset[str]:
    """Columns that are of types in two groups which have no common one: those become texts."""
    kinds: dict[str, set[str]] = defaultdict(set)
    for group in groups:
        for name, kind in _columns(connection, group):
            kinds[name].add("list" if kind.endswith("[]") else "blob" if kind == "BLOB" else "")
    return frozenset(name for name, found in kinds.items() if len(found) > 1)


def _columns(connection: DuckDBPyConnection, group: Sequence[str]) -> list[tuple[str, str]]:
    found = connection.execute(f"DESCRIBE SELECT * FROM {_read(group[:1])}").fetchall()
    return [(row[0], row[1]) for row in found]


def _feedback(files: LogFiles) -> str:
    if not files.feedback:
        return f"SELECT {_nothing(_FEEDBACK)} WHERE false"
    # Older files do not have all columns.
    found = (
        f"read_parquet({_list(files.feedback)}, hive_partitioning = false, union_by_name = true)"
    )
    return f"SELECT {_nothing(_FEEDBACK)} WHERE false UNION ALL BY NAME SELECT * FROM {found}"


def _nothing(columns: dict[str, str]) -> str:
    return ", ".join(f"NULL::{kind} AS {quoted(name)}" for name, kind in columns.items())


_SYSTEM = {
    "_request_id": "VARCHAR",
    "_row": "INTEGER",
    "_at": "TIMESTAMPTZ",
    "_version": "INTEGER",
    "_role": "VARCHAR",
    "_latency_ms": "FLOAT",
    "_principal": "VARCHAR",
    "_segment": "VARCHAR",
    "_key": "VARCHAR",
}
_FEEDBACK = {
    "_request_id": "VARCHAR",
    "_row": "INTEGER",
    "_key": "VARCHAR",
    "_at": "TIMESTAMPTZ",
    "_id": "VARCHAR",
    "label": "VARCHAR",
    "score": "DOUBLE",
    "outcomes": "MAP(VARCHAR, DOUBLE)",
    "_principal": "VARCHAR",
    "_arrived": "TIMESTAMPTZ",
}
