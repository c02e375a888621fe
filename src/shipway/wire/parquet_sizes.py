"""What the pages of a Parquet file say that they become, read before anything is decompressed.

The footer's sizes may lie; a reader allocates what the page headers say, and those are read here. Both
are structs of Thrift's compact protocol, of which only as much is known as they use. pyarrow could
give the footer, but its accessors end the process over a damaged one. Sources: Apache Parquet
`parquet.thrift`, Apache Thrift `thrift-compact-protocol.md`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import msgspec

MAX_PAGES = 20_000
"""A file with more is refused: each costs time to look at."""

MAX_FOOTER_BYTES = 512 * 1024
"""A longer footer is refused: it is read byte by byte. Thousands of columns fit."""

_MAGIC = b"PAR1"
_U32 = struct.Struct("<I")
_MAX_DEPTH = 8
_ROW_GROUPS, _COLUMNS, _COLUMN = 4, 1, 3
_CHUNK_SIZE, _DATA_AT, _DICTIONARY_AT = 7, 9, 11
_UNCOMPRESSED, _COMPRESSED, _DATA, _DATA_V2 = 2, 3, 5, 8
_ENCODING = {_DATA: 2, _DATA_V2: 4}
_DELTA_BYTE_ARRAY = 7
_LONG_LIST, _BOOLEANS = 15, (1, 2)


class Page(msgspec.Struct, frozen=True):
    """One page: its size once it is decompressed, and whether its texts share their beginnings.

    With shared beginnings (DELTA_BYTE_ARRAY) a small page becomes any size.
    """

    size_bytes: int
    shares_prefixes: bool


def pages_of(body: bytes) -> Iterator[Page]:
    """All pages of a file.

    Raises:
        ValueError: the footer or a page header is damaged or too long, or points outside the file.
    """
    try:
        for group in _footer(body)[_ROW_GROUPS]:
            for chunk in group[_COLUMNS]:
                yield from _pages_of_chunk(body, chunk[_COLUMN])
    except (IndexError, KeyError, TypeError, struct.error) as exc:
        raise ValueError("its footer or a page header is damaged") from exc


def _footer(body: bytes) -> dict[int, Any]:
    if not (body.startswith(_MAGIC) and body.endswith(_MAGIC)):
        raise ValueError("it does not begin and end with PAR1")
    (length,) = _U32.unpack_from(body, len(body) - len(_MAGIC) - _U32.size)
    if length > MAX_FOOTER_BYTES:
        raise ValueError(f"its footer is over {MAX_FOOTER_BYTES} bytes")
    start = len(body) - len(_MAGIC) - _U32.size - length
    if start < len(_MAGIC):
        raise ValueError("its footer is longer than the file")
    return _struct(body, start, 0)[0]


def _pages_of_chunk(body: bytes, chunk: dict[int, Any]) -> Iterator[Page]:
    at = min(offset for offset in (chunk[_DATA_AT], chunk.get(_DICTIONARY_AT)) if offset)
    end = at + chunk[_CHUNK_SIZE]
    if not 0 <= at <= end <= len(body):
        raise ValueError("a column lies outside the file")
    while at < end:
        header, at = _struct(body, at, 0)
        compressed, uncompressed = header[_COMPRESSED], header[_UNCOMPRESSED]
        if min(compressed, uncompressed) < 0:
            raise ValueError("a page has a negative size")
        encodings = [header[kind][place] for kind, place in _ENCODING.items() if kind in header]
        yield Page(uncompressed, _DELTA_BYTE_ARRAY in encodings)
        at += compressed


def _struct(body: bytes, at: int, depth: int) -> tuple[dict[int, Any], int]:
    """The members of a struct by their numbers, and where it ends."""
    members: dict[int, Any] = {}
    number = 0
    while body[at]:
        kind, step = body[at] & 15, body[at] >> 4
        at += 1
        if step:
            number += step
        else:
            number, at = _integer(body, at)
        members[number], at = _value(body, at, kind, depth)
    return members, at + 1


def _value(body: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    match kind:
        case 1 | 2:
            return kind == 1, at
        case 3:
            return body[at], at + 1
        case 4 | 5 | 6:
            return _integer(body, at)
        case 7:
            return None, at + 8
        case 8:
            length, at = _unsigned(body, at)
            return None, at + length
        case 9 | 10 if depth < _MAX_DEPTH:
            return _list(body, at, depth + 1)
        case 12 if depth < _MAX_DEPTH:
            return _struct(body, at, depth + 1)
    raise ValueError("a member of an unknown type")


def _list(body: bytes, at: int, depth: int) -> tuple[list[Any], int]:
    count, kind = body[at] >> 4, body[at] & 15
    at += 1
    if count == _LONG_LIST:
        count, at = _unsigned(body, at)
    if count > len(body):
        raise ValueError("a list that is longer than the file")
    if kind in _BOOLEANS:  # one byte each, but for members of a struct
        return [None] * count, at + count
    items: list[Any] = []
    for _ in range(count):
        item, at = _value(body, at, kind, depth)
        items.append(item)
    return items, at


def _integer(body: bytes, at: int) -> tuple[int, int]:
    value, at = _unsigned(body, at)
    return (value >> 1) ^ -(value & 1), at


def _unsigned(body: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while body[at] & 128:
        if shift > 56:
            raise ValueError("a number that is too long")
        value |= (body[at] & 127) << shift
        shift += 7
        at += 1
    return value | body[at] << shift, at + 1
