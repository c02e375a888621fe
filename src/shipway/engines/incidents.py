"""What model code raised: to the log under an id, to the caller as the id alone."""

from __future__ import annotations

import secrets
import traceback

from shipway.core.errors import ModelFailed
from shipway.core.masking import masked
from shipway.engines.logs import is_json, say

LOGGER = "shipway.incidents"
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


def log_unexpected(
    exc: BaseException, *, heading: str = "", trace: str = "", logger: str = LOGGER
) -> None:
    """Writes the traceback, without passwords of URLs, to this process's log."""
    _write(heading + masked("".join(traceback.format_exception(exc))), trace, logger=logger)


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


def _write(text: str, trace: str, *, logger: str = LOGGER) -> None:
    """Writes to this process's log; the model's own settings of `logging` cannot swallow it."""
    trace_id = trace.split("-")[1] if trace.count("-") == 3 else ""
    text = text.rstrip("\n")
    if trace_id and not is_json():
        first, newline, rest = text.partition("\n")
        text = f"{first} (trace {trace_id}){newline}{rest}"
    of_trace = {"trace_id": trace_id} if trace_id else {}
    say(text, level="ERROR", logger=logger, **of_trace)
