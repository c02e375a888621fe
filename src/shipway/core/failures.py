"""How a process that cannot do its work says why: one JSON line, its last word."""

from __future__ import annotations

import msgspec

from shipway.core.errors import ShipwayError, error_of


class LastWord(msgspec.Struct, frozen=True, kw_only=True):
    """The line `{"error": code, "message": …, "next_step": …}` that a process writes before it ends."""

    error: str
    message: str
    next_step: str = ""

    @classmethod
    def of(cls, error: ShipwayError) -> LastWord:
        """The last word that carries this error."""
        return cls(error=error.code, message=error.message, next_step=error.next_step)

    def as_error(self) -> ShipwayError:
        """The error that it carries."""
        return error_of(self.error)(self.message, next_step=self.next_step)


def last_word(log: str) -> LastWord | None:
    """The last such line of a log; None when there is none."""
    for line in reversed(log.splitlines()):
        if not line.startswith("{"):
            continue
        try:
            return msgspec.json.decode(line, type=LastWord)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue
    return None


def last_line(log: str) -> str:
    """The last line that is not blank; empty when there is none."""
    return next((line.strip() for line in reversed(log.splitlines()) if line.strip()), "")
