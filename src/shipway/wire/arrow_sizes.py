"""How large an Arrow IPC message says that it becomes, read before anything is decompressed.

A compressed buffer begins with its length as an int64; which messages are compressed is in their
flatbuffer head. Only as much of flatbuffers is read here as that takes. Source: Apache Arrow
`format/Message.fbs` and "Arrow Columnar Format", section "Recordbatch message".
"""

from __future__ import annotations

import struct

_U16, _I32, _U32, _I64 = (struct.Struct(code) for code in ("<H", "<i", "<I", "<q"))
_HEADER_TYPE, _HEADER = 1, 2
_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3
_DATA_OF_DICTIONARY = 1
_LENGTH, _BUFFERS, _COMPRESSION = 0, 2, 3
_BUFFER_SIZE = 16


def declared_size(head: memoryview, body: memoryview) -> tuple[int, int]:
    """The rows and the bytes of a message once it is decompressed; (0, 0) for one without data.

    Raises:
        ValueError: the head is not what the format says.
    """
    try:
        return _declared(head, body)
    except (struct.error, IndexError) as exc:
        raise ValueError("the head of a message is damaged") from exc


def _declared(head: memoryview, body: memoryview) -> tuple[int, int]:
    message = _U32.unpack_from(head)[0]
    kind_at = _field(head, message, _HEADER_TYPE)
    kind = head[kind_at] if kind_at else 0
    if kind not in (_DICTIONARY_BATCH, _RECORD_BATCH):
        return 0, 0
    batch = _table(head, message, _HEADER)
    if kind == _DICTIONARY_BATCH:
        batch = _table(head, batch, _DATA_OF_DICTIONARY)
    rows_at = _field(head, batch, _LENGTH)
    rows = _I64.unpack_from(head, rows_at)[0] if rows_at else 0
    return rows, _bytes(head, batch, body)


def _bytes(head: memoryview, batch: int, body: memoryview) -> int:
    if not _field(head, batch, _COMPRESSION):
        return len(body)
    vector = _table(head, batch, _BUFFERS)
    count = _U32.unpack_from(head, vector)[0]
    total = 0
    for number in range(count):
        start, size = struct.unpack_from("<qq", head, vector + 4 + number * _BUFFER_SIZE)
        if size >= _I64.size:
            if start < 0:
                raise ValueError("a buffer lies outside its message")
            total += max(size, _I64.unpack_from(body, start)[0])
    return total


def _field(head: memoryview, table: int, number: int) -> int:
    """Where a table has its field of that number; 0 when it has none."""
    vtable = table - _I32.unpack_from(head, table)[0]
    if vtable < 0 or 4 + 2 * number >= _U16.unpack_from(head, vtable)[0]:
        return 0
    offset: int = _U16.unpack_from(head, vtable + 4 + 2 * number)[0]
    return table + offset if offset else 0


def _table(head: memoryview, table: int, number: int) -> int:
    """Where the table or vector begins that a field refers to."""
    at = _field(head, table, number)
    if not at:
        raise ValueError("a member of a message is missing")
    offset: int = _U32.unpack_from(head, at)[0]
    return at + offset
