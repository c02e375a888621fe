"""How this program's own log lines look, whatever strangers put into them."""

from __future__ import annotations

import logging

from shipway.core.text import indented


class PlainFormatter(logging.Formatter):
    """Logging's formatter, of whose output each record has one line that begins at the margin."""

    def format(self, record: logging.LogRecord) -> str:
        """Called by logging."""
        return indented(super().format(record))


def log_to_stderr(form: str) -> None:
    """Sends what the loggers write to stderr, from INFO up; `form` is logging's own format."""
    handler = logging.StreamHandler()
    handler.setFormatter(PlainFormatter(form))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
