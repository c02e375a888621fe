"""What a request's head may say, where the parser is more lenient than is safe behind a proxy.

Whatever two servers could read in two ways is refused: the second would take one caller's bytes for
another's request. Sources: RFC 9110, 9112; the parser has refused the rest already.
"""

from __future__ import annotations

from collections.abc import Mapping

from shipway.core.errors import HeadTooLarge, InvalidRequest, TargetTooLong

HEAD_LIMIT_BYTES = 64 * 1024
TARGET_LIMIT_BYTES = 16 * 1024
MAX_FIELDS = 256
"""Headers of a request, or trailers of one."""

_ONCE = frozenset((b"authorization", b"content-type", b"host", b"x-api-key"))
_UPGRADING = (b"connection", b"upgrade")
_VERSIONS = ("1.0", "1.1")


def joined(name: bytes, values: bytes, value: bytes) -> bytes:
    """The value of a header that came again: a list, as RFC 9110 (5.3) has it.

    Raises:
        InvalidRequest: it is one whose value is no list, such as `Authorization`.
    """
    if name in _ONCE:
        raise InvalidRequest(f"The header `{name.decode('latin-1')}` is there more than once.")
    return values + b", " + value


def require_sound(method: str, version: str, headers: Mapping[bytes, bytes]) -> None:
    """Refuses what might be framed in two ways, or is no request of HTTP/1.0 or 1.1.

    Raises:
        InvalidRequest: another version, a method that makes a tunnel, no `Host`, or another
            `Transfer-Encoding` than `chunked` alone, which HTTP/1.0 has not either.
    """
    if version not in _VERSIONS:
        raise InvalidRequest(f"The gateway speaks HTTP/1.1, not HTTP/{version}.")
    if method == "CONNECT":
        raise InvalidRequest("The gateway is no proxy: it has no CONNECT.")
    if version == "1.1" and b"host" not in headers:
        raise InvalidRequest("The request has no `Host`.")
    coding = headers.get(b"transfer-encoding")
    if coding is not None and (coding.lower() != b"chunked" or version != "1.1"):
        raise InvalidRequest("`Transfer-Encoding` must be `chunked`, and nothing else.")


def local_path(path: bytes) -> bytes:
    """The path of a target that may be a whole URL (RFC 9112, 3.2.2). An escaped slash stays escaped.

    `a%2Fb` is one part of a path, not two: else it would name another route than a proxy in front saw.
    """
    if not path.startswith(b"/") and b"://" in path:
        _, _, rest = path.partition(b"://")
        path = b"/" + rest.partition(b"/")[2]
    if b"%2" in path:
        path = path.replace(b"%2F", b"%252F").replace(b"%2f", b"%252f")
    return path


def plain_head(line: bytes, headers: Mapping[bytes, bytes]) -> bytes:
    """A request's head without its wish to upgrade."""
    wishes = headers.get(b"connection", b"").lower()
    lines = [line, *(b"%s: %s" % item for item in headers.items() if item[0] not in _UPGRADING)]
    if b"close" in wishes:
        lines.append(b"connection: close")
    return b"\r\n".join((*lines, b"", b""))


def head_too_large() -> HeadTooLarge:
    """The refusal of a head over its bound."""
    return HeadTooLarge(
        f"The request's head is over {HEAD_LIMIT_BYTES} bytes or {MAX_FIELDS} headers.",
        next_step="Send fewer or shorter headers.",
    )


def target_too_long() -> TargetTooLong:
    """The refusal of a target over its bound."""
    return TargetTooLong(
        f"The request's target is over {TARGET_LIMIT_BYTES} bytes.",
        next_step="Send what is long in the body.",
    )
