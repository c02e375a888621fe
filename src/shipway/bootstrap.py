"""The only module that knows everything: builds each process from settings.

`python -m shipway.bootstrap control` runs control alone.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import FrameType

import msgspec
import uvicorn
from fastapi import FastAPI

from shipway.api.app import create_app
from shipway.api.connections import BoundedConnection
from shipway.api.requests import SERVICE, Tracing
from shipway.api.services import Services
from shipway.api.uploads import UploadLimits
from shipway.backends.logs import bound_logs
from shipway.backends.process import ProcessBackend
from shipway.backends.secrets import SecretSource
from shipway.bundles.scanning.bundle import Rules
from shipway.bundles.scanning.process import Scanner
from shipway.control.access import LOCAL_KEYS, Access
from shipway.control.alerting.acting import Acting
from shipway.control.alerting.channels import Channels
from shipway.control.alerting.courier import Courier
from shipway.control.alerting.loop import AlertLoop
from shipway.control.alerting.measuring import Evaluation
from shipway.control.alerting.sending import Secrets, Sender
from shipway.control.alerting.silencing import Silences
from shipway.control.alerts import Alerts
from shipway.control.audit import AuditLog
from shipway.control.capacity import Capacity
from shipway.control.costs import Costs
from shipway.control.endpoints import Endpoints
from shipway.control.environments import Environments
from shipway.control.evaluations import Evaluations
from shipway.control.exposition import Exposition
from shipway.control.gauges import Gauges
from shipway.control.history import History
from shipway.control.identity import follow_provider
from shipway.control.keeping import Keeping
from shipway.control.local_versions import LocalVersions
from shipway.control.monitor_orders import Orders
from shipway.control.monitor_runner import MonitorRunner
from shipway.control.monitors import Monitors
from shipway.control.performance import Performances
from shipway.control.predictions import Predictions
from shipway.control.prometheus import Prometheus
from shipway.control.promotions import Promotions
from shipway.control.pruning import Pruning
from shipway.control.queries import Queries
from shipway.control.reconciler import ACTOR, Reconciler
from shipway.control.registry import Registry
from shipway.control.resources import HistoryUse
from shipway.control.rollouts import Rollouts
from shipway.control.seals import Seals
from shipway.control.telemetry import Telemetry
from shipway.control.top import Top
from shipway.control.trust import Trust
from shipway.control.upkeep import Upkeep
from shipway.core.errors import ShipwayError
from shipway.core.failures import LastWord
from shipway.core.spans import Span
from shipway.engines.logs import log_to_stderr
from shipway.gateway.crowd import most_connections
from shipway.monitoring.process import RunProcess
from shipway.otlp.options import share_of
from shipway.otlp.sending import Sending
from shipway.settings import (
    Settings,
    provider_variables,
    read_settings,
    require_guarded,
    secret_rules,
)
from shipway.store.api_keys import kept_key, new_key_text
from shipway.store.objects.artifacts import ArtifactStore
from shipway.store.sealing import Sealer
from shipway.store.sql.database import Database, sqlite_url
from shipway.store.staging import Staging
from shipway.store.state import usable_directory
from shipway.supervisor.ports import Place, bound
from shipway.supervisor.records import exclusive
from shipway.tls.contexts import GOODBYE_S, HANDSHAKE_S
from shipway.tls.files import tls_files
from shipway.tls.serving import ServerTls, tls_of
from shipway.wire.tokens import TokenRules

SWEEP_AFTER_S = 60.0
SWEEP_EVERY_S = 24 * 3600.0
BOUND_LOGS_EVERY_S = 5.0
SIGN_EVERY_S = 5.0
"""So long may the newest audit event be without a signature."""

CHARGE_EVERY_S = 60.0
PRUNE_EVERY_S = 24 * 3600.0
COMPACT_EVERY_S = 120.0
EXPIRE_EVERY_S = 3600.0
SWEEP_OLDER_THAN = timedelta(days=1)
"""Younger files may belong to a registration under way."""

_log = logging.getLogger(__name__)

EXIT_FAILED = 3
"""Control could not start; the reason is one JSON line on stderr."""


def clock() -> datetime:
    """Now, aware, in UTC: the one clock of the control process."""
    return datetime.now(UTC)  # noqa: TID251 - the bootstrap owns the clock


def run_control(settings: Settings, *, shared_port: bool = False) -> None:
    """Runs control until SIGTERM. Blocks; call it in the main thread.

    `shared_port`: the port is reserved for us by a supervisor, so that it may be bound beside.

    Raises:
        StateUnusable, SchemaTooNew, StoreUnavailable: what control stands on cannot be used.
        InvalidSpec: it would be open to other machines without access control.
        AlreadyRunning: another control has the state directory.
        PortTaken: the port is taken.
    """
    require_guarded(settings)
    state_dir = usable_directory(settings.state_dir)
    settings = settings.model_copy(update={"state_dir": state_dir})
    tls = tls_of(tls_files(settings), alpn=("http/1.1",))
    scheme = "http" if tls is None else "https"
    place = Place(
        host=settings.host, port=settings.control_port, flag="--control-port", scheme=scheme
    )
    with (
        exclusive(state_dir, "control"),
        bound(place, shared=shared_port) as listening,
        _database(settings) as database,
        _recorded(state_dir, listening, scheme=scheme),
    ):
        asyncio.run(_serve(settings, database, listening, tls=tls))


async def _serve(
    settings: Settings, database: Database, listening: socket.socket, *, tls: ServerTls | None
) -> None:
    state_dir = settings.state_dir
    access = _access(settings, database)
    reconciler, backend, registry, trust = _reconciler(settings, database, access)
    services = _services(settings, database, reconciler, backend, registry, access)
    predictions, queries, upkeep = _prediction_log(settings, database)
    services = replace(
        services,
        trust=trust,
        predictions=predictions,
        queries=queries,
        performances=Performances(database, predictions, state_dir=state_dir),
    )
    services, keeping = _with_metrics(services, settings, database, reconciler)
    services, alert_loop, monitor_runner = _watching(settings, database, reconciler, services)
    services = replace(services, costs=_costs(settings, database))
    await asyncio.to_thread(services.seals.sign, now=clock())
    sending = _sending()
    app = create_app(services, tracing=_tracing(settings, sending))
    server = ControlServer(app, on_exit=reconciler.release_waiters, tls=tls)
    # uvicorn raises the signal once more when it has ended; our own clean-up comes after that.
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, lambda *_: None)
    tasks = [
        asyncio.create_task(reconciler.run(), name="reconciler"),
        asyncio.create_task(_sweep_for_ever(registry, state_dir), name="sweep"),
        asyncio.create_task(_bound_logs_for_ever(state_dir / "logs"), name="logs"),
        asyncio.create_task(_sign_for_ever(services), name="audit heads"),
        asyncio.create_task(_prune_for_ever(services.pruning), name="audit retention"),
        asyncio.create_task(keeping.run(), name="metric history"),
        asyncio.create_task(alert_loop.run(), name="alerts"),
        asyncio.create_task(_charge_for_ever(services), name="costs"),
        asyncio.create_task(monitor_runner.run(), name="monitors"),
        asyncio.create_task(_compact_for_ever(upkeep), name="prediction log"),
        asyncio.create_task(_expire_for_ever(upkeep), name="prediction log retention"),
    ]
    if settings.auth and settings.oidc_issuer is not None:
        provider = follow_provider(access, _token_rules(settings), settings.oidc_keys or "")
        tasks.append(asyncio.create_task(provider, name="identity provider"))
    if tls is not None:
        tasks.append(asyncio.create_task(tls.watch(), name="tls"))
    for task in tasks:
        # Control without its reconciler looks well and does nothing: it ends, and is started again.
        task.add_done_callback(lambda _: server.stop())
    try:
        await server.serve(sockets=[listening])
    finally:
        ended = [task for task in tasks if task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(_sign, services, at_the_end=True)
        await asyncio.to_thread(keeping.write)
        await asyncio.to_thread(sending.close)
    for task in ended:
        task.result()


def _sending() -> Sending[Span]:
    """What tells a collector of control's requests and log records, as the environment asks for it."""
    instance = f"control-{os.getpid()}"
    return Sending(os.environ, service=SERVICE, instance=instance, spans_of=lambda span: (span,))


