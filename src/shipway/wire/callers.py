"""Who a request is from, as far as its bytes say: the value of a header, a claim, a path or a key.

Nothing here is verified: it decides which version answers, and nothing else. What cannot be read
names nobody.
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from shipway.core.assignment import key_text
from shipway.core.errors import InvalidRequest
from shipway.core.strategies import Source
from shipway.wire.open_inference import HEADER_LENGTH
from shipway.wire.rows import json_of

_BEARER = b"bearer "


class Sent(Protocol):
    """A request as it came. Header names are in lower case; over gRPC they are its metadata."""

    @property
    def body(self) -> bytes:
        """The whole body; empty over gRPC, whose messages are no JSON."""
        ...

    @property
    def headers(self) -> Mapping[bytes, bytes]:
        """The headers, by name."""
        ...

    @property
    def source(self) -> str:
        """The address that the connection comes from; empty when it has none."""
        ...

    @property
    def peer(self) -> str:
        """The identity in the connection's client certificate, verified; empty without one."""
        ...

    @property
    def size_bytes(self) -> int:
        """How many bytes its content has."""
        ...


def _header(sent: Sent, name: str) -> str | None:
    value = sent.headers.get(name.lower().encode(errors="replace"))
    return None if value is None else value.decode("utf-8", "replace").strip() or None


def _key(sent: Sent, name: str) -> str | None:
    del name
    return _header(sent, "authorization") or _header(sent, "x-api-key")


def _claim(sent: Sent, name: str) -> str | None:
    """A claim of a JSON Web Token (RFC 7519), whose second part is base64url of a JSON object."""
    token = sent.headers.get(b"authorization", b"").strip()
    parts = token[len(_BEARER) :].strip().split(b".")
    if token[: len(_BEARER)].lower() != _BEARER or len(parts) != 3:
        return None
    try:
        claims = msgspec.json.decode(urlsafe_b64decode(parts[1] + b"=" * (-len(parts[1]) % 4)))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, binascii.Error):
        return None
    return key_text(claims.get(name)) if isinstance(claims, dict) else None


def _at_path(sent: Sent, path: str) -> str | None:
    """The value at a dotted path; a number in the path is a position in a list."""
    length = sent.headers.get(HEADER_LENGTH, b"")  # of the JSON part, where tensors follow it
    try:
        value = json_of(sent.body[: int(length)] if length.isdigit() else sent.body)
    except InvalidRequest:
        return None
    for step in path.split("."):
        value = _member(value, step)
    return key_text(value)


def _member(value: Any, step: str) -> Any:
    if isinstance(value, dict):
        return value.get(step)
    if isinstance(value, list) and step.isdecimal() and len(step) < 7 and int(step) < len(value):
        return value[int(step)]
    return None


READERS: Mapping[Source, Callable[[Sent, str], str | None]] = {
    Source.HEADER: _header,
    Source.CLAIM: _claim,
    Source.JSON_PATH: _at_path,
    Source.KEY: _key,
}
"""The value in a request by its name, None where there is none. A model's inputs need a codec."""
