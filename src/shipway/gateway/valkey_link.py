"""A connection to Valkey (or Redis) that a gateway can do without.

Each command has its time. After three commands in a row that got no reply, Valkey counts as out: nobody
asks it, until a ping in the background is answered in time again. The log has one line when it goes out
or refuses, and one when it is back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from shipway.core.masking import masked
from shipway.engines.incidents import log_unexpected
from shipway.engines.logs import say

if TYPE_CHECKING:
    from valkey.asyncio import Valkey

CONNECT_TIMEOUT_S = 1.0
FAILURES = 3
PROBE_MIN_S = 0.1
PROBE_MAX_S = 2.0
CONNECTIONS = 16
"""Commands at once; others wait their turn, within their time."""

Command = Callable[["Valkey"], Awaitable[Any]]

_LOST = (OSError, TimeoutError, RuntimeError, ValueError)
"""What a broken connection raises beside the client's own errors: uvloop's transports raise
RuntimeError when closed, the parser ValueError on bytes of another protocol."""


class Purpose(msgspec.Struct, frozen=True, kw_only=True):
    """What a Valkey is for, in the words of the log: `without` says how things go on without it."""

    what: str
    without: str
    again: str


class ValkeyLink:
    """One Valkey, asked while it is up. Nothing that happens to it raises.

    `reached` is set once it was up.
    """

    def __init__(self, url: str, purpose: Purpose, *, timeout_s: float) -> None:
        """Connects to nothing yet, and imports no client."""
        self._url = url
        self._timeout_s = timeout_s
        self._client: Valkey | None = None
        self._watching: asyncio.Task[None] | None = None
        self._out = asyncio.Event()
        self._turns = asyncio.Semaphore(CONNECTIONS)
        self._failures = 0
        self._purpose = purpose
        self.log = LinkLog(_place_of(url), purpose)
        self.reached = asyncio.Event()
        self.is_up = False

    def start(self) -> None:
        """Begins to connect, on the running loop; idempotent."""
        if self._watching is None:
            self._watching = asyncio.ensure_future(self._watch())
            self._watching.add_done_callback(self._log_end)

    async def asked(self, command: Command) -> Any:
        """The reply; None for none in time, for a refusal, and while it is out."""
        if self._client is None or not self.is_up:
            return None
        was_asked = False
        try:
            async with asyncio.timeout(self._timeout_s):
                # Not the pool's own waiting: there, who releases a connection takes it again first.
                async with self._turns:
                    was_asked = True
                    return await self._replied(command)
        except TimeoutError:
            if was_asked:
                self._fail(TimeoutError(f"no reply within {self._timeout_s * 1000:g} ms"))
            return None

    async def close(self) -> None:
        """Ends the watch and the connections; idempotent."""
        self.is_up = False
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose(close_connection_pool=True)

    def _log_end(self, watching: asyncio.Task[None]) -> None:
        error = None if watching.cancelled() else watching.exception()
        if error is not None:
            log_unexpected(error, heading=f"{self._purpose.what} is given up.\n")

    async def _replied(self, command: Command) -> Any:
        from valkey.exceptions import ResponseError, ValkeyError

        if self._client is None or not self.is_up:
            return None
        try:
            reply = await command(self._client)
        except ResponseError as exc:
            self._failures = 0
            self.log.refuses(exc)
        except (ValkeyError, *_LOST) as exc:
            self._fail(exc)
        else:
            self._failures = 0
            return reply
        return None

    def _fail(self, exc: Exception) -> None:
        self._failures += 1
        if self.is_up and self._failures >= FAILURES:
            self.is_up = False
            self.log.is_out(exc)
            self._out.set()

    async def _watch(self) -> None:
        """Pings until Valkey answers, and again whenever it went out."""
        # Not on the event loop: the client takes a tenth of a second to import.
        self._client = await asyncio.to_thread(_client_of, self._url)
        if self._client is None:
            self.log.is_out(ValueError("the URL is not one of a Valkey"))
            return
        pause_s = PROBE_MIN_S
        while True:
            since = monotonic()
            if await self._answers(self._client):
                await self._until_out()
            # One that answers pings and nothing else is asked less and less often.
            was_well = monotonic() - since > PROBE_MAX_S
            pause_s = PROBE_MIN_S if was_well else min(pause_s * 2, PROBE_MAX_S)
            await asyncio.sleep(pause_s)

    async def _until_out(self) -> None:
        self._failures = 0
        self._out.clear()
        self.is_up = True
        self.reached.set()
        self.log.is_back()
        await self._out.wait()

    async def _answers(self, client: Valkey) -> bool:
        from valkey.exceptions import ValkeyError

        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await client.ping()
            async with asyncio.timeout(self._timeout_s):
                await client.ping()
        except (ValkeyError, *_LOST) as exc:
            self.log.is_out(exc)
            return False
        return True


class LinkLog:
    """Says what changed, once."""

    def __init__(self, place: str, purpose: Purpose) -> None:
        self._place = place
        self._purpose = purpose
        self._said_out = False
        self._said_refused = False

    def is_out(self, exc: Exception) -> None:
        """Valkey does not answer."""
        if not self._said_out:
            self._said_out = True
            why = str(exc) or type(exc).__name__
            self._write(f"does not answer: {why}. {self._purpose.without}")

    def is_back(self) -> None:
        """It answers again."""
        if self._said_out:
            self._said_out = False
            self._write("answers again.")

    def refuses(self, exc: Exception) -> None:
        """It answers, and does not do what it is asked."""
        if not self._said_refused:
            self._said_refused = True
            self._write(f"refuses: {exc}. {self._purpose.without}")

    def accepts(self) -> None:
        """It does it again."""
        if self._said_refused:
            self._said_refused = False
            self._write(f"{self._purpose.again}.")

    def _write(self, fact: str) -> None:
        say(f"{self._purpose.what} at {self._place} {fact}")


def _client_of(url: str) -> Valkey | None:
    from valkey.asyncio import ConnectionPool, Valkey

    try:
        pool = ConnectionPool.from_url(
            url,
            max_connections=2 * CONNECTIONS,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            lib_name=None,
            lib_version=None,
        )
    except ValueError:
        return None
    return Valkey.from_pool(pool)


def _place_of(url: str) -> str:
    """Where a URL points, without its password, which may hold what ends a host name."""
    try:
        parts = urlsplit(masked(url))
    except ValueError:
        return "an unreadable URL"
    return parts.netloc.rpartition("@")[2] or parts.path
