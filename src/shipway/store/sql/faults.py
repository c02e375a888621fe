"""What SQLAlchemy and its drivers raise, as Shipway's own errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import exc

from shipway.core.errors import StoreUnavailable
from shipway.core.masking import masked

_HINTS = (
    ("locked", "Another process holds it; try again, or stop the other process."),
    ("lock timeout", "Another process holds it; try again, or stop the other process."),
    ("full", "Free some space on its disk, then try again."),
    ("No space left", "Free some space on its disk, then try again."),
    ("readonly", "Make the database file and its directory writable."),
    ("not a database", "Restore the file from a backup."),
    ("malformed", "Restore the file from a backup."),
    ("password authentication", "Correct the user and password in `SHIPWAY_DATABASE_URL`."),
    ("does not exist", "Create the database, or correct `SHIPWAY_DATABASE_URL`."),
)
_OTHERWISE = "Check that the database runs and that its disk has space, then try again."


@contextmanager
def translated_faults() -> Iterator[None]:
    """Turns a lost connection, a lock or a full disk inside the block into `StoreUnavailable`.

    Broken constraints and wrong SQL pass through: they are bugs of ours.
    """
    try:
        yield
    except (exc.IntegrityError, exc.ProgrammingError, exc.DataError, exc.NotSupportedError):
        raise
    except (exc.DBAPIError, exc.TimeoutError) as fault:
        raise _unavailable(fault) from fault


def _unavailable(fault: exc.SQLAlchemyError) -> StoreUnavailable:
    cause = getattr(fault, "orig", None) or fault
    said = masked(str(cause).strip())
    reason = next(iter(said.splitlines()), type(cause).__name__).rstrip(".")
    hint = next((step for word, step in _HINTS if word in reason), _OTHERWISE)
    return StoreUnavailable(f"The database cannot be used: {reason}.", next_step=hint)
