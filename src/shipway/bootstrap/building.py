"""Everything of control put together: what it answers with, what it does by itself, and what it ends with."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from shipway.api.services import Services
from shipway.bootstrap import chores
from shipway.bootstrap.parts import access_of, reconciler_of, services_of, token_rules_of
from shipway.bootstrap.watching import (
    costs_of,
    prediction_log_of,
    with_metrics,
    with_watching,
)
from shipway.control.access import Access
from shipway.control.alerting.installation import Installation
from shipway.control.identity import follow_provider
from shipway.control.learning import Learning
from shipway.control.performance import Performances
from shipway.control.reconciler import Reconciler
from shipway.settings import Settings
from shipway.store.sql.database import Database
from shipway.tls.files import tls_files

Loop = tuple[str, Callable[[], Coroutine[Any, Any, None]]]
"""A name, and what runs until it is cancelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """Control's parts. `at_the_end` is done, blocking, once the loops have ended."""

    services: Services
    reconciler: Reconciler
    loops: tuple[Loop, ...]
    at_the_end: tuple[Callable[[], None], ...]


def built_of(settings: Settings, database: Database, *, unsent: Callable[[], int]) -> Built:
    """Control's parts. Nothing runs yet; call it in the event loop that will run them.

    `unsent` gives how many traces and log records a collector was not told of.
    """
    state_dir = settings.state_dir
    access = access_of(settings, database)
    reconciler, backend, registry, trust = reconciler_of(settings, database, access)
    services = services_of(settings, database, reconciler, backend, registry, access)
    predictions, queries, upkeep = prediction_log_of(settings, database)
    services = replace(
        services,
        trust=trust,
        predictions=predictions,
        queries=queries,
        performances=Performances(database, predictions, state_dir=state_dir),
        costs=costs_of(settings, database, predictions),
    )
    services, keeping = with_metrics(services, settings, database, reconciler, unsent=unsent)
    services, alert_loop, monitor_runner = with_watching(settings, database, reconciler, services)
    learning = Learning(database, services.performances, environment=settings.environment)
    loops: list[Loop] = [
        ("reconciler", reconciler.run),
        ("sweep", partial(chores.sweep_for_ever, registry, state_dir)),
        ("logs", partial(chores.bound_logs_for_ever, state_dir / "logs")),
        ("audit heads", partial(chores.sign_for_ever, services)),
        ("audit retention", partial(chores.prune_for_ever, services.pruning)),
        ("metric history", keeping.run),
        ("alerts", alert_loop.run),
        ("costs", partial(chores.charge_for_ever, services)),
        ("installation", partial(chores.examine_for_ever, services, _installation(settings))),
        ("monitors", monitor_runner.run),
        ("feedback of rollouts", partial(chores.learn_for_ever, learning)),
        ("prediction log", partial(chores.compact_for_ever, upkeep)),
        ("prediction log retention", partial(chores.expire_for_ever, upkeep)),
        *_of_provider(settings, access),
    ]
    return Built(
        services=services,
        reconciler=reconciler,
        loops=tuple(loops),
        at_the_end=(partial(chores.sign, services, at_the_end=True), keeping.write),
    )


def _installation(settings: Settings) -> Installation:
    return Installation(
        environment=settings.environment, state_dir=settings.state_dir, tls=tls_files(settings)
    )


def _of_provider(settings: Settings, access: Access) -> tuple[Loop, ...]:
    if not settings.auth or settings.oidc_issuer is None:
        return ()
    keys = settings.oidc_keys or ""
    return (
        ("identity provider", partial(follow_provider, access, token_rules_of(settings), keys)),
    )
