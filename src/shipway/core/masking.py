"""Text that may go into logs and errors: without the passwords of URLs and of connection strings."""

from __future__ import annotations

import re

MASK = "***"

_WORD = re.compile(r"[^\s'\"`]+")

_KEYS = (
    "password|passwd|pwd|passphrase|secret|token|sig|api_?key|access_?key|account_?key|secret_?key"
    "|secret_?access_?key|session_?token|client_?secret|sas_?token"
)
_PAIR = re.compile(rf"(?i)(?P<key>\b\w*(?:{_KEYS})=)[^\s&;,'\"`)]+")


def masked(text: str) -> str:
    """The text with `***` for who logs in and with what, wherever a URL or `password=…` says it.

    `postgresql://ada:pw@db/x?sslpassword=y` becomes `postgresql://***@db/x?sslpassword=***`.
    """
    return _PAIR.sub(rf"\g<key>{MASK}", _WORD.sub(_without_userinfo, text))


def _without_userinfo(word: re.Match[str]) -> str:
    """Up to the last `@`: a password that was not percent-encoded may hold `/`, `:` and `@` itself.

    Not one pattern: exceptions quote texts of any length, and it would look at each place of one again.
    """
    text = word[0]
    begin, end = text.find("://"), text.rfind("@")
    return f"{text[: begin + 3]}{MASK}{text[end:]}" if 0 <= begin < end else text
