"""How long a caller may take to send a request, or to read an answer."""

from __future__ import annotations

import msgspec


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """What a server waits for before it gives a caller up.

    A request has `grace_s`, and a second more for each `least_bytes_per_s` of it that has arrived: a byte
    now and then does not keep a connection, and a large body on a slow line does.
    """

    idle_s: float = 75.0
    """A connection on which nothing moves for so long is closed, in the middle of a request or between two."""

    grace_s: float = 30.0
    least_bytes_per_s: float = 16 * 1024

    look_every_s: float = 5.0
    """How often the server looks; everything may last so much longer."""

    def is_too_slow(self, *, elapsed_s: float, received_bytes: int) -> bool:
        """Whether a request that began so long ago should be further by now.

        With the defaults, 160 KiB may take 40 s: `is_too_slow(elapsed_s=41, received_bytes=163840)`.
        """
        return elapsed_s > self.grace_s + received_bytes / self.least_bytes_per_s
