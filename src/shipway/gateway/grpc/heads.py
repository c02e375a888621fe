"""From header blocks to what a call asks for. HPACK is the `hpack` library's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import hpack

from shipway.gateway.grpc.call import Metadata, Method, Reply
from shipway.gateway.grpc.frames import ConnectionFault, Fault, header_block
from shipway.gateway.grpc.status import Code, percent_encoded

HEAD_LIMIT_BYTES = 16 * 1024
"""Of a head as it is sent, and as it becomes; what gRPC's own servers take at most."""

ENCODINGS = (b"identity", b"gzip", b"deflate")
"""How a message may be compressed."""

_ACCEPTED = (b"grpc-accept-encoding", b",".join(ENCODINGS))
_KEPT = 64
_MOST_TABLE_UPDATES = 2
_NAME = re.compile(rb":?[!#$%&'*+\-.^_`|~0-9a-z]+")
_ONCE = frozenset(
    (b"authorization", b"content-type", b"grpc-encoding", b"grpc-timeout", b"x-api-key")
)
_OF_A_CONNECTION = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)
_TIMEOUT = re.compile(rb"(\d{1,8})([HMSmun])")
_UNIT_S = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}


class Head:
    """What a call's headers say. `refusal` is the header block that refuses it, None for a good call.

    `timeout_s` is None when the caller set no deadline.
    """

    __slots__ = ("answer", "encoding", "form", "metadata", "refusal", "timeout_s")

    def __init__(self, method: Method, metadata: Metadata) -> None:
        self.answer = method.answer
        self.form = method.form
        self.metadata = metadata
        self.timeout_s: float | None = None
        self.encoding = b"identity"
        self.refusal: bytes | None = None


class HeadReader:
    """Reads the header blocks of one connection, in their order.

    A block whose every field is one index means the same for as long as no block has changed the
    table: callers that send the same headers again and again have them decoded once. `source` is the
    address at the other end of the connection, `peer` whose it is, by its certificate.
    """

    def __init__(self, methods: Mapping[bytes, Method]) -> None:
        self.peer = ""
        self._methods = methods
        self.source = ""
        self._decoder = hpack.Decoder(max_header_list_size=HEAD_LIMIT_BYTES)
        self._known: dict[bytes, Head] = {}

    def read(self, block: bytes) -> Head:
        """The head in a block.

        Raises:
            ConnectionFault: the block cannot be decoded; nor can any that follows.
        """
        known = self._known.get(block)
        if known is not None:
            return known
        _require_few_updates(block)
        try:
            headers = self._decoder.decode(block, raw=True)
        except hpack.HPACKError as exc:
            fact = "a header block cannot be decoded, or becomes too large"
            raise ConnectionFault(Fault.COMPRESSION_ERROR, fact) from exc
        metadata = _metadata((bytes(name), bytes(value)) for name, value in headers)
        metadata.source = self.source
        metadata.peer = self.peer
        head = self._head_of(metadata)
        if not _is_indexed(block):
            self._known.clear()
        elif len(self._known) < _KEPT:
            self._known[block] = head
        return head

    def _head_of(self, headers: Metadata) -> Head:
        path = headers.get(b":path", b"")
        method = self._methods.get(path)
        head = Head(method or _NO_METHOD, headers)
        head.encoding = headers.get(b"grpc-encoding", b"identity")
        if headers.get(b":method") != b"POST":
            head.refusal = header_block((), status=405)
        elif not headers.get(b"content-type", b"").startswith(b"application/grpc"):
            head.refusal = header_block((), status=415)
        elif method is None:
            name = path.decode("latin-1")
            head.refusal = _refusal(f"There is no method `{name}` here.")
        elif head.encoding not in ENCODINGS:
            name = head.encoding.decode("latin-1")
            head.refusal = _refusal(f"Messages compressed by `{name}` are not read here.")
        timeout = headers.get(b"grpc-timeout")
        if timeout is not None and head.refusal is None:
            found = _TIMEOUT.fullmatch(timeout)
            if found is None:
                head.refusal = _refusal("`grpc-timeout` cannot be read.", Code.INVALID_ARGUMENT)
            else:
                head.timeout_s = int(found[1]) * _UNIT_S[found[2]]
        return head


def _require_few_updates(block: bytes) -> None:
    """Refuses a block of table updates: each empties the table, and a block could hold thousands."""
    found = at = 0
    while at < len(block) and block[at] & 0xE0 == 0x20:
        found += 1
        at += 1
        if block[at - 1] & 0x1F == 0x1F:
            while at < len(block) and block[at] & 0x80:
                at += 1
            at += 1
        if found > _MOST_TABLE_UPDATES:  # RFC 7541, 4.2
            raise ConnectionFault(Fault.COMPRESSION_ERROR, "a header block of table updates")


def _metadata(headers: Iterable[tuple[bytes, bytes]]) -> Metadata:
    """The headers by name; of one that came again, its values as a list.

    Raises:
        ConnectionFault: a name or a value is none (RFC 9113, 8.2.1), a pseudo-header comes late or
            again, or one comes again whose value is no list.
    """
    metadata = Metadata()
    is_late = False
    for name, value in headers:
        is_pseudo = name.startswith(b":")
        if (
            _NAME.fullmatch(name) is None
            or name in _OF_A_CONNECTION
            or (is_pseudo and is_late)
            or b"\r" in value
            or b"\n" in value
            or b"\0" in value
        ):
            raise ConnectionFault(Fault.PROTOCOL_ERROR, "a malformed header")
        is_late = is_late or not is_pseudo
        known = metadata.get(name)
        if known is None:
            metadata[name] = value
        elif is_pseudo or name in _ONCE:
            raise ConnectionFault(Fault.PROTOCOL_ERROR, "a header is there more than once")
        else:
            metadata[name] = known + b"," + value
    return metadata


def _nothing(message: bytes, timeout_s: float | None, metadata: Metadata) -> Reply:
    return Reply.ending(Code.UNIMPLEMENTED, "There is no such method.")


_NO_METHOD = Method(_nothing)


def _is_indexed(block: bytes) -> bool:
    """Whether each byte is one field by index (RFC 7541, 6.1); 0xff begins an index of several."""
    return min(block, default=0) >= 0x80 and 0xFF not in block


def _refusal(message: str, code: Code = Code.UNIMPLEMENTED) -> bytes:
    """Status and headers in one block: gRPC's Trailers-Only."""
    headers = (
        (b"content-type", b"application/grpc"),
        (b"grpc-status", b"%d" % code),
        (b"grpc-message", percent_encoded(message)),
        _ACCEPTED,
    )
    return header_block(headers, status=200)
