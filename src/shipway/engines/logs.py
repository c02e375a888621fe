"""How this program's own log lines look, whatever strangers put into them: in a line, without passwords."""

from __future__ import annotations

import logging

from shipway.core.masking import masked
from shipway.core.text import indented


class PlainFormatter(logging.Formatter):
    """Logging's formatter, of whose output each record has one line that begins at the margin; passwords of URLs are masked."""

    def format(self, record: logging.LogRecord) -> str:
        """Called by logging."""
        return indented(masked(super().format(record)))


def log_to_stderr() -> None:
    """Sends what the loggers write to stderr, from INFO up."""
    handler = logging.StreamHandler()
    handler.setFormatter(PlainFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