def _tracing(settings: Settings, sending: Sending[Span]) -> Tracing | None:
    if sending.keep is None:
        return None
    share = share_of(os.environ) if settings.trace_share is None else settings.trace_share
    return Tracing(
        keep=sending.keep, share=share, service=sending.service, instance=sending.instance
    )


async def _sweep_for_ever(registry: Registry, state_dir: Path) -> None:
    """Removes what registrations that died left behind, once a day."""
    while True:
        await asyncio.sleep(SWEEP_AFTER_S)
        try:
            await asyncio.to_thread(_sweep, registry, state_dir, clock() - SWEEP_OLDER_THAN)
        except ShipwayError as exc:
            _log.warning("Unused bundles cannot be removed now: %s", exc)
        await asyncio.sleep(SWEEP_EVERY_S)


async def _sign_for_ever(services: Services) -> None:
    """Signs the newest audit event soon after it was written."""
    while True:
        await asyncio.sleep(SIGN_EVERY_S)
        await asyncio.to_thread(_sign, services)


def _sign(services: Services, *, at_the_end: bool = False) -> None:
    try:
        services.audit.sum_up_denials(now=clock(), at_the_end=at_the_end)
        services.seals.sign(now=clock())
    except ShipwayError as exc:
        _log.warning("The audit chain cannot be signed now: %s", exc)


