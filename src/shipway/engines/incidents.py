"""What model code raised: to the log under an id, to the caller as the id alone."""

from __future__ import annotations

import secrets
import sys
import traceback
from contextlib import suppress
from time import time  # noqa: TID251 - when a line was written

from shipway.core.errors import ModelFailed
from shipway.core.masking import masked
from shipway.core.text import indented
from shipway.engines.logs import is_json, json_line

REDACTS = "SHIPWAY_REDACTS"
"""Set in the environment of a replica whose endpoint redacts: an exception's message may quote a value."""


def model_failed(
    exc: BaseException, *, whose: str, redacts: bool = False, trace: str = ""
) -> ModelFailed:
    """The error for a caller, once the traceback is in the log of this process.

    `whose` says whose log that is, `trace` which trace the request belongs to (a `traceparent`). With `redacts`, the log has no messages of exceptions, which may
    quote a caller's values.
    """
    incident = secrets.token_hex(6)
    heading = f"incident {incident}: the model raised\n"
    if redacts:
        _write(heading + _without_messages(exc), trace)
    else:
        log_unexpected(exc, heading=heading, trace=trace)
    return ModelFailed(
        "The model's code raised an error.",
        next_step=f"{whose} log has the traceback under incident `{incident}`.",
        incident=incident,
    )


def log_unexpected(exc: BaseException, *, heading: str = "", trace: str = "") -> None:
    """Writes the traceback, without passwords of URLs, to this process's log."""
    _write(heading + masked("".join(traceback.format_exception(exc))), trace)


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


def _write(text: str, trace: str) -> None:
    """Writes to this process's log.

    A log that cannot be written, because its disk is full or model code closed it, must not turn
    one failure into a dead process. Nor may the model's own settings of `logging` swallow the line.
    """
    trace_id = trace.split("-")[1] if trace.count("-") == 3 else ""
    with suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(_line(text.rstrip("\n"), trace_id) + "\n")
        sys.stderr.flush()


def _line(text: str, trace_id: str) -> str:
    if is_json():
        of_trace = {"trace_id": trace_id} if trace_id else {}
        return json_line("ERROR", "shipway.incidents", text, time(), **of_trace)
    first, _, rest = text.partition("\n")
    of_trace_text = f" (trace {trace_id})" if trace_id else ""
    return indented(f"{first}{of_trace_text}\n{rest}" if rest else first + of_trace_text)
