"""What model code raised: to the log under an id, to the caller as the id alone."""

from __future__ import annotations

import secrets
import sys
import traceback
from contextlib import suppress

from shipway.core.errors import ModelFailed
from shipway.core.masking import masked
from shipway.core.text import indented

REDACTS = "SHIPWAY_REDACTS"
"""Set in the environment of a replica whose endpoint redacts: an exception's message may quote a value."""


def model_failed(
    exc: BaseException, *, whose: str, redacts: bool = False, trace: str = ""
) -> ModelFailed:
    """The error for a caller, once the traceback is in the log of this process.

    `whose` says whose log that is, `trace` which trace the request belongs to. With `redacts`, the log has no messages of exceptions, which may
    quote a caller's values.
    """
    incident = secrets.token_hex(6)
    of_trace = f" in trace {trace}" if trace else ""
    heading = f"incident {incident}{of_trace}: the model raised\n"
    if redacts:
        _write(heading + _without_messages(exc))
    else:
        log_unexpected(exc, heading=heading)
    return ModelFailed(
        "The model's code raised an error.",
        next_step=f"{whose} log has the traceback under incident `{incident}`.",
        incident=incident,
    )


def log_unexpected(exc: BaseException, *, heading: str = "") -> None:
    """Writes the traceback, without passwords of URLs, to this process's log."""
    _write(heading + masked("".join(traceback.format_exception(exc))))


def _without_messages(exc: BaseException) -> str:
    """Where each exception of the chain was raised and of which kind, the last one last."""
    links: list[str] = []
    seen: set[int] = set()
    link: BaseException | None = exc
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        frames = "".join(traceback.format_tb(link.__traceback__))
        links.insert(0, f"{frames}{type(link).__name__}: (`capture.redact`: no message is kept)\n")
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return "".join(links)


def _write(text: str) -> None:
    """Writes to this process's log.

    A log that cannot be written, because its disk is full or model code closed it, must not turn
    one failure into a dead process.
    """
    with suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(indented(text.rstrip("\n")) + "\n")
        sys.stderr.flush()
