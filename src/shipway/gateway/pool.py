"""The replica processes of one variant: links that are kept, and the choice of one per request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from time import monotonic

from shipway.core.errors import DeadlineExceeded, NoReadyReplica, ReplicaLost
from shipway.core.outputs import Outputs
from shipway.core.tensors import Array
from shipway.wire.link import Link, connect
from shipway.wire.snapshot import ReplicaAddress

PING_EVERY_S = 0.4
PING_TIMEOUT_S = 1.0
RECONNECT_MIN_S = 0.05
RECONNECT_MAX_S = 0.5


class ReplicaPool:
    """Links to the replica processes of one variant, kept open, pinged and reconnected.

    The link of a replica that is expected no more takes no new requests, and is closed once those
    inside it are answered.
    """

    def __init__(self, *, on_change: Callable[[], None]) -> None:
        self._deadline_s = 0.0
        self._on_change = on_change
        self._wanted: frozenset[str] = frozenset()
        self._links: dict[str, Link] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self.error = ""

    @property
    def is_ready(self) -> bool:
        """Whether at least one replica is connected and answers pings."""
        return bool(self._links)

    def expect(self, addresses: Iterable[ReplicaAddress], *, deadline_s: float) -> None:
        """Keeps links to exactly these replicas from now on.

        One that is longer than `deadline_s` in a model call is called no more until it is through.
        """
        self._deadline_s = deadline_s
        self._wanted = frozenset(replica.address for replica in addresses)
        for address in self._links.keys() - self._wanted:
            del self._links[address]
        for address in self._wanted - self._keepers.keys():
            self._keepers[address] = asyncio.ensure_future(self._keep(address))

    def run_now(self, inputs: Mapping[str, Array]) -> Outputs | None:
        """See Runner. A replica is always waited for."""
        return None

    async def infer(self, inputs: Mapping[str, Array], *, timeout_s: float) -> Outputs:
        """See Runner. A request whose replica goes away is tried once more on another one.

        Both tries share the one deadline.
        """
        until = monotonic() + timeout_s
        first = self._least_busy(None)
        try:
            return await self._ask(first, inputs, timeout_s)
        except ReplicaLost:
            left_s = max(0.0, until - monotonic())
            return await self._ask(self._least_busy(first), inputs, left_s)

    async def _ask(self, link: Link, inputs: Mapping[str, Array], timeout_s: float) -> Outputs:
        try:
            return await link.infer(inputs, timeout_s=timeout_s)
        except TimeoutError as exc:
            raise DeadlineExceeded(
                "No answer within the endpoint's deadline.",
                next_step="Send fewer rows, or raise `limits.deadline_ms` of the endpoint.",
            ) from exc

    def _least_busy(self, other_than: Link | None) -> Link:
        ready = [link for link in self._links.values() if link is not other_than and link.is_open]
        if not ready:
            raise NoReadyReplica("No replica is ready.", retry_after_s=1)
        return min(ready, key=lambda link: link.outstanding)

    async def _keep(self, address: str) -> None:
        """Connects, pings, and connects again, until it is wanted no more."""
        pause_s = RECONNECT_MIN_S
        while address in self._wanted:
            if await self._attend(address):
                pause_s = RECONNECT_MIN_S
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, RECONNECT_MAX_S)
        del self._keepers[address]

    async def _attend(self, address: str) -> bool:
        """Holds one link for as long as its replica is well; gives whether it ever was."""
        link: Link | None = None
        was_well = False
        try:
            link = await connect(address)
            link.on_lost = partial(self._drop, address, link)
            while link.is_open:
                pong = await link.ping(timeout_s=PING_TIMEOUT_S)
                if pong.busy_s > self._deadline_s:
                    break
                if address not in self._wanted and not link.outstanding:
                    break
                was_well = True
                self._take(address, link)
                await asyncio.sleep(PING_EVERY_S)
        except (TimeoutError, ReplicaLost):
            pass
        finally:
            if link is not None:
                self._drop(address, link)
                link.close()
        return was_well

    def _take(self, address: str, link: Link) -> None:
        if address in self._wanted and address not in self._links:
            self._links[address] = link
            self._on_change()

    def _drop(self, address: str, link: Link) -> None:
        if self._links.get(address) is link:
            del self._links[address]
            self._on_change()

    def close(self) -> None:
        """See Runner."""
        self._wanted = frozenset()
        for keeper in self._keepers.values():
            keeper.cancel()
        self._keepers.clear()
