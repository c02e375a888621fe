"""What a client remembers between calls, and the calls' full URLs and headers. No I/O."""

from __future__ import annotations

import getpass
from shlex import quote
from typing import Any

from shipway.client import calls
from shipway.client.answers import EndpointMetadata
from shipway.client.discovery import Addresses
from shipway.client.exchange import Call, Flow, Plane
from shipway.core.errors import NoReadyReplica

BYPASS_PROXIES = ("all://127.0.0.1", "all://localhost", "all://[::1]")
"""URL patterns that never go through a proxy, whatever the environment says."""


class Session:
    """One client's addresses, and the metadata of the endpoints that it has called."""

    def __init__(self, addresses: Addresses) -> None:
        self.addresses = addresses
        self.control_url = addresses.control_url
        self.gateway_url = addresses.gateway_url
        self._key = addresses.key
        self._key_file = addresses.key_file
        self._actor = _actor()
        self._metadata: dict[str, EndpointMetadata] = {}

    def base_url(self, plane: Plane) -> str:
        """The base URL of a plane; the gateway's must have been located."""
        return self.control_url if plane is Plane.CONTROL else self.gateway_url or ""

    def headers(self, call: Call[Any]) -> dict[str, str]:
        """The headers of a call, with who asks and the proof of it."""
        proof = {"authorization": f"Bearer {self._key}"} if self._key else {}
        return {**call.headers, **proof, "x-shipway-actor": self._actor}

    @property
    def proof_in_shell(self) -> str:
        """The header that presents the key, for a shell and without the key in it; empty without one."""
        if not self._key:
            return ""
        key = (
            "$SHIPWAY_API_KEY" if self._key_file is None else f"$(cat {quote(str(self._key_file))})"
        )
        return f"Authorization: Bearer {key}"

    def located(self) -> Flow[None]:
        """Asks control for a gateway, unless one is known.

        Raises:
            NoReadyReplica: no gateway has reported to control.
        """
        if self.gateway_url is not None:
            return
        status = yield calls.status()
        known = [gateway.address for gateway in status.gateways if gateway.address]
        if not known:
            raise NoReadyReplica(
                f"No gateway has reported to control at `{self.control_url}`.",
                next_step="Start one with `shipway gateway`, or name it: `Client(gateway=…)`.",
            )
        address = known[0]
        self.gateway_url = address if "://" in address else f"http://{address}"

    def metadata(self, endpoint: str) -> Flow[EndpointMetadata]:
        """What an endpoint takes, as last heard."""
        known = self._metadata.get(endpoint)
        if known is None:
            known = yield calls.metadata(endpoint)
            self._metadata[endpoint] = known
        return known

    def forget(self, endpoint: str) -> EndpointMetadata | None:
        """Drops what was heard of an endpoint, and returns it."""
        return self._metadata.pop(endpoint, None)


def _actor() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
