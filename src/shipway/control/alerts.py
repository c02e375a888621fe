"""The use cases of alerts: taking in what was noticed, and a person's word on it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from itertools import islice
from math import isfinite

import msgspec

from shipway.control.alerting.acting import Acting, Order
from shipway.control.alerting.handling import Handlings
from shipway.control.alerting.outbox import put_notice
from shipway.control.alerting.silencing import LONGEST_SILENCE
from shipway.control.alerting.views import AlertStory, RulesView, Telling, rules_view
from shipway.control.changes import Request
from shipway.core.alerts.deciding import REOPEN_S, Notice, Outcome, decide
from shipway.core.alerts.defaults import command_of
from shipway.core.alerts.lifecycle import Alert, Event, Moment, moved
from shipway.core.alerts.messages import item_of, linked
from shipway.core.alerts.plan import Deed, Mode, Reaction
from shipway.core.alerts.reacting import done_at, reactions_to, refusal_of, untimely
from shipway.core.alerts.silences import silence_of
from shipway.core.audit import Change
from shipway.core.errors import ConflictError, NotFound, ShipwayError
from shipway.core.signals import Signal
from shipway.core.text import indented, printable
from shipway.store.sql.database import Database, Transaction

ACTOR = "shipway"
KEPT = timedelta(days=180)
"""Alerts that have ended, and messages that were sent, are kept for so long."""

_log = logging.getLogger(__name__)

_LOST_AFTER = timedelta(seconds=60)
_OWED = LONGEST_SILENCE + timedelta(days=1)
_LONGEST_TEXT, _LONGEST_SUBJECT = 2000, 255


class Alerts:
    """Alerts over a database. Thread-safe; methods block and may raise StoreUnavailable.

    `docs_url` is where the documentation is, for links to runbooks; empty for paths in the repository.
    """

    def __init__(
        self, database: Database, *, environment: str, acting: Acting, docs_url: str = ""
    ) -> None:
        self.environment = environment
        self._database = database
        self._acting = acting
        self._docs_url = docs_url

    def observe(self, signals: Sequence[Signal], now: datetime) -> None:
        """Takes signals in, and lets the time pass: alerts, messages and what is done about them.

        All but what is done is one transaction; the same signals again change nothing.
        """
        mine = [_clipped(one) for one in signals if one.environment == self.environment]
        with self._database.transaction() as tx:
            handlings = self._handlings(tx)
            outcome = decide(
                tx.alerts.last(
                    self.environment,
                    since=now - timedelta(seconds=REOPEN_S),
                    owed_since=now - _OWED,
                ),
                mine,
                now,
                handling_of=handlings.of,
                silences=tx.silences.present(self.environment, now=now),
            )
            orders = self._written(tx, outcome, handlings, now)
        for order in orders:
            try:
                self._carry_out(order, now)
            except Exception:  # noqa: BLE001 - the outermost frame of an order: others are waiting
                words = (order.reaction.do.value, order.alert.id)
                _log.exception("What became of `%s` for alert `%s` is not known", *words)

    def recover(self, now: datetime) -> None:
        """Says of what was begun and never ended that nobody knows whether it was done. It is not done again."""
        with self._database.transaction() as tx:
            for deed in Deed:
                begun = tx.alerts.events(self.environment, f"do.{deed.value}", since=now - KEPT)
                for moment in begun:
                    self._note_lost(tx, moment, deed, now)
            tx.alerts.forget(self.environment, before=now - KEPT)
            tx.notifications.forget(self.environment, before=now - KEPT)

    def newest(
        self,
        *,
        endpoint: str | None = None,
        is_open: bool = True,
        limit: int = 100,
        may_see: Callable[[str], bool] = lambda endpoint: True,
    ) -> list[Alert]:
        """Alerts of endpoints that somebody may see, the newest first; with `is_open`, those that have not ended."""
        with self._database.reading() as tx:
            found = tx.alerts.newest(self.environment, endpoint=endpoint, is_open=is_open)
            return list(islice((one for one in found if may_see(one.endpoint)), limit))

    def get(self, alert_id: str) -> Alert:
        """One alert.

        Raises:
            NotFound: there is none of that id.
        """
        with self._database.reading() as tx:
            return self._existing(tx, alert_id)

    def story(self, alert_id: str, now: datetime) -> AlertStory:
        """All that is known of an alert.

        Raises:
            NotFound: there is none of that id.
        """
        with self._database.reading() as tx:
            alert = self._existing(tx, alert_id)
            silences = tx.silences.present(self.environment, now=now)
            handlings = self._handlings(tx)
            told = handlings.told_of(alert.endpoint)
            messages = [
                Telling.of(one)
                for channel in dict.fromkeys(notify.channel for notify in told)
                for one in tx.notifications.of_channel(self.environment, channel, limit=200)
                if any(item.alert == alert_id for item in one.message.items)
            ]
            return AlertStory(
                alert=alert,
                moments=tuple(tx.alerts.moments(alert_id)),
                messages=tuple(messages),
                silence=silence_of(alert, silences, now),
                command=command_of(alert.rule, alert.endpoint, alert.id),
                runbook=linked(alert.runbook, self._docs_url),
                actions=reactions_to(alert, handlings.plan_of(alert.endpoint)),
            )

    def acknowledge(self, alert_id: str, request: Request) -> Alert:
        """Takes an alert on: it escalates no further. With `dry_run`, what it would be, and it stays as it is.

        Raises:
            NotFound: there is none of that id.
            ConflictError: it does not fire, or somebody has.
        """
        return self._said(alert_id, Event.ACKNOWLEDGE, request)

    def resolve(self, alert_id: str, request: Request) -> Alert:
        """Ends an alert; it comes back with the next evidence. With `dry_run`, what it would be, and it stays.

        Raises:
            NotFound: there is none of that id.
            ConflictError: it has ended.
        """
        return self._said(alert_id, Event.RESOLVE, request)

    def act(self, alert_id: str, deed: Deed | None, request: Request) -> str:
        """Does something about an alert by a person's word: the deed, else the first that was declared for it.

        Raises:
            NotFound: there is no such alert.
            ConflictError: nothing was declared, or it cannot be done.
        """
        with self._database.transaction() as tx:
            alert = self._existing(tx, alert_id)
            declared = reactions_to(alert, self._handlings(tx).plan_of(alert.endpoint))
            order = Order(alert=alert, reaction=_chosen(alert, deed, declared))
            event = f"do.{order.reaction.do.value}"
            if not request.dry_run:
                moment = _moment(alert, event, request.now, request.reason, by=request.actor)
                tx.alerts.note(alert, [moment])
        if request.dry_run:
            return self._acting.carry_out(order, _reasoned(order, request))
        try:
            done = self._acting.carry_out(order, _reasoned(order, request))
        except ShipwayError as exc:
            self._note_end(order, "failed", exc.message, request)
            raise
        self._note_end(order, "done", done, request)
        return done

    def rules(self, endpoint: str) -> RulesView:
        """The rules of an endpoint, who is told, and what is done.

        Raises:
            EndpointNotFound: there is none of that name.
        """
        with self._database.reading() as tx:
            state = tx.endpoints.get(self.environment, endpoint)
            return rules_view(endpoint, state, self._handlings(tx), self._docs_url)

    def _handlings(self, tx: Transaction) -> Handlings:
        states = (s for s in tx.endpoints.list() if s.spec.environment == self.environment)
        return Handlings(states, tx.channels.list(self.environment))

    def _existing(self, tx: Transaction, alert_id: str) -> Alert:
        alert = tx.alerts.get(self.environment, alert_id)
        if alert is None:
            raise NotFound(
                f"There is no alert `{alert_id}`.",
                next_step="`shipway alerts list --all` has them.",
            )
        return alert

    def _written(
        self, tx: Transaction, outcome: Outcome, handlings: Handlings, now: datetime
    ) -> list[Order]:
        """Writes what changed; what is to be done once that is committed."""
        for alert in outcome.changed:
            tx.alerts.put(alert)
            tx.alerts.note(alert, [one for one in outcome.moments if one.alert == alert.id])
        orders: list[Order] = []
        said: dict[str, list[str]] = {}
        for alert in outcome.fired:
            begun = {one.event for one in tx.alerts.moments(alert.id) if one.at >= alert.raised_at}
            for reaction in reactions_to(alert, handlings.plan_of(alert.endpoint)):
                if f"do.{reaction.do.value}" in begun:
                    continue  # done when it fired first, less severely
                refusal = self._refusal(tx, reaction, alert, now)
                said.setdefault(alert.id, []).append(_announced(reaction, alert, refusal))
                event = f"{'skip' if refusal else 'do'}.{reaction.do.value}"
                tx.alerts.note(alert, [_moment(alert, event, now, refusal or alert.summary)])
                if not refusal:
                    orders.append(Order(alert=alert, reaction=reaction))
        for notice in outcome.notices:
            self._tell(tx, notice, said.get(notice.alert.id, ()), now)
        return orders

    def _refusal(self, tx: Transaction, reaction: Reaction, alert: Alert, now: datetime) -> str:
        since = now - timedelta(seconds=reaction.per_s)
        begun, failed = (
            tx.alerts.events(
                self.environment,
                f"{word}.{reaction.do.value}",
                since=since,
                endpoint=alert.endpoint,
            )
            for word in ("do", "failed")
        )
        refusal = refusal_of(reaction, alert, done_at(begun, failed), now)
        state = tx.endpoints.get(self.environment, alert.endpoint) if alert.endpoint else None
        return refusal or untimely(reaction.do, alert, state)

    def _tell(self, tx: Transaction, notice: Notice, actions: Iterable[str], now: datetime) -> None:
        item = item_of(
            notice.alert, notice.event, at=now, docs_url=self._docs_url, actions=tuple(actions)
        )
        put_notice(tx, notice, [item], now)
        channels = ", ".join(notice.channels)
        tx.alerts.note(notice.alert, [_moment(notice.alert, "tell", now, channels)])

    def _carry_out(self, order: Order, now: datetime) -> None:
        request = Request(actor=ACTOR, now=now)
        try:
            done = self._acting.carry_out(order, _reasoned(order, request))
        except ShipwayError as exc:
            self._note_end(order, "failed", exc.message, request)
        else:
            self._note_end(order, "done", done, request)

    def _note_end(self, order: Order, word: str, message: str, request: Request) -> None:
        event = f"{word}.{order.reaction.do.value}"
        moment = _moment(order.alert, event, request.now, message, by=request.actor)
        with self._database.transaction() as tx:
            tx.alerts.note(order.alert, [moment])

    def _note_lost(self, tx: Transaction, begun: Moment, deed: Deed, now: datetime) -> None:
        alert = tx.alerts.get(self.environment, begun.alert)
        if alert is None or now - begun.at < _LOST_AFTER:
            return
        ends = {f"{word}.{deed.value}" for word in ("done", "failed", "lost")}
        moments = tx.alerts.moments(begun.alert)
        if not any(one.event in ends and one.at >= begun.at for one in moments):
            message = "Control ended meanwhile, or lost its database; look whether it was done."
            tx.alerts.note(alert, [_moment(alert, f"lost.{deed.value}", now, message)])

    def _said(self, alert_id: str, event: Event, request: Request) -> Alert:
        with self._database.transaction() as tx:
            before = self._existing(tx, alert_id)
            after = moved(before, event, request.now, by=request.actor)
            if request.dry_run:
                return after
            moment = _moment(after, event.value, request.now, request.reason, by=request.actor)
            tx.alerts.put(after)
            tx.alerts.note(after, [moment])
            tx.audit.append(
                Change(
                    at=request.now,
                    actor=request.actor,
                    action=f"alert.{event.value}",
                    subject=after.endpoint or "shipway",
                    details={
                        "alert": after.id,
                        "rule": after.rule,
                        "before": before.phase.value,
                        "after": after.phase.value,
                        "reason": request.reason,
                    },
                )
            )
        return after


def _chosen(alert: Alert, deed: Deed | None, declared: Sequence[Reaction]) -> Reaction:
    found = next((one for one in declared if deed in (None, one.do)), None)
    if found is not None:
        return found
    if deed is None or deed is Deed.RETRAIN:
        raise ConflictError(
            f"Nothing was declared for alert `{alert.id}` that could be done.",
            next_step=f"Name a deed (`shipway alerts act {alert.id} --do rollback`), or declare one"
            " under `alerts.actions` of the endpoint.",
        )
    if not alert.endpoint:
        raise ConflictError(f"Alert `{alert.id}` is of the server, not of an endpoint.")
    return Reaction(when=alert.rule, do=deed, mode=Mode.DO)


def _announced(reaction: Reaction, alert: Alert, refusal: str) -> str:
    if not refusal:
        return f"{reaction.do.value} has begun; see `shipway alerts show {alert.id}`"
    command = f"`shipway alerts act {alert.id} --do {reaction.do.value}`"
    if reaction.mode is Mode.SUGGEST:
        return f"suggested: {command}"
    return f"no {reaction.do.value}, because {refusal}; do it with {command}"


def _reasoned(order: Order, request: Request) -> Request:
    """The request with the alert in its reason."""
    alert = order.alert
    reason = f"Alert {alert.id} ({alert.rule}): {alert.summary} {request.reason}".strip()
    return msgspec.structs.replace(request, reason=reason)


def _moment(alert: Alert, event: str, now: datetime, message: str, *, by: str = "") -> Moment:
    return Moment(alert=alert.id, at=now, event=event, message=printable(message), by=by)


def _clipped(signal: Signal) -> Signal:
    """The signal with texts that people and databases can read and that end, and numbers that JSON has.

    Names of categories come from callers as they sent them: PostgreSQL takes no NUL, and a line break
    could begin a line of a message that nobody of us wrote.
    """
    return msgspec.structs.replace(
        signal,
        subject=indented(signal.subject)[:_LONGEST_SUBJECT],
        summary=indented(signal.summary)[:_LONGEST_TEXT],
        next_step=indented(signal.next_step)[:_LONGEST_TEXT],
        report=indented(signal.report)[:_LONGEST_TEXT],
        numbers={name: value for name, value in signal.numbers.items() if isfinite(value)},
    )
