"""What control does again and again beside its reconciler: sweeping, signing, charging, letting go."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import ParamSpec, TypeVar

from shipway.api.services import Services
from shipway.backends.logs import bound_logs
from shipway.bootstrap.clock import clock
from shipway.control.alerting.installation import Installation
from shipway.control.learning import Learning
from shipway.control.pruning import Pruning
from shipway.control.reconciler import ACTOR
from shipway.control.registry import Registry
from shipway.control.upkeep import Upkeep
from shipway.core.errors import ShipwayError
from shipway.store.staging import Staging

SWEEP_AFTER_S = 60.0
SWEEP_EVERY_S = 24 * 3600.0
BOUND_LOGS_EVERY_S = 5.0
SIGN_EVERY_S = 5.0
"""So long may the newest audit event be without a signature."""

CHARGE_EVERY_S = 60.0
EXAMINE_EVERY_S = 60.0
LEARN_EVERY_S = 60.0
LEARN_SHARE = 0.1
"""Feedback of rollouts is measured for so much of the time at most: people have the same turn."""

PRUNE_EVERY_S = 24 * 3600.0
COMPACT_EVERY_S = 120.0
EXPIRE_EVERY_S = 3600.0
SWEEP_OLDER_THAN = timedelta(days=1)
"""Younger files may belong to a registration under way."""

_log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")


def _safely(what: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
    """What the work gives; None when it cannot be done now, which the log says. No chore ends control."""
    try:
        return work(*args, **kwargs)
    except ShipwayError as exc:
        _log.warning("%s now: %s", what, exc)
    except Exception:  # noqa: BLE001 - a loop's outermost frame
        _log.exception("%s now", what)
    return None


async def sweep_for_ever(registry: Registry, state_dir: Path) -> None:
    """Removes what registrations that died left behind, once a day."""
    while True:
        await asyncio.sleep(SWEEP_AFTER_S)
        since = clock() - SWEEP_OLDER_THAN
        what = "Unused bundles cannot be removed"
        await asyncio.to_thread(_safely, what, _sweep, registry, state_dir, since)
        await asyncio.sleep(SWEEP_EVERY_S)


async def sign_for_ever(services: Services) -> None:
    """Signs the newest audit event soon after it was written."""
    while True:
        await asyncio.sleep(SIGN_EVERY_S)
        await asyncio.to_thread(sign, services)


def sign(services: Services, *, at_the_end: bool = False) -> None:
    """Signs the newest audit event now; says in the log when that cannot be."""
    _safely("The audit chain cannot be signed", _sign, services, at_the_end=at_the_end)


def _sign(services: Services, *, at_the_end: bool) -> None:
    services.audit.sum_up_denials(now=clock(), at_the_end=at_the_end)
    services.seals.sign(now=clock())


async def prune_for_ever(pruning: Pruning) -> None:
    """Archives the audit events that policies let go, once a day."""
    while True:
        await asyncio.sleep(SWEEP_AFTER_S)
        what = "Audit events cannot be archived"
        done = await asyncio.to_thread(_safely, what, pruning.prune, actor=ACTOR, now=clock())
        if done is not None and done.events:
            _log.info("Archived %s audit events in `%s`", done.events, done.archive)
        await asyncio.sleep(PRUNE_EVERY_S)


async def compact_for_ever(upkeep: Upkeep) -> None:
    """Merges the small files of the prediction log, every few minutes."""
    while True:
        await asyncio.sleep(COMPACT_EVERY_S)
        what = "The prediction log cannot be compacted"
        await asyncio.to_thread(_safely, what, upkeep.compact, clock())


async def expire_for_ever(upkeep: Upkeep) -> None:
    """Lets go what endpoints keep no longer of the prediction log, every hour."""
    while True:
        await asyncio.sleep(SWEEP_AFTER_S)
        what = "The prediction log cannot be cleaned"
        if files := await asyncio.to_thread(_safely, what, upkeep.expire, clock()):
            _log.info("Let %s files of the prediction log go", files)
        await asyncio.sleep(EXPIRE_EVERY_S)


async def charge_for_ever(services: Services) -> None:
    """Charges the hours that have ended, and tells the alerts where budgets stand."""
    while True:
        await asyncio.sleep(CHARGE_EVERY_S)
        await asyncio.to_thread(_safely, "Costs cannot be charged", _charge, services)


def _charge(services: Services) -> None:
    now = clock()
    services.costs.charge(now)
    services.alerts.observe(services.costs.signals(now), now)


async def examine_for_ever(services: Services, installation: Installation) -> None:
    """Tells the alerts of the disk and the certificates, every minute."""
    while True:
        what = "The installation cannot be examined"
        await asyncio.to_thread(_safely, what, _examine, services, installation)
        await asyncio.sleep(EXAMINE_EVERY_S)


async def learn_for_ever(learning: Learning) -> None:
    """Tells the rollouts under way what feedback says of their versions, every minute where that is quick."""
    pause_s = LEARN_EVERY_S
    while True:
        await asyncio.sleep(pause_s)
        began = monotonic()
        await asyncio.to_thread(_safely, "Feedback cannot be counted", learning.learn)
        pause_s = max(LEARN_EVERY_S, (monotonic() - began) / LEARN_SHARE)


def _examine(services: Services, installation: Installation) -> None:
    now = clock()
    services.alerts.observe(installation.signals(now), now)


async def bound_logs_for_ever(logs: Path) -> None:
    """Keeps what models and processes print from filling the disk."""
    while True:
        await asyncio.to_thread(_safely, "Logs cannot be bounded", bound_logs, logs)
        await asyncio.sleep(BOUND_LOGS_EVERY_S)


def _sweep(registry: Registry, state_dir: Path, unused_since: datetime) -> None:
    Staging(state_dir / "staging").sweep(unused_since=unused_since)
    for digest in registry.sweep(unused_since=unused_since):
        _log.info("Removed bundle %s, which no version names", digest)
