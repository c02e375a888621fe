"""What the loggers write, on its way to a collector too."""

from __future__ import annotations

import logging

from shipway.core.masking import masked
from shipway.engines.logs import about, whole_message
from shipway.otlp.encoding import Line
from shipway.otlp.outbox import Outbox

_OWN = "shipway.otlp"
_SEVERITY = {logging.DEBUG: 5, logging.INFO: 9, logging.WARNING: 13, logging.ERROR: 17}
_FATAL = 21
MOST_CHARACTERS = 32_768


class OtlpHandler(logging.Handler):
    """A handler of `logging` that offers records to an outbox; what sending itself says is left out."""

    def __init__(self, outbox: Outbox[Line]) -> None:
        super().__init__(logging.INFO)
        self._outbox = outbox

    def emit(self, record: logging.LogRecord) -> None:
        """Called by logging."""
        if record.name.startswith(_OWN):
            return
        self._outbox.offer(line_of(record))


def line_of(record: logging.LogRecord) -> Line:
    """A record of `logging` as one of OTLP, without passwords of URLs."""
    fields = about(record)
    trace_id = str(fields.pop("trace_id", ""))
    severity = next((n for level, n in _SEVERITY.items() if record.levelno <= level), _FATAL)
    return Line(
        time_ns=int(record.created * 1e9),
        severity=severity,
        level=record.levelname,
        message=_sound(masked(whole_message(record))[:MOST_CHARACTERS]),
        attributes={
            "logger": record.name,
            **{
                f"shipway.{name}": value
                if isinstance(value, bool | int | float)
                else _sound(str(value))
                for name, value in fields.items()
            },
        },
        trace_id=bytes.fromhex(trace_id) if len(trace_id) == 32 else b"",
    )


def _sound(text: str) -> str:
    """Without lone surrogates, which protobuf refuses."""
    return text.encode("utf-8", "backslashreplace").decode()
