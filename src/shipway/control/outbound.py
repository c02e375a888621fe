"""Calls to URLs that somebody else named, such as webhooks: judged where they connect.

The name is resolved here, each of its addresses is judged, and the connection goes to the one that was
judged: no second look-up in between could mean another. Redirects pass through here as every request does.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence

import httpx

from shipway.core.addresses import OutboundPolicy
from shipway.core.errors import InvalidRequest, ServerUnreachable

MOST_REDIRECTS = 3
Resolve = Callable[[str, int], Sequence[str]]


def outbound_client(policy: OutboundPolicy, *, timeout_s: float) -> httpx.Client:
    """A client that calls only what the policy allows. It obeys no proxy variables: they would connect for it.

    Its requests raise InvalidRequest for what may not be called, beside what httpx raises.
    """
    return httpx.Client(
        transport=JudgedTransport(policy),
        timeout=timeout_s,
        follow_redirects=True,
        max_redirects=MOST_REDIRECTS,
        trust_env=False,
    )


def addresses_of(host: str, port: int) -> Sequence[str]:
    """The IP addresses that a host means now, in the resolver's order.

    Raises:
        OSError: it means none.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class JudgedTransport(httpx.BaseTransport):
    """Connects to addresses that a policy allows, and to no other."""

    def __init__(self, policy: OutboundPolicy, resolve: Resolve = addresses_of) -> None:
        self._policy = policy
        self._resolve = resolve
        self._transport = httpx.HTTPTransport(trust_env=False)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Called by httpx, for redirects too.

        Raises:
            InvalidRequest: the URL may not be called.
            ServerUnreachable: its host means no address.
        """
        url = request.url
        address = self._judged(url)
        return self._transport.handle_request(
            httpx.Request(
                request.method,
                url.copy_with(host=address),
                headers=request.headers,  # with the Host of the name
                stream=request.stream,
                extensions={**request.extensions, "sni_hostname": url.host},
            )
        )

    def close(self) -> None:
        """Called by httpx."""
        self._transport.close()

    def _judged(self, url: httpx.URL) -> str:
        """The address to connect to. One refused address among several refuses the name."""
        refusal = self._policy.scheme_refusal_of(url.scheme)
        if not refusal:
            addresses = self._addresses(url)
            refusal = next(filter(None, map(self._policy.refusal_of, addresses)), "")
            if not refusal:
                return addresses[0]
        raise InvalidRequest(
            f"`{url.scheme}://{url.host}` may not be called: {refusal}.",
            next_step="Name a public HTTPS address, or have its network allowed.",
        )

    def _addresses(self, url: httpx.URL) -> Sequence[str]:
        try:
            addresses = self._resolve(url.host, url.port or 443)
        except (OSError, UnicodeError) as exc:
            raise ServerUnreachable(f"The host `{url.host}` means no address.") from exc
        if not addresses:
            raise ServerUnreachable(f"The host `{url.host}` means no address.")
        return addresses
