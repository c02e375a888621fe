"""The reconciler when what it works with fails in ways that nobody expected."""

import asyncio
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from shipway.control.access import Access
from shipway.control.local_versions import LocalVersion, LocalVersions
from shipway.control.reconciler import Reconciler
from shipway.core.endpoints import EndpointSpec, EndpointState, Phase
from shipway.core.errors import StoreUnavailable
from shipway.core.registry import VersionRecord
from shipway.core.versions import VersionRef
from shipway.store.sql.database import Database, sqlite_url
from shipway.testing.bundles import manifest_of

V1 = VersionRef("churn", 1)
NOW = datetime(2026, 1, 2, tzinfo=UTC)


def clock():
    return NOW


def record_of(ref):
    manifest = manifest_of()
    return VersionRecord(
        model=ref.model, number=ref.number, digest=manifest.digest, size_bytes=1,
        format=manifest.content.format, served=manifest.content.served, created_at=NOW,
        created_by="me", metrics={}, aliases=(), manifest=manifest, manifest_sha256="",
    )  # fmt: skip


async def until(claim):
    async with asyncio.timeout(10):
        while not claim():  # noqa: ASYNC110 - other tasks move on meanwhile
            await asyncio.sleep(0.01)


class Backend:
    """Cannot start the replicas of endpoint `bad`."""

    def __init__(self):
        self.started = set()

    async def open(self):
        pass

    async def close(self):
        pass

    def observe(self):
        return ()

    def start(self, order):
        if order.endpoint == "bad":
            raise OverflowError("date value out of range")
        self.started.add(order.endpoint)


async def test_an_endpoint_that_cannot_be_looked_after_costs_the_others_nothing(tmp_path):
    database = Database.open(sqlite_url(tmp_path))
    with database.transaction() as tx:
        for name in ("bad", "good"):
            state = EndpointState(
                spec=EndpointSpec(name=name, environment="dev", model="churn:1"),
                generation=1, phase=Phase.STARTING, target=V1,
            )  # fmt: skip
            tx.endpoints.put(state, expected_generation=None)

    def local(on_change):
        return LocalVersions(
            version=lambda query: record_of(V1),
            materialise=lambda digest: Path("/"),
            on_change=on_change,
        )

    backend = Backend()
    reconciler = Reconciler(
        database,
        backend,
        access=Access(database, environment="dev", is_on=False),
        local=local,
        environment="dev",
        clock=clock,
        memory=tmp_path / "said",
    )
    running = asyncio.create_task(reconciler.run())
    await until(lambda: backend.started == {"good"})
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    database.close()


async def test_a_version_whose_fetch_fails_unexpectedly_is_fetched_again():
    answers = [OSError("the disk is full"), record_of(V1)]

    def version(query):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    local = LocalVersions(
        version=version, materialise=lambda digest: Path("/"), on_change=lambda: None
    )
    local.want([V1])
    await until(lambda: V1 in local.known)
    assert local.known[V1] == LocalVersion(record=record_of(V1), bundle_dir=Path("/"))
    await local.close()


async def test_after_a_restart_a_version_that_cannot_be_fetched_keeps_its_route_and_holds_up_nobody(
    tmp_path,
):
    database = Database.open(sqlite_url(tmp_path))

    def local(on_change, *, store_is_away=False):
        def materialise(digest):
            if store_is_away:
                raise StoreUnavailable("The store does not answer.")
            return tmp_path

        def version(query):
            return record_of(VersionRef(query.model, query.number))

        return LocalVersions(version=version, materialise=materialise, on_change=on_change)

    def reconciler(local):
        return Reconciler(
            database, Backend(), access=Access(database, environment="dev", is_on=False), local=local, environment="dev", clock=clock,
            memory=tmp_path / "said",
        )  # fmt: skip

    async def routes(reconciler, names):
        running = asyncio.create_task(reconciler.run())
        async with asyncio.timeout(10):
            revision = ""
            while True:
                snapshot = await reconciler.snapshot_after(revision, wait_s=10)
                revision = snapshot.revision
                if [route.name for route in snapshot.routes] == names:
                    break
        await asyncio.sleep(0.05)
        running.cancel()
        return snapshot.routes

    put(database, "old", active=V1, phase=Phase.LIVE)
    (before,) = await routes(reconciler(local), ["old"])
    assert before.variants[0].weight_pct == 100

    put(database, "young", target=VersionRef("churn", 2), phase=Phase.STARTING)
    away = reconciler(partial(local, store_is_away=True))
    kept, young = await routes(away, ["old", "young"])
    assert kept == before
    assert young.variants == ()


def put(database, name, **fields):
    state = EndpointState(
        spec=EndpointSpec(name=name, environment="dev", model="churn:1"), generation=1, **fields
    )  # fmt: skip
    with database.transaction() as tx:
        tx.endpoints.put(state, expected_generation=None)