async def _prune_for_ever(pruning: Pruning) -> None:
    """Archives the audit events that policies let go, once a day."""
    while True:
        await asyncio.sleep(SWEEP_AFTER_S)
        try:
            done = await asyncio.to_thread(pruning.prune, actor=ACTOR, now=clock())
        except ShipwayError as exc:
            _log.warning("Audit events cannot be archived now: %s", exc)
        else:
            if done.events:
                _log.info("Archived %s audit events in `%s`", done.events, done.archive)
        await asyncio.sleep(PRUNE_EVERY_S)


async def _compact_for_ever(upkeep: Upkeep) -> None:
    """Merges the small files of the prediction log, every few minutes."""
    while True:
        await asyncio.sleep(COMPACT_EVERY_S)
        try:
            await asyncio.to_thread(upkeep.compact, clock())
        except ShipwayError as exc:
            _log.warning("The prediction log cannot be compacted now: %s", exc)


async def _expire_for_ever(upkeep: Upkeep) -> None:
    """Lets go what endpoints keep no longer of the prediction log, every hour."""
    while True:
        await asyncio.sleep(SWEEP_AFTER_S)
        try:
            files = await asyncio.to_thread(upkeep.expire, clock())
        except ShipwayError as exc:
            _log.warning("The prediction log cannot be cleaned now: %s", exc)
        else:
            if files:
                _log.info("Let %s files of the prediction log go", files)
        await asyncio.sleep(EXPIRE_EVERY_S)


async def _charge_for_ever(services: Services) -> None:
    """Charges the hours that have ended, and tells the alerts where budgets stand."""
    while True:
        await asyncio.sleep(CHARGE_EVERY_S)
        try:
            await asyncio.to_thread(_charge, services)
        except ShipwayError as exc:
            _log.warning("Costs cannot be charged now: %s", exc)


def _charge(services: Services) -> None:
    now = clock()
    services.costs.charge(now)
    services.alerts.observe(services.costs.signals(now), now)


async def _bound_logs_for_ever(logs: Path) -> None:
    """Keeps what models and processes print from filling the disk."""
    while True:
        await asyncio.to_thread(bound_logs, logs)
        await asyncio.sleep(BOUND_LOGS_EVERY_S)


def _sweep(registry: Registry, state_dir: Path, unused_since: datetime) -> None:
    Staging(state_dir / "staging").sweep(unused_since=unused_since)
    for digest in registry.sweep(unused_since=unused_since):
        _log.info("Removed bundle %s, which no version names", digest)


def _access(settings: Settings, database: Database) -> Access:
    access = Access(database, environment=settings.environment, is_on=settings.auth)
    if settings.auth:
        local = {
            name: (kept_key(settings.state_dir, name, new_key_text()), grants)
            for name, grants in LOCAL_KEYS.items()
        }
        access.ensure_local(local, clock())
    return access


def _token_rules(settings: Settings) -> TokenRules:
    return TokenRules(
        issuer=settings.oidc_issuer or "",
        audience=settings.oidc_audience,
        name_claim=settings.oidc_name_claim,
        groups_claim=settings.oidc_groups_claim,
    )


def _artifacts(settings: Settings) -> ArtifactStore:
    url = settings.artifacts_url or str(settings.state_dir / "artifacts")
    return ArtifactStore(url, environment=provider_variables())


