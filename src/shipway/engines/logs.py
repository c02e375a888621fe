"""How this program's own log lines look, whatever strangers put into them: in a line, without passwords."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from time import time  # noqa: TID251 - when a line was written

import msgspec

from shipway.core.masking import masked
from shipway.core.text import indented, printable_json

LOG_FORMAT = "SHIPWAY_LOG_FORMAT"
"""The variable that says how lines look: `text`, or `json` for one object a line."""

FIELDS = (
    *("request_id", "trace_id", "endpoint", "version", "status", "duration_ms", "error"),
    *("method", "path"),
)
"""What a record may say beside its message; given to a logger as `extra`."""

_IDS = ("request_id", "trace_id")
MOST_CHARACTERS = 32_768
"""A longer message is cut in JSON: collectors refuse long lines."""


def is_json(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether lines of logs are JSON."""
    return environment.get(LOG_FORMAT, "").strip().lower() == "json"


class PlainFormatter(logging.Formatter):
    """Logging's formatter, of whose output each record has one line that begins at the margin; passwords of URLs are masked.

    Behind the message are the ids by which a record is found.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Called by logging."""
        found = about(record)
        ids = "".join(f" {name}={found[name]}" for name in _IDS if name in found)
        return super().formatMessage(record) + ids

    def format(self, record: logging.LogRecord) -> str:
        """Called by logging."""
        return indented(masked(super().format(record)))


class JsonFormatter(logging.Formatter):
    """One JSON object for each record, in one line; passwords of URLs are masked."""

    def format(self, record: logging.LogRecord) -> str:
        """Called by logging."""
        return json_line(
            record.levelname, record.name, whole_message(record), record.created, **about(record)
        )


def about(record: logging.LogRecord) -> dict[str, object]:
    """What a record says beside its message, by the names in `FIELDS`; what is empty is left out."""
    found = ((name, record.__dict__.get(name)) for name in FIELDS)
    return {name: value for name, value in found if value not in (None, "")}


def whole_message(record: logging.LogRecord) -> str:
    """A record's message, with the traceback that it carries."""
    text = record.getMessage()
    if record.exc_info:
        text += "\n" + _plain.formatException(record.exc_info)
    return text


def json_line(level: str, logger: str, message: str, at_s: float, **fields: object) -> str:
    """A line of a log as JSON, whose text a terminal shows and never obeys. `at_s` is since 1970."""
    members = {
        "time": datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds"),
        "level": level,
        "logger": logger,
        "message": masked(message)[:MOST_CHARACTERS],
        **{name: masked(v) if isinstance(v, str) else v for name, v in fields.items()},
    }
    text = msgspec.json.encode(_sound(members), enc_hook=str)
    return printable_json(text).decode()


def _sound(members: dict[str, object]) -> dict[str, object]:
    """The members without lone surrogates, which are no JSON."""
    return {
        name: value.encode("utf-8", "backslashreplace").decode()
        if isinstance(value, str)
        else value
        for name, value in members.items()
    }


LISTENERS: list[Callable[[logging.LogRecord], object]] = []
"""What `say` tells beside the log: called by any thread; must not wait, and raises nothing."""


def say(
    text: str, *, level: str = "WARNING", logger: str = "shipway.gateway", **fields: object
) -> None:
    """Writes one line to this process's log without the loggers, for what must not fail or get lost.

    A log that cannot be written, because its disk is full or model code closed it, must not turn
    one failure into a dead process. `fields` are some of `FIELDS`.
    """
    is_object = is_json()
    line = json_line(level, logger, text, time(), **fields) if is_object else indented(masked(text))
    with suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
    if LISTENERS:
        number = logging.getLevelNamesMapping()[level]
        record = logging.LogRecord(logger, number, "", 0, text, None, None)
        record.__dict__.update(fields)
        for listen in LISTENERS.copy():
            listen(record)


_plain = logging.Formatter()


def log_to_stderr(environment: Mapping[str, str] = os.environ) -> None:
    """Sends what the loggers write to stderr, from INFO up, in the form that the environment asks for."""
    handler = logging.StreamHandler()
    handler.setFormatter(
        JsonFormatter()
        if is_json(environment)
        else PlainFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for chatty in ("httpx", "httpcore"):  # a line for each of our own calls
        logging.getLogger(chatty).setLevel(logging.WARNING)
