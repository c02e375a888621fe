"""What nobody expected, as an error that callers can be told."""

from __future__ import annotations

from shipway.core.errors import Bug, ShipwayError
from shipway.engines.incidents import log_unexpected
from shipway.gateway.traces import own_header


def known(exc: Exception) -> ShipwayError:
    """The error itself, or the Bug that stands for what nobody expected; that goes to the log."""
    if isinstance(exc, ShipwayError):
        return exc
    log_unexpected(exc, trace=own_header())
    return Bug("The gateway failed.", next_step="See the gateway's log.")
