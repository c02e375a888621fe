"""HTTP/2 frames as bytes (RFC 9113), and header blocks as this server writes them (RFC 7541).

What is written names headers in full, neither compressed nor indexed: then a block is the same on
every connection, and the ones that each answer needs are made once.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from enum import IntEnum

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME_HEAD = struct.Struct(">BHBBI")
"""Length (1 + 2 bytes), type, flags, stream."""

MAX_FRAME_BYTES = 16384
"""What an endpoint may send until told otherwise; nobody is told otherwise here."""

INITIAL_WINDOW_BYTES = 65535
TABLE_BYTES = 4096
"""The size of a header table until its reader asks for another."""

TABLE_EMPTIED = b"\x20"
"""What a block begins with after its reader has asked for a smaller table (RFC 7541, 6.3)."""

PING_BYTES = 8
LARGEST_WINDOW_BYTES = 2**31 - 1
STREAM_MASK = 0x7FFFFFFF

END_STREAM = 0x1
ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITY = 0x20


class Kind(IntEnum):
    """The types of frames; others are ignored."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class Fault(IntEnum):
    """The error codes of RST_STREAM and GOAWAY."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class Setting(IntEnum):
    """The settings that matter to a server that never pushes."""

    HEADER_TABLE_SIZE = 1
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


class ConnectionFault(Exception):
    """The peer broke the protocol: the connection ends with this code."""

    def __init__(self, fault: Fault, fact: str) -> None:
        super().__init__(fact)
        self.fault = fault
        self.fact = fact


_SETTING = struct.Struct(">HI")
_UINT = struct.Struct(">I")


def head(kind: Kind, flags: int, stream: int, length: int) -> bytes:
    """The nine bytes before a payload."""
    return FRAME_HEAD.pack(length >> 16, length & 0xFFFF, kind, flags, stream)


def frame(kind: Kind, flags: int, stream: int, payload: bytes) -> bytes:
    """A whole frame."""
    return head(kind, flags, stream, len(payload)) + payload


def header_frames(block: bytes, stream: int, *, end_stream: bool) -> bytes:
    """A HEADERS frame, followed by CONTINUATION frames when the block is long."""
    flags = END_STREAM if end_stream else 0
    if len(block) <= MAX_FRAME_BYTES:
        return frame(Kind.HEADERS, flags | END_HEADERS, stream, block)
    parts = [block[at : at + MAX_FRAME_BYTES] for at in range(0, len(block), MAX_FRAME_BYTES)]
    frames = [frame(Kind.HEADERS, flags, stream, parts[0])]
    frames += [frame(Kind.CONTINUATION, 0, stream, part) for part in parts[1:-1]]
    frames.append(frame(Kind.CONTINUATION, END_HEADERS, stream, parts[-1]))
    return b"".join(frames)


def settings(values: Iterable[tuple[Setting, int]]) -> bytes:
    """A SETTINGS frame."""
    payload = b"".join(_SETTING.pack(setting, value) for setting, value in values)
    return frame(Kind.SETTINGS, 0, 0, payload)


def settings_in(payload: bytes) -> Iterable[tuple[int, int]]:
    """The settings of a SETTINGS frame, unknown ones included.

    Raises:
        ConnectionFault: the payload is no list of settings.
    """
    if len(payload) % _SETTING.size:
        raise ConnectionFault(Fault.FRAME_SIZE_ERROR, "a SETTINGS frame of a wrong length")
    return _SETTING.iter_unpack(payload)


def reset(stream: int, fault: Fault) -> bytes:
    """A RST_STREAM frame."""
    return frame(Kind.RST_STREAM, 0, stream, _UINT.pack(fault))


def window_update(stream: int, size: int) -> bytes:
    """A WINDOW_UPDATE frame; stream 0 is the connection."""
    return frame(Kind.WINDOW_UPDATE, 0, stream, _UINT.pack(size))


def goaway(last_stream: int, fault: Fault, fact: str = "") -> bytes:
    """A GOAWAY frame: streams up to the last one are answered, later ones were not looked at."""
    payload = _UINT.pack(last_stream) + _UINT.pack(fault) + fact.encode()
    return frame(Kind.GOAWAY, 0, 0, payload)


def uint(payload: bytes) -> int:
    """The one number of a RST_STREAM or WINDOW_UPDATE frame, without its reserved bit.

    Raises:
        ConnectionFault: the payload has another length.
    """
    if len(payload) != _UINT.size:
        raise ConnectionFault(Fault.FRAME_SIZE_ERROR, "a frame of a wrong length")
    return int(_UINT.unpack(payload)[0]) & STREAM_MASK


def without_extras(payload: bytes, flags: int, *, with_priority: bool) -> bytes:
    """The payload of a DATA or HEADERS frame without padding and priority.

    Raises:
        ConnectionFault: the frame is shorter than what it should hold.
    """
    start, end = 0, len(payload)
    if flags & PADDED:
        start, end = 1, end - (payload[0] if payload else 0)
    if with_priority and flags & PRIORITY:
        start += 5
    if start > end:
        raise ConnectionFault(Fault.PROTOCOL_ERROR, "a frame is all padding")
    return payload[start:end]


def header_block(headers: Iterable[tuple[bytes, bytes]], *, status: int | None = None) -> bytes:
    """A block of literal headers that leaves the peer's table alone; `status` comes first."""
    parts = []
    if status == 200:
        parts.append(b"\x88")  # RFC 7541 appendix A, index 8: `:status: 200`
    elif status is not None:
        headers = ((b":status", b"%d" % status), *headers)
    for name, value in headers:
        parts += (b"\x00", _length(name), name, _length(value), value)
    return b"".join(parts)


def _length(text: bytes) -> bytes:
    """A string's length as an integer with a prefix of 7 bits (RFC 7541, 5.1)."""
    rest = len(text)
    if rest < 0x7F:
        return bytes((rest,))
    encoded = bytearray((0x7F,))
    rest -= 0x7F
    while rest >= 0x80:
        encoded.append(rest % 0x80 + 0x80)
        rest //= 0x80
    encoded.append(rest)
    return bytes(encoded)
