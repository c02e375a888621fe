"""Carries one message out, in a process of its own: `python -m shipway.control.alerting.courier`.

Receivers may be slow, endless or hostile, and Apprise is large: the process has a deadline, and nothing
of control's in its environment.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from enum import StrEnum

import msgspec

from shipway.core.addresses import OutboundPolicy
from shipway.core.errors import InvalidRequest, ServerUnreachable

TIMEOUT_S = 30.0
_KEPT = ("PATH", "LANG", "LC_ALL", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "TZ")


class Way(StrEnum):
    """How it is carried."""

    WEBHOOK = "webhook"
    APPRISE = "apprise"


class Parcel(msgspec.Struct, frozen=True, kw_only=True):
    """What to carry where. `headers` and `body` are for webhooks, `title` and `text` for Apprise."""

    way: Way
    url: str
    policy: OutboundPolicy
    headers: dict[str, str] = {}
    body: bytes = b""
    title: str = ""
    text: str = ""


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What became of it. `fault` is empty when it was taken; with `for_good` it never will be."""

    fault: str = ""
    for_good: bool = False


def carry(parcel: Parcel, *, timeout_s: float = TIMEOUT_S) -> None:
    """Carries a parcel out. Blocks.

    Raises:
        InvalidRequest: it may not be carried there, or never will be taken.
        ServerUnreachable: it was not taken now.
    """
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "shipway.control.alerting.courier"],
            input=msgspec.json.encode(parcel),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(os.environ),
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise ServerUnreachable(f"It was not taken within {timeout_s:g} s.") from exc
    if ended.returncode != 0:
        raise ServerUnreachable(f"Its courier ended with {ended.returncode}.")
    receipt = msgspec.json.decode(ended.stdout, type=Receipt)
    if receipt.fault:
        raise (InvalidRequest if receipt.for_good else ServerUnreachable)(receipt.fault)


def _environment(own: Mapping[str, str]) -> dict[str, str]:
    return {name: own[name] for name in _KEPT if name in own}


def carried(parcel: Parcel) -> Receipt:
    """What becomes of a parcel, in this process."""
    if parcel.way is Way.WEBHOOK:
        from shipway.control.alerting.webhooks import posted

        return _receipt(posted(parcel.url, parcel.headers, parcel.body, parcel.policy))
    from shipway.control.alerting.apprising import notified

    return _receipt(notified(parcel.url, parcel.title, parcel.text, parcel.policy))


def _receipt(found: tuple[str, bool]) -> Receipt:
    fault, for_good = found
    return Receipt(fault=fault, for_good=for_good)


def main() -> None:
    """Carries the parcel on stdin; the receipt is on stdout."""
    parcel = msgspec.json.decode(sys.stdin.buffer.read(), type=Parcel)
    answer = msgspec.json.encode(carried(parcel))
    os.write(1, answer)


if __name__ == "__main__":
    main()
