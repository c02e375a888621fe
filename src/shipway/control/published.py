"""The snapshots published lately, by the replicas that they name."""

from __future__ import annotations

from collections import deque

import msgspec

from shipway.core.observed import GatewayEvidence, Observed
from shipway.wire.snapshot import Snapshot

KEPT = 100
"""So many snapshots are remembered; a gateway further behind is waited for."""


class PublishedHistory:
    """Which replicas a gateway may still call, by the revision that it reported.

    Where models come and go many times a second, a gateway is hardly ever seen with the newest
    snapshot. What counts for ending a replica is whether its own or any later one names it.
    """

    def __init__(self) -> None:
        self._published: deque[tuple[str, frozenset[str]]] = deque(maxlen=KEPT)

    def note(self, snapshot: Snapshot) -> None:
        """Remembers a snapshot that is published now."""
        names = frozenset(
            replica.id
            for route in snapshot.routes
            for variant in route.variants
            for replica in variant.replicas
        )
        self._published.append((snapshot.revision, names))

    def placed(self, observed: Observed, snapshot: Snapshot | None) -> Observed:
        """What was observed, with the present revision and what each gateway may still call."""
        return msgspec.structs.replace(
            observed,
            revision=snapshot.revision if snapshot is not None else "",
            gateways=tuple(self._with_names(gateway) for gateway in observed.gateways),
        )

    def _with_names(self, gateway: GatewayEvidence) -> GatewayEvidence:
        names: set[str] = set()
        for revision, named in reversed(self._published):
            names |= named
            if revision == gateway.revision:
                return msgspec.structs.replace(gateway, names=frozenset(names))
        return gateway
