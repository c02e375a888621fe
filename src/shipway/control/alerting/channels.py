"""The use cases of channels: who is told, tried out, and forgotten."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from shipway.control.alerting.outbox import notification
from shipway.control.alerting.sending import Secrets, Sender
from shipway.control.alerting.views import Telling
from shipway.control.changes import Request
from shipway.core.alerts.channels import (
    COMMAND,
    Channel,
    ChannelKind,
    Hidden,
    kind_of,
    shown_url,
)
from shipway.core.alerts.messages import Message, MessageKind
from shipway.core.alerts.sending import Sending
from shipway.core.audit import Change
from shipway.core.errors import InvalidSpec, NotFound
from shipway.core.secrets import SecretRef, SecretRules
from shipway.core.signals import Severity
from shipway.core.versions import checked_name
from shipway.store.sql.database import Database, Transaction

MOST_TEMPLATE_BYTES = 16 * 1024
_LAST = 20


class ChannelRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A channel to be made. Exactly one of `url` and `url_from` is given, of `token` and `token_from` at most one."""

    name: str
    url: str = ""
    url_from: SecretRef | None = None
    token: str = ""
    token_from: SecretRef | None = None
    template: dict[str, Any] | None = None
    at_least: Severity = Severity.WARNING
    after_s: float = 0.0
    is_default: bool = False
    everywhere: bool = False
    dry_run: bool = False


class ChannelView(msgspec.Struct, frozen=True, kw_only=True):
    """A channel, and what became of its messages. `last` are the newest, newest first.

    `secret` verifies its signatures; it is shown once, when the channel is made.
    """

    name: str
    kind: ChannelKind
    shown: str
    at_least: Severity
    after_s: float
    is_default: bool
    everywhere: bool
    created_at: datetime
    created_by: str
    waiting: int = 0
    sent: int = 0
    dead: int = 0
    last: tuple[Telling, ...] = ()
    secret: str = ""


