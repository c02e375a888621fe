"""What model code raised: to the log under an id, to the caller as the id alone."""

from __future__ import annotations

import secrets
import sys
import traceback
from contextlib import suppress

from shipway.core.errors import ModelFailed
from shipway.core.text import indented


def model_failed(exc: BaseException, *, whose: str) -> ModelFailed:
    """The error for a caller, once the traceback is in the log of this process.

    `whose` says whose log that is.
    """
    incident = secrets.token_hex(6)
    log_unexpected(exc, heading=f"incident {incident}: the model raised\n")
    return ModelFailed(
        "The model's code raised an error.",
        next_step=f"{whose} log has the traceback under incident `{incident}`.",
        incident=incident,
    )


def log_unexpected(exc: BaseException, *, heading: str = "") -> None:
    """Writes the traceback to this process's log.

    A log that cannot be written, because its disk is full or model code closed it, must not turn
    one failure into a dead process.
    """
    with suppress(OSError, ValueError, AttributeError):
        told = heading + "".join(traceback.format_exception(exc))
        sys.stderr.write(indented(told.rstrip("\n")) + "\n")
        sys.stderr.flush()
