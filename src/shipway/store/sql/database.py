"""The database: opens transactions, and in them the repositories."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from shipway.store.sql import migration
from shipway.store.sql.access import BindingRows, KeyRows, ProjectRows
from shipway.store.sql.alerts import AlertRows, SilenceRows
from shipway.store.sql.audit import AuditRows
from shipway.store.sql.costs import ChargeRows
from shipway.store.sql.endpoints import EndpointRows
from shipway.store.sql.engine import WRITES, create_engine
from shipway.store.sql.environments import PolicyRows, PromotionRows, ReviewRows
from shipway.store.sql.evaluations import EvaluationRows
from shipway.store.sql.faults import translated_faults
from shipway.store.sql.heads import CutRows, HeadRows
from shipway.store.sql.metrics import MetricRows
from shipway.store.sql.models import AliasRows, ModelRows, VersionRows
from shipway.store.sql.monitors import MonitorRunRows
from shipway.store.sql.notifications import ChannelRows, NotificationRows
from shipway.store.sql.outcomes import OutcomeRows
from shipway.store.sql.predictions import PartitionRows, SegmentRows
from shipway.store.sql.rollouts import RolloutRows
from shipway.store.sql.trust import ScanRows, SignatureRows


class Transaction:
    """What can be read and written together. Not for use after its block, nor by two threads."""

    def __init__(self, connection: sa.Connection) -> None:
        self.models = ModelRows(connection)
        self.versions = VersionRows(connection)
        self.aliases = AliasRows(connection)
        self.endpoints = EndpointRows(connection)
        self.rollouts = RolloutRows(connection)
        self.outcomes = OutcomeRows(connection)
        self.evaluations = EvaluationRows(connection)
        self.monitor_runs = MonitorRunRows(connection)
        self.policies = PolicyRows(connection)
        self.reviews = ReviewRows(connection)
        self.promotions = PromotionRows(connection)
        self.keys = KeyRows(connection)
        self.bindings = BindingRows(connection)
        self.projects = ProjectRows(connection)
        self.scans = ScanRows(connection)
        self.signatures = SignatureRows(connection)
        self.charges = ChargeRows(connection)
        self.audit = AuditRows(connection)
        self.heads = HeadRows(connection)
        self.cuts = CutRows(connection)
        self.segments = SegmentRows(connection)
        self.partitions = PartitionRows(connection)
        self.metrics = MetricRows(connection)
        self.alerts = AlertRows(connection)
        self.silences = SilenceRows(connection)
        self.channels = ChannelRows(connection)
        self.notifications = NotificationRows(connection)


class Database:
    """A database of this release's schema. Thread-safe; all methods block.

    Every method raises StoreUnavailable when the database is away, locked for too long or full.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    @classmethod
    def open(cls, url: str) -> Database:
        """Connects and brings the schema up to date.

        Raises:
            StoreUnavailable: it cannot be reached or written, or the URL is malformed.
            StateUnusable: the directory of an SQLite file cannot be made.
            SchemaTooNew: a newer release wrote it.
        """
        engine = create_engine(url)
        try:
            with translated_faults():
                migration.upgrade(engine)
        except BaseException:
            engine.dispose()
            raise
        return cls(engine)

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """A transaction that may write: committed when the block ends, undone when it raises.

        There is one writer at a time over all processes, so what is read in the block stays true
        until its end. Keep slow work outside.
        """
        with (
            translated_faults(),
            self._engine.connect().execution_options(**WRITES) as connection,
            connection.begin(),
        ):
            yield Transaction(connection)

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """A transaction that only reads; it waits for no writer."""
        with translated_faults(), self._engine.connect() as connection, connection.begin():
            yield Transaction(connection)

    @contextmanager
    def snapshot(self) -> Iterator[Transaction]:
        """A transaction that only reads, and sees one moment in all that it reads."""
        # On SQLite every transaction does.
        is_sqlite = self._engine.dialect.name == "sqlite"
        level = {} if is_sqlite else {"isolation_level": "REPEATABLE READ"}
        with (
            translated_faults(),
            self._engine.connect().execution_options(**level) as connection,
            connection.begin(),
        ):
            yield Transaction(connection)

    def close(self) -> None:
        """Closes all connections."""
        self._engine.dispose()


def sqlite_url(state_dir: Path) -> str:
    """The URL of the default database inside a state directory."""
    return sa.URL.create(
        "sqlite", database=str(state_dir.absolute() / "shipway.db")
    ).render_as_string()