def _prediction_log(settings: Settings, database: Database) -> tuple[Predictions, Queries, Upkeep]:
    artifacts, state_dir = _artifacts(settings), settings.state_dir
    environment = settings.environment
    predictions = Predictions(database, artifacts, environment=environment, state_dir=state_dir)
    queries = Queries(database, predictions, state_dir=state_dir)
    upkeep = Upkeep(database, artifacts, environment=environment, state_dir=state_dir)
    return predictions, queries, upkeep


def _reconciler(
    settings: Settings, database: Database, access: Access
) -> tuple[Reconciler, ProcessBackend, Registry, Trust]:
    state_dir = settings.state_dir
    artifacts = _artifacts(settings)
    rules = Rules(imports=settings.imports, domains=settings.onnx_domains)
    registry = Registry(database, artifacts, scanner=Scanner(rules))
    trust = Trust(database, partial(artifacts.materialise, cache_dir=state_dir / "cache"))
    backend = ProcessBackend(
        state_dir, clock=clock, secrets=SecretSource(secret_rules(settings), os.environ)
    )
    backend.log_format = settings.log_format
    reconciler = Reconciler(
        database,
        backend,
        access=access,
        local=partial(
            LocalVersions,
            version=registry.version,
            materialise=partial(trust.materialised, environment=settings.environment),
        ),
        environment=settings.environment,
        clock=clock,
        memory=state_dir / "run" / "published.json",
        capacity=Capacity(budget_mb=settings.memory_budget_mb),
    )
    backend.on_change = reconciler.poke
    return reconciler, backend, registry, trust


def _services(
    settings: Settings,
    database: Database,
    reconciler: Reconciler,
    backend: ProcessBackend,
    registry: Registry,
    access: Access,
) -> Services:
    loop = asyncio.get_running_loop()

    def poke() -> None:
        # Use cases run in worker threads.
        loop.call_soon_threadsafe(reconciler.poke)

    access.poke = poke
    endpoints = Endpoints(
        database,
        environment=settings.environment,
        seen=lambda: reconciler.seen,
        poke=poke,
        read_log=backend.read_log,
        memory_budget_mb=settings.memory_budget_mb,
        secret_rules=secret_rules(settings),
    )
    rollouts = Rollouts(
        database,
        environment=settings.environment,
        seen=lambda: reconciler.seen,
        poke=poke,
    )
    seals = Seals(database, settings.state_dir)
    return Services(
        registry=registry,
        rollouts=rollouts,
        evaluations=Evaluations(database),
        audit=AuditLog(database),
        seals=seals,
        pruning=Pruning(seals),
        staging=Staging(settings.state_dir / "staging"),
        now=clock,
        access=access,
        endpoints=endpoints,
        reconciler=reconciler,
        environments=Environments(database),
        promotions=Promotions(database),
        replicas_of=endpoints.replicas_of,
        upload_limits=UploadLimits(max_bytes=settings.max_bundle_bytes),
    )


def _costs(settings: Settings, database: Database) -> Costs:
    use = HistoryUse(database, environment=settings.environment, clock=clock)
    return Costs(database, use, environment=settings.environment, prices=settings.prices)


def _watching(
    settings: Settings, database: Database, reconciler: Reconciler, services: Services
) -> tuple[Services, AlertLoop, MonitorRunner]:
    """The services with those of alerts and monitors; monitors tell the alerts."""
    services, alert_loop = _alerting(settings, database, reconciler, services)
    services, monitor_runner = _monitoring(settings, database, services)
    return services, alert_loop, monitor_runner


def _alerting(
    settings: Settings, database: Database, reconciler: Reconciler, services: Services
) -> tuple[Services, AlertLoop]:
    """The services with those of alerts, and the loop that looks after these."""
    environment = settings.environment
    secrets = Secrets(Sealer(settings.state_dir / "keys"), os.environ)
    sender = Sender(
        database,
        environment=environment,
        secrets=secrets,
        policy=settings.outbound_policy,
        clock=clock,
        carrier=Courier(),
    )
    alerts = Alerts(
        database,
        environment=environment,
        acting=Acting(database, services.endpoints, services.rollouts),
        docs_url=settings.docs_url,
    )
    evaluation = Evaluation(
        database,
        environment=environment,
        seen=lambda: reconciler.seen,
        measure=services.measures.measure,
    )
    channels = Channels(
        database,
        environment=environment,
        secrets=secrets,
        rules=secret_rules(settings),
        sender=sender,
    )
    silences = Silences(database, environment=environment)
    services = replace(services, alerts=alerts, silences=silences, channels=channels)
    return services, AlertLoop(alerts, evaluation, sender, clock=clock)


