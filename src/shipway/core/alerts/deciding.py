"""What becomes of alerts by what was heard and by the time that passed: `decide`, a pure function."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

from shipway.core.alerts.lifecycle import RANK, Alert, Event, Key, Moment, Phase, alert_id, moved
from shipway.core.alerts.plan import Notify
from shipway.core.alerts.silences import Silence, silence_of
from shipway.core.signals import Severity, Signal

_replace = msgspec.structs.replace

REOPEN_S = 6 * 3600.0
"""What comes back within this is the same alert; later, a new one."""

ENDS = frozenset({Event.CLEAR, Event.EXPIRE, Event.RESOLVE})

MOST_DOUBLINGS = 4
"""An alert that comes and goes is resolved later each time: twice, 4, 8, at most 16 times as late."""


class Handling(msgspec.Struct, frozen=True, kw_only=True):
    """How the alerts of a rule are dealt with.

    `stale_s`: without evidence for so long it expires. `severity` replaces what signals say; None
    leaves it. `notify` are the channels in their order, `version` what serves behind the endpoint now.
    """

    for_s: float = 0.0
    hold_s: float = 120.0
    stale_s: float = 3600.0
    severity: Severity | None = None
    notify: tuple[Notify, ...] = ()
    version: str = ""
    runbook: str = ""


HandlingOf = Callable[[Key], Handling | None]
"""How the alerts of a key are dealt with; None when its rule is off or its endpoint is gone."""


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """That channels are to be told of what happened to an alert."""

    alert: Alert
    event: Event
    channels: tuple[str, ...]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What changed: alerts as they are now, what happened, who is told, and those that fire anew or more severely."""

    changed: tuple[Alert, ...] = ()
    moments: tuple[Moment, ...] = ()
    notices: tuple[Notice, ...] = ()
    fired: tuple[Alert, ...] = ()


def decide(
    alerts: Mapping[Key, Alert],
    signals: Iterable[Signal],
    now: datetime,
    *,
    handling_of: HandlingOf,
    silences: Sequence[Silence] = (),
) -> Outcome:
    """What becomes of the alerts; of each key the last one is given, resolved ones too.

    On its own output without news it does nothing. A signal that is not newer than the last one of
    its key says nothing.
    """
    heard: dict[Key, list[Signal]] = {}
    for signal in signals:
        heard.setdefault(key_of(signal), []).append(signal)
    lives = []
    for key in sorted(alerts.keys() | heard.keys()):
        life = _Life(alerts.get(key), handling_of(key), now, silences)
        for signal in sorted(heard.get(key, ()), key=lambda one: one.at):
            life.hear(signal)
        life.proceed()
        life.tell()
        lives.append(life)
    return Outcome(
        changed=tuple(life.alert for life in lives if life.alert and life.alert != life.before),
        moments=tuple(moment for life in lives for moment in life.moments),
        notices=tuple(notice for life in lives for notice in life.notices),
        fired=tuple(life.alert for life in lives if life.alert and life.has_fired),
    )


def key_of(signal: Signal) -> Key:
    """What a signal is about."""
    return Key(signal.environment, signal.endpoint, signal.rule, signal.subject)


