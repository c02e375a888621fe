"""What the object store and the file system raise, as Shipway's own errors."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from obstore.exceptions import BaseError

from shipway.core.errors import StoreUnavailable
from shipway.core.masking import masked

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_CHECK = "Check `SHIPWAY_ARTIFACTS_URL`, its credentials and that it answers, then try again."


@contextmanager
def translated_faults(location: str) -> Iterator[None]:
    """Turns what goes wrong with the artifact store inside the block into `StoreUnavailable`."""
    try:
        yield
    except OSError as exc:
        raise _of_disk(exc, location) from exc
    except BaseError as exc:
        raise _of_store(exc, location) from exc


def _of_disk(exc: OSError, location: str) -> StoreUnavailable:
    full = exc.errno in _FULL
    step = "Free some space on its disk" if full else "Make it readable and writable"
    return StoreUnavailable(
        f"The artifact store `{location}` cannot be used: {exc.strerror or exc}.",
        next_step=f"{step}, then try again.",
    )


def _of_store(exc: BaseError, location: str) -> StoreUnavailable:
    reason = next(iter(masked(str(exc)).splitlines()), type(exc).__name__)[:300].rstrip(".")
    full = "No space left" in reason or "File too large" in reason
    return StoreUnavailable(
        f"The artifact store `{location}` cannot be used: {reason}.",
        next_step="Free some space on its disk, then try again." if full else _CHECK,
    )
