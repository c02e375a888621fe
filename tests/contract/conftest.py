from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import pytest

from shipway.control.audit import AuditLog
from shipway.control.registry import Registry
from shipway.store.objects.artifacts import ArtifactStore
from shipway.store.sql.database import Database, sqlite_url
from shipway.testing.servers import S3Server, postgresql, s3

EMBEDDED, AT_SCALE = "sqlite+directory", "postgresql+s3"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the state of one test is kept; another process can open it too."""

    kind: str
    database_url: str
    artifacts_url: str
    environment: dict[str, str] = field(default_factory=dict)

    def database(self) -> Database:
        return Database.open(self.database_url)

    def artifacts(self) -> ArtifactStore:
        return ArtifactStore(self.artifacts_url, environment=self.environment)


@pytest.fixture(scope="session")
def new_postgresql_database() -> Iterator[Callable[[], str]]:
    with postgresql() as new_database:
        yield new_database


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    with s3() as server:
        yield server


@pytest.fixture(params=[EMBEDDED, AT_SCALE])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == EMBEDDED:
        state = tmp_path / "state"
        artifacts = str(state / "artifacts")
        return Place(kind=EMBEDDED, database_url=sqlite_url(state), artifacts_url=artifacts)
    server: S3Server = request.getfixturevalue("s3_server")
    new_database: Callable[[], str] = request.getfixturevalue("new_postgresql_database")
    return Place(
        kind=AT_SCALE,
        database_url=new_database(),
        artifacts_url=f"{server.url}/{uuid4().hex}",
        environment=server.environment,
    )


@pytest.fixture
def database(place: Place) -> Iterator[Database]:
    opened = place.database()
    yield opened
    opened.close()


@pytest.fixture
def artifacts(place: Place) -> ArtifactStore:
    return place.artifacts()


@pytest.fixture
def registry(database: Database, artifacts: ArtifactStore) -> Registry:
    return Registry(database, artifacts)


@pytest.fixture
def audit(database: Database) -> AuditLog:
    return AuditLog(database)
