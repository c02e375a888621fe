"""How much a gateway's spool may hold, and when a segment of it is full."""

from __future__ import annotations

import msgspec

MB = 1024 * 1024


class SpoolBounds(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds of a spool."""

    queue_items: int = 65_536
    """So many predictions wait for the writer at most; one more is lost."""

    queue_bytes: int = 64 * MB
    """And so much of them in memory."""

    segment_age_s: float = 2.0
    """A segment with content is sealed after so long, for control to take."""

    segment_bytes: int = 8 * MB
    """Or once it is so large."""

    longest_bytes: int = 48 * MB
    """No frame, and no segment that others follow in, is longer: control takes segments of 64 MiB."""

    most_bytes: int = 1024 * MB
    """All segments on this machine together: what waits while control is away."""

    reserve_ratio: float = 0.05
    """So much of the disk is left free, for others."""

    reserve_bytes: int = 256 * MB
    """Or so much, if that is less."""

    def is_full(self, *, age_s: float, size_bytes: int) -> bool:
        """Whether a segment that has content is to be sealed."""
        return age_s >= self.segment_age_s or size_bytes >= self.segment_bytes

    def room_bytes(self, *, used: int, free: int, total: int) -> int:
        """How much may be written where segments have `used` bytes, and the disk `free` of `total`."""
        reserve = min(int(total * self.reserve_ratio), self.reserve_bytes)
        return max(0, min(self.most_bytes - used, free - reserve))
