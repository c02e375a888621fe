"""What channels are told: which alerts, since when, with what numbers, and what to do next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from shipway.core.alerts.defaults import command_of
from shipway.core.alerts.lifecycle import RANK, Alert, Event
from shipway.core.signals import Severity

MOST_IN_TEXT = 20
"""So many alerts are told in words; the document has all of them."""


class MessageKind(StrEnum):
    """What a message is."""

    ALERTS = "alerts"
    RETRAIN = "retrain"
    TEST = "test"


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened to an alert. `command` is what to run first; `report` a path of the API."""

    alert: str
    event: str
    at: datetime
    rule: str
    subject: str
    severity: Severity
    endpoint: str
    version: str
    since: datetime
    summary: str
    numbers: dict[str, float]
    runbook: str
    command: str
    report: str = ""
    next_step: str = ""
    actions: tuple[str, ...] = ()


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What one channel is told at once of one endpoint. `window` is what a retraining is asked for."""

    kind: MessageKind
    environment: str
    endpoint: str
    items: tuple[Item, ...] = ()
    version: str = ""
    reason: str = ""
    window: tuple[datetime, datetime] | None = None

    @property
    def severity(self) -> Severity:
        """That of its worst item."""
        return max(
            (one.severity for one in self.items), key=RANK.__getitem__, default=Severity.INFO
        )


_WORDS: Mapping[str, str] = {
    Event.SUSTAIN.value: "FIRING",
    Event.WORSEN.value: "WORSE",
    Event.ESCALATE.value: "STILL FIRING",
    Event.CLEAR.value: "RESOLVED",
    Event.EXPIRE.value: "EXPIRED",
    Event.RESOLVE.value: "RESOLVED BY HAND",
}


def item_of(
    alert: Alert, event: Event, *, at: datetime, docs_url: str = "", actions: Sequence[str] = ()
) -> Item:
    """What is told of an alert."""
    return Item(
        alert=alert.id,
        event=event.value,
        at=at,
        rule=alert.rule,
        subject=alert.subject,
        severity=alert.severity,
        endpoint=alert.endpoint,
        version=alert.version,
        since=alert.since,
        summary=alert.summary,
        numbers=alert.numbers,
        runbook=linked(alert.runbook, docs_url),
        command=command_of(alert.rule, alert.endpoint, alert.id),
        report=alert.report,
        next_step=alert.next_step,
        actions=tuple(actions),
    )


def linked(runbook: str, docs_url: str) -> str:
    """A runbook below the documentation's address; as it is where none is set, or it is a URL."""
    if not docs_url or not runbook or "://" in runbook:
        return runbook
    return f"{docs_url.rstrip('/')}/{runbook.removeprefix('docs/')}"


def title_of(message: Message) -> str:
    """The message in a line."""
    place = message.endpoint or "the server"
    match message.kind:
        case MessageKind.TEST:
            return f"Shipway test message ({message.environment})"
        case MessageKind.RETRAIN:
            return f"Retrain {message.version or place} ({message.environment})"
        case MessageKind.ALERTS:
            pass
    first = message.items[0]
    more = f" and {len(message.items) - 1} more" if len(message.items) > 1 else ""
    words = _WORDS.get(first.event, first.event.upper())
    return (
        f"{words} [{message.severity.value}] {first.rule} on {place} ({message.environment}){more}"
    )


def text_of(message: Message) -> str:
    """The message as people read it."""
    if message.kind is MessageKind.TEST:
        return "This channel works. Nothing is wrong."
    if message.kind is MessageKind.RETRAIN:
        since, until = message.window or (None, None)
        span = f" Data from {_time(since)} to {_time(until)}." if since and until else ""
        return f"A new model is wanted: {message.reason}{span}"
    told = ["\n".join(_lines(item)) for item in message.items[:MOST_IN_TEXT]]
    more = len(message.items) - MOST_IN_TEXT
    return "\n\n".join([*told, f"And {more} more." if more > 0 else ""]).rstrip()


def _lines(item: Item) -> list[str]:
    about = f" ({item.subject})" if item.subject else ""
    numbers = ", ".join(f"{name} {value:.4g}" for name, value in sorted(item.numbers.items()))
    facts = {
        "": f"{_WORDS.get(item.event, item.event)}: {item.rule}{about}, {item.severity.value}",
        "What": item.summary,
        "Since": _time(item.since),
        "Version": item.version,
        "Numbers": numbers,
        "Next": item.next_step,
        "Command": item.command,
        "Runbook": item.runbook,
        "Report": item.report,
        "Done": "; ".join(item.actions),
        "Alert": item.alert,
    }
    return [f"{name}: {value}" if name else value for name, value in facts.items() if value]


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def document_of(message: Message, identity: str) -> dict[str, Any]:
    """The message as a webhook's body. `identity` is the same one whenever it is sent again."""
    known: dict[str, Any] = msgspec.to_builtins(message)
    return {
        "id": identity,
        **known,
        "severity": message.severity.value,
        "title": title_of(message),
        "text": text_of(message),
    }


def filled(template: Any, document: Mapping[str, Any]) -> Any:
    """A template with `{title}`, `{endpoint}` and so on in its strings replaced by the document's values.

    A string that is nothing but one such name becomes the value itself, a list or number too.

    >>> filled({"event_type": "retrain", "n": "{items}", "t": "{kind} {endpoint}"},
    ...        {"kind": "retrain", "endpoint": "churn", "items": []})
    {'event_type': 'retrain', 'n': [], 't': 'retrain churn'}
    """
    if isinstance(template, dict):
        return {key: filled(value, document) for key, value in template.items()}
    if isinstance(template, list):
        return [filled(value, document) for value in template]
    if not isinstance(template, str):
        return template
    if template[:1] == "{" and template[1:-1] in document and template[-1:] == "}":
        return document[template[1:-1]]
    parts = template.split("{")
    return parts[0] + "".join(_replaced(part, document) for part in parts[1:])


def _replaced(part: str, document: Mapping[str, Any]) -> str:
    name, brace, rest = part.partition("}")
    if not brace or name not in document:
        return "{" + part
    value = document[name]
    return (value if isinstance(value, str) else msgspec.json.encode(value).decode()) + rest
