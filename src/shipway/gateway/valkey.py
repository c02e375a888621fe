"""Kept answers in Valkey (or Redis), shared by all gateways that have its URL.

Nothing that happens to Valkey happens to a request: see `gateway.valkey_link`. Each command has 50 ms. A
reply that refuses (out of memory, another type under the key, read only) and a value that is no answer
are misses.
"""

from __future__ import annotations

from shipway.core.outputs import Outputs
from shipway.gateway.valkey_link import Purpose, ValkeyLink
from shipway.wire.answers import decode_answer, encode_answer, name_of

TIMEOUT_S = 0.05

MAX_VALUE_BYTES = 8 * 1024 * 1024
"""A larger answer is not kept: it would not come back within the time."""

MAX_TTL_S = 10 * 365 * 24 * 3600.0
"""Valkey refuses times that end beyond its calendar."""

_PURPOSE = Purpose(
    what="The response cache", without="Requests run the model.", again="takes answers again"
)


class ValkeyStore:
    """See `gateway.cache.SharedStore`."""

    def __init__(self, url: str) -> None:
        """Connects to nothing yet, and imports no client."""
        self._link = ValkeyLink(url, _PURPOSE, timeout_s=TIMEOUT_S)

    @property
    def is_up(self) -> bool:
        """See SharedStore."""
        return self._link.is_up

    def start(self) -> None:
        """See SharedStore."""
        self._link.start()

    async def get(self, key: bytes) -> Outputs | None:
        """See SharedStore."""
        value = await self._link.asked(lambda client: client.get(name_of(key)))
        return decode_answer(key, value) if isinstance(value, bytes) else None

    async def put(self, key: bytes, outputs: Outputs, *, ttl_s: float) -> None:
        """See SharedStore."""
        if not self.is_up:
            return
        value = encode_answer(key, outputs)
        if len(value) > MAX_VALUE_BYTES:
            return
        ttl_ms = max(1, int(min(ttl_s, MAX_TTL_S) * 1000))
        if await self._link.asked(lambda client: client.set(name_of(key), value, px=ttl_ms)):
            self._link.log.accepts()

    async def close(self) -> None:
        """Ends the watch and the connections; idempotent."""
        await self._link.close()
