"""Whom a client trusts: its own machine's server by its very certificate, others by who vouches for them."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

from shipway.client.discovery import Addresses
from shipway.tls.contexts import caller_context, pinned_context


def trusted(found: Addresses) -> ssl.SSLContext | bool:
    """What servers at large are called with; True is httpx's own.

    Raises:
        CertificateUnusable: the CA, or what the client shows, cannot be used.
    """
    return caller_context(found.tls) if found.tls.ca or found.tls.client else True


def pinned(found: Addresses) -> Iterator[tuple[str, ssl.SSLContext]]:
    """The URLs of this machine's own server, each with what it is called with.

    Raises:
        CertificateUnusable: what the client shows cannot be used.
    """
    for url, cert in found.pins.items():
        if Path(cert).is_file():  # else the record is of a server that is gone
            yield url, pinned_context(Path(cert), found.tls)


def context_of(found: Addresses, url: str) -> ssl.SSLContext:
    """What the server at that URL is called with.

    Raises:
        CertificateUnusable: a file cannot be used.
    """
    return dict(pinned(found)).get(url) or caller_context(found.tls)
