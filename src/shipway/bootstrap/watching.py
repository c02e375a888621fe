"""What watches the endpoints: the prediction log, metrics, monitors, alerts and costs, built from settings."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

from shipway.api.services import Services
from shipway.bootstrap.clock import clock
from shipway.bootstrap.parts import artifacts_of
from shipway.control.alerting.acting import Acting
from shipway.control.alerting.channels import Channels
from shipway.control.alerting.courier import Courier
from shipway.control.alerting.loop import AlertLoop
from shipway.control.alerting.measuring import Evaluation
from shipway.control.alerting.sending import Secrets, Sender
from shipway.control.alerting.silencing import Silences
from shipway.control.alerts import Alerts
from shipway.control.costs import Costs
from shipway.control.exposition import Exposition
from shipway.control.gauges import Gauges
from shipway.control.history import History
from shipway.control.keeping import Keeping
from shipway.control.monitor_orders import Orders
from shipway.control.monitor_runner import MonitorRunner
from shipway.control.monitors import Monitors
from shipway.control.predictions import Predictions
from shipway.control.prometheus import Prometheus
from shipway.control.queries import Queries
from shipway.control.reconciler import Reconciler
from shipway.control.repetitions import Repetitions
from shipway.control.resources import HistoryUse
from shipway.control.telemetry import Telemetry
from shipway.control.top import Top
from shipway.control.upkeep import Upkeep
from shipway.monitoring.process import RunProcess
from shipway.settings import (
    Settings,
    secret_rules,
)
from shipway.store.sealing import Sealer
from shipway.store.sql.database import Database


def prediction_log_of(
    settings: Settings, database: Database
) -> tuple[Predictions, Queries, Upkeep]:
    """The prediction log: taking it in, asking it, and keeping it small."""
    artifacts, state_dir = artifacts_of(settings), settings.state_dir
    environment = settings.environment
    predictions = Predictions(database, artifacts, environment=environment, state_dir=state_dir)
    queries = Queries(database, predictions, state_dir=state_dir)
    upkeep = Upkeep(database, artifacts, environment=environment, state_dir=state_dir)
    return predictions, queries, upkeep


def costs_of(settings: Settings, database: Database, predictions: Predictions) -> Costs:
    """What serving costs, by the metric history; repeated requests are in the prediction log."""
    return Costs(
        database,
        HistoryUse(database, environment=settings.environment, clock=clock),
        repeats=Repetitions(predictions, state_dir=settings.state_dir),
        environment=settings.environment,
        prices=settings.prices,
    )


def with_watching(
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
        carrier=Courier(settings.state_dir / "commands"),
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
        ask=services.measures.period,
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
    reports, state_dir = artifacts_of(settings).reports, settings.state_dir
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
    monitors = Monitors(database, reports, environment=settings.environment, poke=runner.poke)
    return replace(services, monitors=monitors), runner


def with_metrics(
    services: Services,
    settings: Settings,
    database: Database,
    reconciler: Reconciler,
    *,
    unsent: Callable[[], int],
) -> tuple[Services, Keeping]:
    """The services with the metrics of this process, and what keeps the history."""
    telemetry, gauges = Telemetry(), Gauges()
    history = History(database, telemetry, environment=settings.environment, clock=clock)
    keeping = Keeping(history, telemetry, seen=lambda: reconciler.seen, gauges=gauges, clock=clock)
    exposition = Exposition(
        database,
        gauges,
        environment=settings.environment,
        seen=lambda: reconciler.seen,
        unsent=unsent,
    )
    measures = history if settings.prometheus_url is None else Prometheus(settings.prometheus_url)
    with_metrics = replace(
        services, telemetry=telemetry, measures=measures, top=Top(history), exposition=exposition
    )
    return with_metrics, keeping
