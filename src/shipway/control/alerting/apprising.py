"""Tells services that Apprise knows. For a process of its own: from the first call on, all its connections are judged."""

from __future__ import annotations

import logging
import re
import socket
from typing import Any

from shipway.control.alerting.courier import Parcel
from shipway.core.addresses import OutboundPolicy

_LEAST_LENGTH = 4
_MARKUP = (("<", "\u2039"), (">", "\u203a"), ("](", "]\u200b("))
_CALL = re.compile("@(?=all|channel|everyone|here)")


class _Refused(OSError):
    """A connection that the policy does not allow."""


def notified(parcel: Parcel) -> tuple[str, bool]:
    """Why a service was not told, and whether it never will be; empty when it was."""
    refused = _judge_connections(parcel.policy)
    import apprise

    service = apprise.Apprise()
    with apprise.LogCapture(level=logging.WARNING) as said:  # type: ignore[no-untyped-call]  # Apprise is not typed
        if not service.add(parcel.url):
            return "Apprise cannot read the URL.", True
        is_html = all(one.notify_format == apprise.NotifyFormat.HTML for one in service)
        is_taken = service.notify(
            body=parcel.text if is_html else _inert(parcel.text),
            title=parcel.title,
            notify_type=apprise.NotifyType(parcel.tone.value),
            # Without one the text would be taken for what the service shows: for HTML in e-mails.
            body_format=apprise.NotifyFormat.TEXT,
        )
        if is_taken:
            return "", False
        lines = said.getvalue().splitlines()
    if refused:
        return f"It may not be called: {refused[0]}.", True
    last = lines[-1] if lines else "Apprise gave no reason"
    return f"{_without(parcel.url, last)}.", False


def _inert(text: str) -> str:
    """The text without links that show something else, and without what calls everybody.

    Parts of it come from callers. Apprise escapes a text only where it becomes HTML; chats obey Slack's
    `<!channel>` and `<URL|words>`, Markdown's `[words](URL)`, Discord's `@everyone`, and have no common escape.
    """
    for obeyed, shown in _MARKUP:
        text = text.replace(obeyed, shown)
    return _CALL.sub("@\u200b", text)


def _judge_connections(policy: OutboundPolicy) -> list[str]:
    """Lets sockets connect only where the policy allows; the reasons of what was refused."""
    refused: list[str] = []
    connect = socket.socket.connect

    def judged(self: socket.socket, address: Any) -> None:
        is_network = self.family in (socket.AF_INET, socket.AF_INET6)
        refusal = policy.refusal_of(str(address[0])) if is_network else "it is no network"
        if refusal:
            refused.append(refusal)
            raise _Refused(refusal)
        connect(self, address)

    # Libraries that Apprise calls open sockets of their own: nothing but the class is common to all.
    for name, instead in (("connect", judged), ("connect_ex", judged), ("sendto", _no_datagrams)):
        setattr(socket.socket, name, instead)
    return refused


def _no_datagrams(*_: Any) -> int:
    raise _Refused("datagrams are not sent")


def _without(url: str, line: str) -> str:
    """A line of a log without any part of the URL that could open something."""
    parts = [part for part in re.split(r"[/:@?&=#]+", url) if len(part) >= _LEAST_LENGTH]
    for part in sorted(parts, key=len, reverse=True):
        line = line.replace(part, "***")
    return line[:300].rstrip(".")