class _Life:
    """One alert on its way through a decision."""

    def __init__(
        self,
        alert: Alert | None,
        handling: Handling | None,
        now: datetime,
        silences: Sequence[Silence],
    ) -> None:
        self.before = self.alert = alert
        self.moments: list[Moment] = []
        self.notices: list[Notice] = []
        self.has_fired = False
        self._handling = handling
        self._now = now
        # What was heard later than now was heard by a clock that was wrong.
        self._before_now = now - timedelta(microseconds=1)
        self._silences = silences

    def hear(self, signal: Signal) -> None:
        """Takes in a signal."""
        handling = self._handling
        if handling is None or (
            self.alert and signal.at <= min(self.alert.heard_at, self._before_now)
        ):
            return
        if signal.is_firing:
            self._hear_trouble(signal, handling)
        elif self.alert is not None and self.alert.phase is not Phase.RESOLVED:
            since = self._mended(self.alert.clear_since or signal.at, signal.at)
            self.alert = _replace(self.alert, heard_at=signal.at, clear_since=since)
            if self.alert.phase is Phase.PENDING:
                self._move(Event.CLEAR)

    def _hear_trouble(self, signal: Signal, handling: Handling) -> None:
        severity = handling.severity or signal.severity
        alert = self.alert
        if alert is None or _is_past(alert, self._now):
            alert = _opened(signal, severity, handling.version, self._now)
            self.moments.append(self._moment(alert, "open", signal.summary))
        elif alert.phase is Phase.RESOLVED:
            self._move(Event.RAISE, signal.summary)
            assert self.alert is not None
            alert = _replace(self.alert, raised_at=signal.at, version=handling.version)
        is_worse = alert.fires and RANK[severity] > RANK[alert.severity]
        self.alert = _replace(
            alert,
            severity=severity,
            raised_at=self._mended(alert.raised_at, signal.at),
            heard_at=signal.at,
            clear_since=None,
            since=min(alert.since, signal.since or alert.since),
            summary=signal.summary,
            numbers=signal.numbers,
            report=signal.report,
            next_step=signal.next_step,
            runbook=handling.runbook,
            stale_s=handling.stale_s,
        )
        if is_worse:
            self._move(Event.WORSEN, f"Now {severity.value}: {signal.summary}")
            self.has_fired = True

    def _mended(self, noted: datetime, at: datetime) -> datetime:
        """The time noted, but for one that a clock noted which ran ahead: then that of now.

        Where the evidence of before is later than now, it may be the clock of now that is wrong.
        """
        is_behind = self.before is not None and at < self.before.heard_at
        return noted if is_behind else min(noted, at)

    def proceed(self) -> None:
        """Lets the time pass."""
        alert, handling, now = self.alert, self._handling, self._now
        if alert is None or alert.phase is Phase.RESOLVED:
            return
        if handling is None:
            self._move(Event.EXPIRE, "Its rule is off, or its endpoint is gone.")
        elif alert.phase is Phase.PENDING and _lasts_s(alert) >= handling.for_s:
            self._move(Event.SUSTAIN, alert.summary)
            self.has_fired = True
        elif alert.clear_since is not None:
            if _s(alert.clear_since, now) >= hold_s(alert, handling):
                self._move(Event.CLEAR, "The rule does not hold any more.")
        elif _s(alert.heard_at, now) > alert.stale_s:
            self._move(Event.EXPIRE, f"Nothing was measured for {alert.stale_s:g} s.")

    def tell(self) -> None:
        """Tells what is owed, and who else is to know because nobody acknowledged."""
        alert = self.alert
        if alert is None or silence_of(alert, self._silences, self._now) is not None:
            return
        if alert.owed is not None:
            alert = self.alert = self._tell_owed(alert, alert.owed)
        if alert.phase is Phase.FIRING and alert.told_at is not None:
            told_at = self._mended(alert.told_at, self._now)
            self.alert = _replace(alert, told_at=told_at)
            self._escalate(self.alert, told_at)

    def _tell_owed(self, alert: Alert, event: Event) -> Alert:
        if event in ENDS:
            # Who was told of it, whatever its severity and the declaration have become.
            self._note(alert, event, self._knowing(alert))
            return _replace(alert, owed=None, told=())
        told = self._note(alert, event, self._concerned(alert))
        return _replace(told, owed=None, told_at=alert.told_at or self._now)

    def _escalate(self, alert: Alert, told_at: datetime) -> None:
        late = [one for one in self._suited(alert) if one.after_s > 0]
        due = [one for one in late if one.after_s <= _s(told_at, self._now)]
        for one in due[alert.escalations :]:
            self._move(Event.ESCALATE, f"Nobody acknowledged it; `{one.channel}` is told.")
            assert self.alert is not None
            self.alert = self._note(self.alert, Event.ESCALATE, (one.channel,))

    def _concerned(self, alert: Alert) -> tuple[str, ...]:
        """Who is told that an alert fires: those of the first hour, and those to whom it escalated."""
        suited = self._suited(alert)
        late = [one.channel for one in suited if one.after_s > 0][: alert.escalations]
        return tuple(dict.fromkeys([one.channel for one in suited if not one.after_s] + late))

    def _suited(self, alert: Alert) -> list[Notify]:
        notify = () if self._handling is None else self._handling.notify
        wanted = sorted(notify, key=lambda one: one.after_s)
        return [one for one in wanted if RANK[alert.severity] >= RANK[one.at_least]]

    def _note(self, alert: Alert, event: Event, channels: tuple[str, ...]) -> Alert:
        """Lets channels be told; the alert with them among those who know of it."""
        if channels:
            self.notices.append(Notice(alert=alert, event=event, channels=channels))
        return _replace(alert, told=tuple(dict.fromkeys(self._knowing(alert) + channels)))

    def _knowing(self, alert: Alert) -> tuple[str, ...]:
        """Who was told that it fires, and not that it ended."""
        if alert.told is not None:
            return alert.told
        return () if alert.told_at is None and alert.owed is None else self._concerned(alert)

    def _move(self, event: Event, message: str = "") -> None:
        assert self.alert is not None
        self.alert = moved(self.alert, event, self._now)
        self.moments.append(self._moment(self.alert, event.value, message))

    def _moment(self, alert: Alert, event: str, message: str) -> Moment:
        return Moment(alert=alert.id, at=self._now, event=event, message=message)


def hold_s(alert: Alert, handling: Handling) -> float:
    """For how long the rule must not hold before the alert is resolved."""
    doublings = min(max(0, alert.firings - 1), MOST_DOUBLINGS)
    return float(handling.hold_s * 2**doublings)


def _opened(signal: Signal, severity: Severity, version: str, now: datetime) -> Alert:
    key = key_of(signal)
    return Alert(
        id=alert_id(key, now),
        environment=key.environment,
        endpoint=key.endpoint,
        rule=key.rule,
        subject=key.subject,
        severity=severity,
        phase=Phase.PENDING,
        since=signal.since or signal.at,
        phase_at=now,
        raised_at=signal.at,
        heard_at=signal.at,
        version=version,
        told=(),
    )


def _is_past(alert: Alert, now: datetime) -> bool:
    # For those who are still to be told of its end, what comes back has never ended.
    is_over = alert.phase is Phase.RESOLVED and alert.owed is None
    return is_over and now - alert.phase_at > timedelta(seconds=REOPEN_S)


def _lasts_s(alert: Alert) -> float:
    """For how long the evidence has held: what nobody measures lasts no longer."""
    return _s(alert.raised_at, alert.heard_at)


def _s(begin: datetime, end: datetime) -> float:
    return (end - begin).total_seconds()