class Channels:
    """Channels over a database. Thread-safe; methods block and may raise StoreUnavailable."""

    def __init__(
        self,
        database: Database,
        *,
        environment: str,
        secrets: Secrets,
        rules: SecretRules,
        sender: Sender,
    ) -> None:
        self._database = database
        self._environment = environment
        self._secrets = secrets
        self._rules = rules
        self._sender = sender

    def list(self) -> tuple[ChannelView, ...]:
        """All channels, in the order of names."""
        with self._database.reading() as tx:
            counts = tx.notifications.counts(self._environment)
            return tuple(
                self._view(tx, channel, counts) for channel in tx.channels.list(self._environment)
            )

    def add(self, wanted: ChannelRequest, request: Request) -> ChannelView:
        """Makes a channel, in place of one of its name; with `dry_run` only finds out whether it could.

        Raises:
            InvalidSpec: its name, URL, template or a reference is not one.
            SecretUnavailable: what a reference names cannot be read.
        """
        channel = self._made(wanted, request)
        secret = self._secrets.signing(channel) if channel.kind is ChannelKind.WEBHOOK else ""
        if not wanted.dry_run:
            with self._database.transaction() as tx:
                tx.channels.put(channel)
                tx.audit.append(_change("channel.add", channel, request))
        return _shown(channel, secret=secret)

    def remove(self, name: str, request: Request) -> ChannelView:
        """Forgets a channel; its messages that wait are given up.

        Raises:
            NotFound: there is none of that name.
        """
        with self._database.transaction() as tx:
            channel = self._existing(tx, name)
            tx.channels.remove(self._environment, name)
            tx.audit.append(_change("channel.remove", channel, request))
        return _shown(channel)

    def test(self, name: str, request: Request) -> ChannelView:
        """Sends a message that says that nothing is wrong, now; on the record of the channel too.

        Raises:
            NotFound: there is none of that name.
            InvalidRequest, ServerUnreachable, SecretUnavailable: it did not arrive, and why.
        """
        with self._database.reading() as tx:
            channel = self._existing(tx, name)
        message = Message(kind=MessageKind.TEST, environment=self._environment, endpoint="")
        self._sender.send(channel, notification(name, message, request.now))
        with self._database.transaction() as tx:
            tx.audit.append(_change("channel.test", channel, request))
        return _shown(channel)

    def _made(self, wanted: ChannelRequest, request: Request) -> Channel:
        checked_name(wanted.name, kind="channel")
        url = self._hidden("url", wanted.url, wanted.url_from)
        if url is None:
            raise InvalidSpec("The channel has no URL.", next_step="Give `url` or `url_from`.")
        told = self._secrets.opened(url)
        kind = kind_of(told)
        if kind is not ChannelKind.WEBHOOK and (wanted.template is not None or wanted.token):
            raise InvalidSpec(
                f"A template or token is for webhooks, and this URL is of the kind `{kind.value}`.",
                next_step="Leave it out, or use an `https://` URL.",
            )
        # So a project can have those programs run alone that were put there for it.
        if kind is ChannelKind.COMMAND and told != COMMAND + wanted.name:
            raise InvalidSpec(
                f"Channel `{wanted.name}` cannot run another program than its own.",
                next_step=f"Use `{COMMAND}{wanted.name}`, or give the channel the program's name.",
            )
        if len(msgspec.json.encode(wanted.template)) > MOST_TEMPLATE_BYTES:
            raise InvalidSpec(f"The template has more than {MOST_TEMPLATE_BYTES} bytes.")
        return Channel(
            name=wanted.name,
            environment=self._environment,
            kind=kind,
            url=url,
            shown=shown_url(told) if wanted.url_from is None else str(wanted.url_from),
            token=self._hidden("token", wanted.token, wanted.token_from),
            template=wanted.template,
            at_least=wanted.at_least,
            after_s=wanted.after_s,
            is_default=wanted.is_default,
            everywhere=wanted.everywhere,
            created_at=request.now,
            created_by=request.actor,
        )

    def _hidden(self, name: str, text: str, reference: SecretRef | None) -> Hidden | None:
        if text and reference is not None:
            raise InvalidSpec(f"The channel's `{name}` is given twice.", next_step="Give it once.")
        if reference is not None:
            if (reference.env is None) == (reference.file is None):
                raise InvalidSpec(f"`{name}_from` has not exactly one of `env` and `file`.")
            self._rules.require_allowed({name: reference})
            return Hidden(ref=reference)
        return self._secrets.hidden(text) if text else None

    def _existing(self, tx: Transaction, name: str) -> Channel:
        channel = tx.channels.get(self._environment, name)
        if channel is None:
            raise NotFound(
                f"There is no channel `{name}`.",
                next_step="`shipway alerts channels list` has them.",
            )
        return channel

    def _view(
        self, tx: Transaction, channel: Channel, counts: dict[tuple[str, Sending], int]
    ) -> ChannelView:
        last = tx.notifications.of_channel(self._environment, channel.name, limit=_LAST)
        shown = _shown(channel)
        return msgspec.structs.replace(
            shown,
            waiting=counts.get((channel.name, Sending.WAITING), 0),
            sent=counts.get((channel.name, Sending.SENT), 0),
            dead=counts.get((channel.name, Sending.DEAD), 0),
            last=tuple(Telling.of(one) for one in last),
        )


def _shown(channel: Channel, *, secret: str = "") -> ChannelView:
    known = {
        name: getattr(channel, name)
        for name in ChannelView.__struct_fields__
        if hasattr(channel, name)
    }
    return ChannelView(**known, secret=secret)


def _change(action: str, channel: Channel, request: Request) -> Change:
    return Change(
        at=request.now,
        actor=request.actor,
        action=action,
        subject=channel.name,
        details={"url": channel.shown, "default": channel.is_default},
    )