def _monitoring(
    settings: Settings, database: Database, services: Services
) -> tuple[Services, MonitorRunner]:
    """The services with those of monitors, and what carries out their runs."""
    reports, state_dir = _artifacts(settings).reports, settings.state_dir
    runner = MonitorRunner(
        database,
        Orders(services.registry, services.predictions),
        reports,
        environment=settings.environment,
        process=RunProcess(state_dir / "cache" / "matplotlib"),
        observe=services.alerts.observe,
        clock=clock,
        scratch=state_dir / "run",
    )
    monitors = Monitors(database, reports, environment=settings.environment)
    return replace(services, monitors=monitors), runner


def _with_metrics(
    services: Services, settings: Settings, database: Database, reconciler: Reconciler
) -> tuple[Services, Keeping]:
    """The services with the metrics of this process, and what keeps the history."""
    telemetry, gauges = Telemetry(), Gauges()
    history = History(database, telemetry, environment=settings.environment, clock=clock)
    keeping = Keeping(history, telemetry, seen=lambda: reconciler.seen, gauges=gauges, clock=clock)
    exposition = Exposition(
        database, gauges, environment=settings.environment, seen=lambda: reconciler.seen
    )
    measures = history if settings.prometheus_url is None else Prometheus(settings.prometheus_url)
    with_metrics = replace(
        services, telemetry=telemetry, measures=measures, top=Top(history), exposition=exposition
    )
    return with_metrics, keeping


class ControlServer(uvicorn.Server):
    """The control API's server. Before it waits for open requests it lets waiting gateways go."""

    def __init__(
        self, app: FastAPI, *, on_exit: Callable[[], None], tls: ServerTls | None = None
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=BoundedConnection,
                limit_concurrency=most_connections(),
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=3,
            )
        )
        self._on_exit = on_exit
        self._tls = tls

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Called by uvicorn. With TLS, listens as it would, with a bound on handshakes that it has not."""
        if self._tls is None:
            return await super().startup(sockets)
        loop = asyncio.get_running_loop()
        self.servers = [
            await loop.create_server(
                partial(
                    BoundedConnection,
                    config=self.config,
                    server_state=self.server_state,
                    app_state=self.lifespan.state,
                ),
                sock=listening,
                backlog=self.config.backlog,
                ssl=self._tls.context,
                ssl_handshake_timeout=HANDSHAKE_S,
                ssl_shutdown_timeout=GOODBYE_S,
            )
            for listening in sockets or ()
        ]
        self.started = True
        return None

    def stop(self) -> None:
        """Ends it as SIGTERM would."""
        self._on_exit()
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called by uvicorn on SIGTERM and SIGINT."""
        asyncio.get_running_loop().call_soon_threadsafe(self._on_exit)
        super().handle_exit(sig, frame)


@contextmanager
def _database(settings: Settings) -> Iterator[Database]:
    database = Database.open(settings.database_url or sqlite_url(settings.state_dir))
    try:
        yield database
    finally:
        database.close()


@contextmanager
def _recorded(state_dir: Path, listening: socket.socket, *, scheme: str) -> Iterator[None]:
    """Keeps `run/control.json` (pid and URL) while control runs."""
    host, port = listening.getsockname()[:2]
    url = Place(host=host, port=port, flag="", scheme=scheme).url
    path = state_dir / "run" / "control.json"
    draft = path.with_suffix(".draft")
    draft.write_bytes(msgspec.json.encode({"pid": os.getpid(), "url": url}))
    draft.replace(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one process from the environment's settings; gives the exit code."""
    parser = argparse.ArgumentParser(prog="shipway.bootstrap", description=__doc__)
    parser.add_argument("role", choices=["control"])
    parser.add_argument("--state-dir", type=Path)
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    parser.add_argument("--shared-port", action="store_true", help="the port is reserved for us")
    options = parser.parse_args(arguments)
    log_to_stderr()
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        settings = read_settings(
            state_dir=options.state_dir, host=options.host, control_port=options.port
        )
        run_control(settings, shared_port=options.shared_port)
    except ShipwayError as exc:
        sys.stderr.write(msgspec.json.encode(LastWord.of(exc)).decode() + "\n")
        return EXIT_FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
