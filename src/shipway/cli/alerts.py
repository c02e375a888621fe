"""Alerts, silences and channels as people read them, and the options of channels."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import typer

from shipway.cli.access import seconds_of
from shipway.cli.output import age_of, show_note, show_table
from shipway.client.alerting import AlertRules, AlertStory, Channel, ChannelFields
from shipway.core.alerts.defaults import command_of
from shipway.core.alerts.lifecycle import RANK, Alert
from shipway.core.alerts.silences import Silence
from shipway.core.errors import InvalidSpec
from shipway.core.secrets import SecretRef
from shipway.core.signals import Severity

if TYPE_CHECKING:
    from rich.text import Text

_STYLES = {Severity.CRITICAL: "bold red", Severity.WARNING: "yellow", Severity.INFO: "cyan"}


def show_alerts(found: Sequence[Alert]) -> None:
    """Alerts, a line each, the severest first."""
    worst = sorted(found, key=lambda one: (-RANK[one.severity], -one.phase_at.timestamp()))
    rows = [
        (
            _coloured(one.severity),
            one.id,
            one.endpoint or "(server)",
            f"{one.rule} {one.subject}".strip(),
            one.phase.value,
            age_of(one.since),
            _numbers(one.numbers),
            one.next_step or command_of(one.rule, one.endpoint, one.id),
        )
        for one in worst
    ]
    columns = ["severity", "alert", "endpoint", "rule", "phase", "#since", "numbers", "next"]
    show_table(columns, rows, empty="No alert is open.")


def show_story(story: AlertStory) -> None:
    """One alert: its facts, what happened to it, and who was told."""
    alert = story.alert
    facts = {
        "alert": alert.id,
        "endpoint": alert.endpoint or "(server)",
        "rule": f"{alert.rule} {alert.subject}".strip(),
        "severity": _coloured(alert.severity),
        "phase": _phase(alert),
        "since": f"{alert.since:%Y-%m-%d %H:%M:%S} UTC ({age_of(alert.since)})",
        "version": alert.version,
        "what": alert.summary,
        "numbers": _numbers(alert.numbers),
        "next": alert.next_step,
        "command": story.command,
        "runbook": story.runbook,
        "report": f"/api/v1{alert.report}" if alert.report else "",
        "silenced": _silenced(story.silence),
        "actions": [f"{one.do.value} ({one.mode.value})" for one in story.actions],
    }
    show_table(["", ""], [(name, value) for name, value in facts.items() if value])
    typer.echo("\nWhat happened")
    rows = [(f"{one.at:%m-%d %H:%M:%S}", one.event, one.by, one.message) for one in story.moments]
    show_table(["at", "event", "by", ""], rows)
    if story.messages:
        typer.echo("\nMessages")
        _show_messages(story.messages)


def _show_messages(messages: Iterable[Any]) -> None:
    rows = [
        (one.channel, one.state.value, one.attempts, age_of(one.created_at), one.fault)
        for one in messages
    ]
    show_table(["channel", "state", "#attempts", "#age", "last fault"], rows)


def show_silences(found: Sequence[Silence]) -> None:
    """Silences, a line each."""
    rows = [
        (
            one.id,
            one.endpoint,
            one.rule,
            one.subject,
            f"{one.until:%Y-%m-%d %H:%M}",
            one.by,
            one.reason,
        )
        for one in found
    ]
    columns = ["id", "endpoint", "rule", "subject", "until", "by", "why"]
    show_table(columns, rows, empty="Nothing is silenced.")


def show_rules(found: AlertRules) -> None:
    """The rules of an endpoint, who is told, and what is done."""
    rows = [
        (
            one.name,
            _coloured(one.severity),
            one.kind,
            ", ".join(f"{k} {v}" for k, v in one.settings.items() if _is_told(v)),
            f"{one.for_s:g}",
            one.runbook,
        )
        for one in found.rules
    ]
    show_table(["rule", "severity", "kind", "settings", "#for s", "runbook"], rows)
    if found.off:
        typer.echo(f"\noff: {', '.join(found.off)}")
    told = [
        f"{one.channel} (from {one.at_least.value}{_late(one.after_s)})" for one in found.notify
    ]
    typer.echo(f"\ntold: {', '.join(told) or 'nobody'}")
    for one in found.actions:
        how = f"when {one.when}: {one.do.value} ({one.mode.value}, at most {one.most} in {one.per_s:g} s)"
        typer.echo(how)
    for name in found.unknown:
        show_note(f"There is no channel `{name}` for it: `shipway alerts channels add {name} URL`.")
    if not told:
        show_note("Next: shipway alerts channels add ops https://… --default")


def show_channels(found: Sequence[Channel]) -> None:
    """Channels, a line each, and messages that did not arrive."""
    rows = [
        (
            one.name,
            one.kind.value,
            one.shown,
            _scope(one),
            f"{one.at_least.value}{_late(one.after_s)}",
            one.sent,
            one.waiting,
            one.dead,
            next((message.fault for message in one.last if message.fault), ""),
        )
        for one in found
    ]
    columns = [
        "channel",
        "kind",
        "url",
        "told of",
        "from",
        "#sent",
        "#waiting",
        "#dead",
        "last fault",
    ]
    show_table(columns, rows, empty="There are no channels: nobody is told of alerts.")


def show_new_channel(made: Channel, *, dry_run: bool) -> None:
    """What a new channel is; its secret on stdout, alone."""
    if dry_run:
        return show_note(f"`{made.name}` would be a channel to {made.shown} ({made.kind.value}).")
    if made.secret:
        typer.echo(made.secret)
        show_note("This secret verifies the signatures of its messages. It is not shown again.")
    show_note(f"`{made.name}` is a channel to {made.shown} ({made.kind.value}).")
    return show_note(f"Next: shipway alerts channels test {made.name}")


def channel_fields(
    url: str, *, after: str, template: Path | None, token_from: str | None, at_least: str
) -> ChannelFields:
    """The options of a channel as the API takes them.

    Raises:
        InvalidSpec: a reference or the template cannot be read.
    """
    fields: ChannelFields = {"at_least": at_least, "after_s": float(_span(after))}
    text = sys.stdin.read().strip() if url == "-" else url
    if text.startswith(("env:", "file:")):
        fields["url_from"] = _reference(text)
    else:
        fields["url"] = text
    if token_from is not None:
        fields["token_from"] = _reference(token_from)
    if template is not None:
        fields["template"] = _template(template)
    return fields


def _span(text: str) -> int:
    return 0 if text in ("0", "0s") else seconds_of(text)


def _reference(text: str) -> SecretRef:
    kind, _, name = text.partition(":")
    if kind == "env" and name:
        return SecretRef(env=name)
    if kind == "file" and name:
        return SecretRef(file=name)
    raise InvalidSpec(
        "That is no reference to a secret.", next_step="Write `env:NAME` or `file:/path`."
    )


def _template(path: Path) -> dict[str, Any]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.MsgspecError) as exc:
        raise InvalidSpec(
            f"The template `{path}` cannot be read: {exc}.",
            next_step='Write a JSON object, such as {"text": "{title}"}.',
        ) from exc


def _coloured(severity: Severity) -> Text:
    from rich.text import Text

    return Text(severity.value, style=_STYLES[severity])


def _numbers(numbers: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in numbers.items())


def _phase(alert: Alert) -> str:
    by = f" by {alert.acknowledged_by}" if alert.acknowledged_by else ""
    return f"{alert.phase.value}{by} for {age_of(alert.phase_at)}"


def _silenced(silence: Silence | None) -> str:
    if silence is None:
        return ""
    return f"until {silence.until:%Y-%m-%d %H:%M} UTC by {silence.by}: {silence.reason}"


def _is_told(value: Any) -> bool:
    return value not in ("", None) and not isinstance(value, list)


def _late(after_s: float) -> str:
    return f", after {after_s:g} s" if after_s else ""


def _scope(one: Channel) -> str:
    if one.everywhere:
        return "everything" if one.is_default else "everything that names it"
    return "its project" if one.is_default else "endpoints that name it"
