"""The calls of alerts, silences and channels. No I/O."""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypedDict
from urllib.parse import quote

import msgspec

from shipway.client.exchange import Call, reading
from shipway.core.alerts.channels import ChannelKind
from shipway.core.alerts.lifecycle import Alert, Moment
from shipway.core.alerts.plan import Deed, Notify, Reaction
from shipway.core.alerts.sending import Sending
from shipway.core.alerts.silences import Silence
from shipway.core.secrets import SecretRef
from shipway.core.signals import Severity

_API = "/api/v1"
_TEST_TIMEOUT_S = 60.0


class Telling(msgspec.Struct, frozen=True, kw_only=True):
    """A message to a channel, and whether it arrived. `fault` is what the last attempt met."""

    id: str
    channel: str
    state: Sending
    attempts: int = 0
    created_at: datetime | None = None
    ended_at: datetime | None = None
    fault: str = ""


class AlertStory(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of an alert. `actions` are those that were declared for it."""

    alert: Alert
    moments: tuple[Moment, ...] = ()
    messages: tuple[Telling, ...] = ()
    silence: Silence | None = None
    command: str = ""
    runbook: str = ""
    actions: tuple[Reaction, ...] = ()


class Acted(msgspec.Struct, frozen=True, kw_only=True):
    """An alert after a person's word, and what was done about it."""

    alert: Alert
    done: str = ""


class AlertRule(msgspec.Struct, frozen=True, kw_only=True):
    """One alert rule of an endpoint; `settings` are those of its kind."""

    name: str
    kind: str
    severity: Severity
    for_s: float = 0.0
    hold_s: float = 0.0
    runbook: str = ""
    settings: dict[str, Any] = {}


class AlertRules(msgspec.Struct, frozen=True, kw_only=True):
    """The alert rules of an endpoint, those that are off, who is told, and what is done.

    `unknown` are channels that its spec names and that are not there for it.
    """

    endpoint: str
    rules: tuple[AlertRule, ...] = ()
    off: tuple[str, ...] = ()
    notify: tuple[Notify, ...] = ()
    unknown: tuple[str, ...] = ()
    actions: tuple[Reaction, ...] = ()


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """A place that is told of alerts, its URL masked, and what became of its messages.

    `secret` verifies its signatures; it is there once, when the channel is made.
    """

    name: str
    kind: ChannelKind
    shown: str
    at_least: Severity = Severity.WARNING
    after_s: float = 0.0
    is_default: bool = False
    everywhere: bool = False
    created_at: datetime | None = None
    created_by: str = ""
    waiting: int = 0
    sent: int = 0
    dead: int = 0
    last: tuple[Telling, ...] = ()
    secret: str = ""


class ChannelFields(TypedDict, total=False):
    """What a channel may be made with.

    Exactly one of `url` and `url_from` is given, of `token` and `token_from` at most one. `template` is the JSON
    body of a webhook in place of Shipway's own. `after_s` makes it an escalation. `is_default`: it is told
    of endpoints that name nobody; `everywhere`: of all projects.
    """

    url: str
    url_from: SecretRef
    token: str
    token_from: SecretRef
    template: dict[str, Any]
    at_least: Severity | str
    after_s: float
    is_default: bool
    everywhere: bool
    dry_run: bool


def alerts(*, endpoint: str | None, is_open: bool, limit: int) -> Call[tuple[Alert, ...]]:
    """The newest alerts first."""
    query = {"open": str(is_open).lower(), "limit": str(limit)}
    if endpoint is not None:
        query["endpoint"] = endpoint
    return Call(method="GET", path=f"{_API}/alerts", query=query, read=reading(tuple[Alert, ...]))


def alert(alert_id: str) -> Call[AlertStory]:
    """All that is known of an alert."""
    return Call(method="GET", path=_path("alerts", alert_id), read=reading(AlertStory))


def say(alert_id: str, verb: str, **fields: Any) -> Call[Acted]:
    """A person's word on an alert: `acknowledge`, `resolve` or `act`."""
    given = {name: value for name, value in fields.items() if value is not None}
    path = _path("alerts", alert_id, verb)
    return Call(method="POST", path=path, read=reading(Acted), **_json(given))


def act(alert_id: str, deed: Deed | str | None, *, reason: str, dry_run: bool) -> Call[Acted]:
    """Does something about an alert."""
    return say(alert_id, "act", do=deed, reason=reason, dry_run=dry_run)


def rules(endpoint: str) -> Call[AlertRules]:
    """The alert rules of an endpoint."""
    path = _path("endpoints", endpoint, "alert-rules")
    return Call(method="GET", path=path, read=reading(AlertRules))


def silences() -> Call[tuple[Silence, ...]]:
    """The silences that have not ended."""
    path = f"{_API}/silences"
    return Call(method="GET", path=path, read=reading(tuple[Silence, ...]))


def silence(endpoint: str, *, rule: str, subject: str, for_s: float, reason: str) -> Call[Silence]:
    """Lets nobody be told of certain alerts for a while."""
    body = {"endpoint": endpoint, "rule": rule, "subject": subject}
    body_and_span = {**body, "for_s": for_s, "reason": reason}
    path = f"{_API}/silences"
    return Call(method="POST", path=path, read=reading(Silence), **_json(body_and_span))


def unsilence(silence_id: str) -> Call[Silence]:
    """Ends a silence."""
    return Call(method="DELETE", path=_path("silences", silence_id), read=reading(Silence))


def channels() -> Call[tuple[Channel, ...]]:
    """The channels that the caller administers."""
    path = f"{_API}/channels"
    return Call(method="GET", path=path, read=reading(tuple[Channel, ...]))


def add_channel(name: str, fields: ChannelFields) -> Call[Channel]:
    """Makes a channel."""
    body = {"name": name, **fields}
    return Call(method="POST", path=f"{_API}/channels", read=reading(Channel), **_json(body))


def test_channel(name: str) -> Call[Channel]:
    """Sends a channel a message that says that nothing is wrong."""
    return Call(
        method="POST",
        path=_path("channels", name, "test"),
        read=reading(Channel),
        timeout_s=_TEST_TIMEOUT_S,
    )


def remove_channel(name: str) -> Call[Channel]:
    """Forgets a channel."""
    return Call(method="DELETE", path=_path("channels", name), read=reading(Channel))


def _path(*parts: str) -> str:
    return "/".join((_API, *(quote(part, safe="") for part in parts)))


def _json(value: Any) -> dict[str, Any]:
    return {
        "body": msgspec.json.encode(value),
        "headers": {"content-type": "application/json"},
    }
