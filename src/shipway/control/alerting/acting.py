"""Carries out what is done about alerts: roll back, pause, fall back, ask for a new model."""

from __future__ import annotations

from datetime import timedelta
from typing import assert_never

import msgspec

from shipway.control.alerting.outbox import put_message
from shipway.control.changes import Request
from shipway.control.endpoints import Endpoints
from shipway.control.rollouts import Rollouts
from shipway.core.alerts.lifecycle import Alert
from shipway.core.alerts.messages import Message, MessageKind
from shipway.core.alerts.plan import Deed, Reaction
from shipway.core.audit import Change
from shipway.core.errors import ConflictError
from shipway.core.rollouts import Event as RolloutEvent
from shipway.store.sql.database import Database

LEAST_WINDOW = timedelta(days=7)
"""What a new model is asked to learn from reaches back at least so far."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """That something is to be done about an alert."""

    alert: Alert
    reaction: Reaction


class Acting:
    """Does what orders say. Thread-safe; blocks. Every change is on the audit record, with alert and reason."""

    def __init__(self, database: Database, endpoints: Endpoints, rollouts: Rollouts) -> None:
        self._database = database
        self._endpoints = endpoints
        self._rollouts = rollouts

    def carry_out(self, order: Order, request: Request) -> str:
        """Does it, or with `dry_run` only finds out whether it could; what was done, in words.

        Raises:
            ShipwayError: it could not be done.
        """
        name = order.alert.endpoint
        match order.reaction.do:
            case Deed.ROLLBACK:
                change = self._endpoints.rollback(name, request)
                return "; ".join(change.changes) or "nothing was to be rolled back"
            case Deed.PAUSE:
                view = self._rollouts.act(name, RolloutEvent.PAUSE, request)
                return f"the rollout of {view.candidate.version} is paused"
            case Deed.FALLBACK:
                change = self._endpoints.divert(name, request)
                return "; ".join(change.changes) or "the fallback answered everything already"
            case Deed.RETRAIN:
                return self._ask_for_model(order, request)
            case _:
                assert_never(order.reaction.do)

    def _ask_for_model(self, order: Order, request: Request) -> str:
        alert, wanted = order.alert, order.reaction.channel or ""
        with self._database.transaction() as tx:
            channel = tx.channels.get(alert.environment, wanted)
            if channel is None or not channel.serves(alert.endpoint):
                raise ConflictError(
                    f"There is no channel `{wanted}` for endpoint `{alert.endpoint}`.",
                    next_step="`shipway alerts channels add` makes one.",
                )
            if not request.dry_run:
                message = Message(
                    kind=MessageKind.RETRAIN,
                    environment=alert.environment,
                    endpoint=alert.endpoint,
                    version=alert.version,
                    reason=request.reason,
                    window=(min(alert.since, request.now - LEAST_WINDOW), request.now),
                )
                put_message(tx, channel.name, message, request.now)
                tx.audit.append(
                    Change(
                        at=request.now,
                        actor=request.actor,
                        action="endpoint.retrain",
                        subject=alert.endpoint,
                        details={"channel": channel.name, "reason": request.reason},
                    )
                )
        return f"`{channel.name}` is asked for a new model"
