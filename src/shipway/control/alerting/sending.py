"""The sender: takes messages that are due out of the database, and carries each to its channel.

At least once: whoever dies with a message leaves it to the next one when the lease ends. The message keeps
its id, by which receivers know that they have it already.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import datetime
from functools import partial

import msgspec

from shipway.control.alerting.courier import Carrier, Parcel, Tone, Way
from shipway.core.addresses import OutboundPolicy
from shipway.core.alerts.channels import COMMAND, Channel, ChannelKind, Hidden
from shipway.core.alerts.deciding import ENDS
from shipway.core.alerts.messages import Message, document_of, filled, text_of, title_of
from shipway.core.alerts.sending import Notification, failed, sent
from shipway.core.errors import CallerError, NotFound, SecretUnavailable, ShipwayError
from shipway.core.signals import Severity
from shipway.settings import content_of
from shipway.store.sealing import Sealer
from shipway.store.sql.database import Database
from shipway.wire.webhooks import IDEMPOTENCY_KEY, SIGNATURE, signature_of

AT_ONCE, AT_ONCE_TO_ONE = 8, 2
"""Messages under way at the same time, in all and to one channel: others do not wait for one that hangs."""

_LOOK_AGAIN_S = 1.0
"""What becomes due meanwhile waits no longer than this."""


class Secrets:
    """What opens channels, when it is needed."""

    def __init__(self, sealer: Sealer, environment: Mapping[str, str]) -> None:
        self._sealer = sealer
        self._environment = environment

    def hidden(self, text: str) -> Hidden:
        """The secret, sealed."""
        return Hidden(sealed=self._sealer.seal(text))

    def opened(self, hidden: Hidden) -> str:
        """The secret.

        Raises:
            SecretUnavailable: its reference names nothing, or it was sealed by another key.
        """
        ref = hidden.ref
        if ref is None:
            return self._sealer.open(hidden.sealed)
        try:
            if ref.file is not None:
                return content_of(ref.file)
            return self._environment[ref.env or ""]
        except (OSError, ValueError, KeyError) as exc:
            raise SecretUnavailable(
                f"The channel's `{ref}` cannot be read.",
                next_step="Set it where control runs, then test the channel again.",
            ) from exc

    def signing(self, channel: Channel) -> str:
        """The secret with which a channel's messages are signed; another one once it is added anew."""
        return self._sealer.derived(
            f"channel {channel.environment}/{channel.name} {channel.created_at.isoformat()}"
        )


class Sender:
    """Sends what is due. Thread-safe; methods block and may raise StoreUnavailable."""

    def __init__(
        self,
        database: Database,
        *,
        environment: str,
        secrets: Secrets,
        policy: OutboundPolicy,
        clock: Callable[[], datetime],
        carrier: Carrier,
    ) -> None:
        self._database = database
        self._environment = environment
        self._secrets = secrets
        self._policy = policy
        self._clock = clock
        self._carrier = carrier

    def deliver(self) -> int:
        """Sends what is due, some at the same time, until nothing is; how many messages were tried."""
        tried = 0
        under_way: dict[Future[None], str] = {}
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="alerts") as pool:
            while True:
                for one in self._due(list(under_way.values())):
                    under_way[pool.submit(self._try, one)] = one.channel
                if not under_way:
                    return tried
                ended, _ = wait(under_way, _LOOK_AGAIN_S, return_when=FIRST_COMPLETED)
                for each in ended:
                    del under_way[each]
                    each.result()
                tried += len(ended)

    def _due(self, busy: list[str]) -> list[Notification]:
        """What is sent next, while a message to each of the channels `busy` is under way."""
        with self._database.transaction() as tx:
            return tx.notifications.due(
                self._environment,
                now=self._clock(),
                limit=AT_ONCE - len(busy),
                limit_of_one=AT_ONCE_TO_ONE,
                busy=busy,
            )

    def close(self) -> None:
        """Ends what is under way; these messages are tried again later."""
        self._carrier.close()

    def send(self, channel: Channel, one: Notification) -> None:
        """Sends one message now.

        Raises:
            ShipwayError: it was not taken.
        """
        self._carrier.carry(self._parcel(channel, one))

    def _try(self, one: Notification) -> None:
        try:
            with self._database.reading() as tx:
                channel = tx.channels.get(self._environment, one.channel)
            if channel is None:
                raise NotFound(f"There is no channel `{one.channel}` any more.")
            self.send(channel, one)
        except CallerError as exc:
            after = failed(one, exc.message, self._clock(), for_good=True)
        except ShipwayError as exc:
            after = failed(one, exc.message, self._clock())
        else:
            after = sent(one, self._clock())
        with self._database.transaction() as tx:
            tx.notifications.settle(after)

    def _parcel(self, channel: Channel, one: Notification) -> Parcel:
        # No reference decides which program runs: it is the channel's own, whatever a file says by now.
        is_command = channel.kind is ChannelKind.COMMAND
        url = COMMAND + channel.name if is_command else self._secrets.opened(channel.url)
        title, text = title_of(one.message), text_of(one.message)
        carried = partial(Parcel, url=url, policy=self._policy, title=title, text=text)
        if channel.kind is ChannelKind.APPRISE:
            return carried(way=Way.APPRISE, tone=_tone_of(one.message))
        document = document_of(one.message, one.id)
        body = document if channel.template is None else filled(channel.template, document)
        encoded = msgspec.json.encode(body)
        if is_command:
            return carried(way=Way.COMMAND, body=encoded)
        return carried(way=Way.WEBHOOK, body=encoded, headers=self._headers(channel, one, encoded))

    def _headers(self, channel: Channel, one: Notification, body: bytes) -> dict[str, str]:
        at_s = int(self._clock().timestamp())
        headers = {
            "content-type": "application/json",
            "user-agent": "shipway",
            IDEMPOTENCY_KEY: one.id,
            SIGNATURE: signature_of(self._secrets.signing(channel), body, at_s=at_s),
        }
        if channel.token is not None:
            headers["authorization"] = f"Bearer {self._secrets.opened(channel.token)}"
        return headers


def _tone_of(message: Message) -> Tone:
    """That of its worst news; an end is good news."""
    if message.items and all(item.event in ENDS for item in message.items):
        return Tone.SUCCESS
    return _TONES[message.severity]


_TONES = {
    Severity.INFO: Tone.INFO,
    Severity.WARNING: Tone.WARNING,
    Severity.CRITICAL: Tone.FAILURE,
}
