"""Text that may go into logs and errors: without the passwords of URLs and of connection strings."""

from __future__ import annotations

import re

MASK = "***"

_USERINFO = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)[^\s'\"`]*@")
"""Up to the last `@`: a password that was not percent-encoded may hold `/`, `:` and `@` itself."""

_KEYS = (
    "password|passwd|pwd|passphrase|secret|token|sig|api_?key|access_?key|account_?key|secret_?key"
    "|secret_?access_?key|session_?token|client_?secret|sas_?token"
)
_PAIR = re.compile(rf"(?i)(?P<key>\b\w*(?:{_KEYS})=)[^\s&;,'\"`)]+")


def masked(text: str) -> str:
    """The text with `***` for who logs in and with what, wherever a URL or `password=…` says it.

    `postgresql://ada:pw@db/x?sslpassword=y` becomes `postgresql://***@db/x?sslpassword=***`.
    """
    return _PAIR.sub(rf"\g<key>{MASK}", _USERINFO.sub(rf"\g<scheme>{MASK}@", text))
