"""Who is at the other end of a connection, by the certificate that was verified in its handshake."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

LONGEST = 255
"""An identity is a word in records and logs, not a text."""


def peer_of(transport: asyncio.BaseTransport) -> str:
    """The identity of the peer; empty without TLS, and for a peer that showed no certificate.

    A resumed session counts as none: it proves nothing anew.
    """
    connection = transport.get_extra_info("ssl_object")
    if connection is None or connection.session_reused:
        return ""
    return identity_in(connection.getpeercert() or {})


def identity_in(certificate: Mapping[str, Any]) -> str:
    """The identity in a verified certificate, as `ssl` decodes it; empty when there is none.

    Its URI, else its first DNS name or e-mail address, else its common name. Only a URI may look like one, so that `shipway://gateway/a` is never somebody's common name.
    """
    names = certificate.get("subjectAltName", ())
    for kind, name in names:
        if kind == "URI":
            return name if _is_plain(name) else ""
    others = [name for kind, name in names if kind in ("DNS", "email")]
    others += [
        value
        for part in certificate.get("subject", ())
        for kind, value in part
        if kind == "commonName"
    ]
    if not others or "://" in others[0]:
        return ""
    return others[0] if _is_plain(others[0]) else ""


def _is_plain(name: str) -> bool:
    return 0 < len(name) <= LONGEST and name.isprintable()
