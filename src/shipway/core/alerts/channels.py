"""Channels: where messages go. What opens one (a URL, a token) is kept sealed or by reference, and shown masked."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

import msgspec

from shipway.core.access import project_of
from shipway.core.errors import InvalidSpec
from shipway.core.secrets import SecretRef
from shipway.core.signals import Severity


class ChannelKind(StrEnum):
    """How a channel is reached."""

    WEBHOOK = "webhook"
    """A signed POST of JSON to an HTTP(S) URL."""

    APPRISE = "apprise"
    """Whatever Apprise knows: Slack, e-mail, PagerDuty and a hundred others, by its URLs."""

    COMMAND = "command"
    """A program of the machine's administrator, with JSON on its standard input."""


COMMAND = "command://"
"""Begins the URL of a program; its name follows."""


class Hidden(msgspec.Struct, frozen=True, kw_only=True):
    """A secret of a channel: where it is, or sealed by the key of the state directory."""

    ref: SecretRef | None = None
    sealed: str = ""


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """A place that is told of alerts.

    `shown` is its URL as people may see it. `token` is sent as `Authorization: Bearer`. A `template` is
    the JSON body of a webhook in place of Shipway's own. With `is_default` it is told of endpoints that name
    nobody: those of its own project, or with `everywhere` all, and of the server itself.
    """

    name: str
    environment: str
    kind: ChannelKind
    url: Hidden
    shown: str
    token: Hidden | None = None
    template: dict[str, Any] | None = None
    at_least: Severity = Severity.WARNING
    after_s: float = 0.0
    is_default: bool = False
    everywhere: bool = False
    created_at: datetime
    created_by: str

    @property
    def project(self) -> str:
        """The tenant whose it is."""
        return project_of(self.name)

    def serves(self, endpoint: str) -> bool:
        """Whether it may be told of an endpoint; of the server itself where that is empty."""
        return self.everywhere or (bool(endpoint) and self.project == project_of(endpoint))


def shown_url(url: str) -> str:
    """Where a URL leads, without what in it opens anything: `https://hooks.slack.com/…`.

    Of an Apprise URL only the scheme: its host may be a token.
    """
    if url.startswith(COMMAND):
        return url
    parts = urlsplit(url)
    if parts.scheme in ("http", "https"):
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{parts.hostname or ''}{port}/…"
    return f"{parts.scheme}://…"


def kind_of(url: str) -> ChannelKind:
    """How a URL is called.

    Raises:
        InvalidSpec: it is none. It is not repeated.
    """
    if url.startswith(COMMAND):
        return ChannelKind.COMMAND
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return ChannelKind.WEBHOOK
        if parts.scheme and url.partition("://")[2]:
            return ChannelKind.APPRISE
    except ValueError:
        pass
    raise InvalidSpec(
        "The channel's URL cannot be read.",
        next_step="Use `https://host/path` for a webhook, a URL of Apprise such as `slack://…`, or"
        " `command://NAME` for a program.",
    )
