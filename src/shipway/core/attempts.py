"""How often somebody may show a wrong credential: so many in a minute from one address.

Many share an address, all of one machine above all. So credentials that were good once are examined
whatever others from there do wrong; they are remembered by their SHA-256.
"""

from __future__ import annotations

from hashlib import sha256

from shipway.core.errors import TooManyAttempts

WINDOW_S = 60.0
MOST = 20
"""Wrong credentials from one address in a window, before it has to wait for the next one."""

MAX_SOURCES = 4096
"""So many addresses are told apart; those beyond share one count."""

MAX_GOOD = 8192
"""So many good credentials are remembered; then it begins anew."""

_OTHERS = ""


class Attempts:
    """Counts failures by source in fixed windows. Told the time, in steady seconds."""

    def __init__(self) -> None:
        self._failed: dict[str, tuple[float, int]] = {}
        self._good: set[bytes] = set()

    def require_patience(self, source: str, credential: bytes, now_s: float) -> None:
        """Lets a credential be examined.

        Raises:
            TooManyAttempts: its source has to wait.
        """
        wait_s = self.wait_s(source, credential, now_s)
        if wait_s > 0:
            raise TooManyAttempts(
                "Too many wrong credentials came from your address.",
                next_step=f"Wait {wait_s:.0f} s.",
                retry_after_s=wait_s,
            )

    def wait_s(self, source: str, credential: bytes, now_s: float) -> float:
        """How long the source must wait before this credential is examined; 0 when it need not."""
        since_s, count = self._failed.get(self._counted_as(source), (now_s, 0))
        left_s = since_s + WINDOW_S - now_s
        if count < MOST or left_s <= 0 or sha256(credential).digest() in self._good:
            return 0.0
        return left_s

    def note_success(self, credential: bytes) -> None:
        """Remembers a credential that was good."""
        if len(self._good) >= MAX_GOOD:
            self._good.clear()
        self._good.add(sha256(credential).digest())

    def note_failure(self, source: str, now_s: float) -> None:
        """Counts one wrong credential."""
        if source not in self._failed and len(self._failed) >= MAX_SOURCES:
            oldest_s = now_s - WINDOW_S
            self._failed = {s: seen for s, seen in self._failed.items() if seen[0] > oldest_s}
        counted_as = self._counted_as(source)
        since_s, count = self._failed.get(counted_as, (now_s, 0))
        if now_s - since_s >= WINDOW_S:
            since_s, count = now_s, 0
        self._failed[counted_as] = (since_s, count + 1)

    def _counted_as(self, source: str) -> str:
        is_told_apart = source in self._failed or len(self._failed) < MAX_SOURCES
        return source if is_told_apart else _OTHERS
