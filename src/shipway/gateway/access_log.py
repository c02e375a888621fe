"""One line for each request, where `SHIPWAY_ACCESS_LOG` asks for it: what was asked, never what with."""

from __future__ import annotations

import logging
from typing import Any

from shipway.gateway.traces import Trace
from shipway.wire.request_ids import shown

_log = logging.getLogger("shipway.access")


def note_access(trace: Trace, *, status: int, seconds: float) -> None:
    """Writes the line of a request that is over. The status of other protocols is told as HTTP's."""
    if not _log.isEnabledFor(logging.INFO):
        return
    about: dict[str, Any] = {
        "request_id": shown(trace.request_id),
        "trace_id": trace.trace_id.hex(),
        "endpoint": shown(trace.endpoint),
        "version": trace.version,
        "status": status,
        "duration_ms": round(seconds * 1000, 3),
    }
    if trace.error is not None:
        about["error"] = trace.error.code
    _log.info("%s %s in %.1f ms", about["endpoint"], status, about["duration_ms"], extra=about)
