"""The counters of a gateway as bytes that another process reads while they are written.

A file is a row of blocks of `BLOCK_BYTES`. The first says what file it is. Each other block holds the
length of a name, the name, and its counts, each one aligned 8-byte float that one store changes. The
length is written last: a reader sees a block whole or not at all. Blocks are taken in order and never
given back, so the first without a length is the end. The byte order is the machine's, as only
processes of one machine share these files.

The counts of gateways that have ended are one message beside them, which names the files it took in:
whoever adds everything up leaves those out, however far their removal has come.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator

import msgspec

from shipway.core.telemetry import COLUMNS, Name, Rows

MAGIC = b"SHIPCNT2"
"""The layout's name: files of another one are passed over, and what they counted with them."""

BLOCK_BYTES = 1024
NAME_AT = 8
PID_AT = 8
"""Where the first block has the number of the process that writes the file."""

VALUES_AT = 192
NAME_LIMIT_BYTES = VALUES_AT - NAME_AT
_VALUES_END = VALUES_AT + 8 * COLUMNS
_ORDER = sys.byteorder
_LAYOUT = MAGIC.decode()

_name = msgspec.json.Decoder(tuple[str, str])


def encoded_name(name: Name) -> bytes | None:
    """The bytes of a name; None for one too long for a block."""
    data = msgspec.json.encode(name)
    return data if len(data) <= NAME_LIMIT_BYTES else None


def is_counters(data: memoryview) -> bool:
    """Whether a file's bytes are counters of this layout."""
    return len(data) >= BLOCK_BYTES and bytes(data[: len(MAGIC)]) == MAGIC


def pid_of(data: memoryview) -> int:
    """The process that writes a file; 0 when the file does not say."""
    return int.from_bytes(data[PID_AT : PID_AT + 8], _ORDER)


def blocks(data: memoryview, first: int = 1) -> Iterator[tuple[int, Name]]:
    """The blocks in use from number `first` on, and their names. A block without sense is left out."""
    for number in range(first, len(data) // BLOCK_BYTES):
        at = number * BLOCK_BYTES
        length = int.from_bytes(data[at : at + NAME_AT], _ORDER)
        if length == 0:
            return
        try:
            yield (
                number,
                _name.decode(data[at + NAME_AT : at + NAME_AT + min(length, NAME_LIMIT_BYTES)]),
            )
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue


def values_of(data: memoryview, number: int) -> memoryview[float]:
    """The counts of a block, as they change."""
    at = number * BLOCK_BYTES
    return data[at + VALUES_AT : at + _VALUES_END].cast("d")


def parsed(data: memoryview) -> dict[Name, list[float]]:
    """The rows in a file's bytes; none when they are something else, none that make no sense."""
    if not is_counters(data):
        return {}
    rows = {name: list(values_of(data, number)) for number, name in blocks(data)}
    return {name: row for name, row in rows.items() if _is_sound(row)}


def _is_sound(row: list[float]) -> bool:
    return all(math.isfinite(value) and value >= 0 for value in row)


class _Past(msgspec.Struct, frozen=True, kw_only=True):
    layout: str
    folded: tuple[str, ...]
    rows: tuple[tuple[str, str, list[float]], ...]


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """The counts of gateways that have ended. `folded` names the files that are in them."""

    folded: tuple[str, ...] = ()
    rows: Rows = {}


_past = msgspec.msgpack.Decoder(_Past)


def encoded_past(past: Past) -> bytes:
    """The bytes of the past."""
    rows = tuple((*name, list(row)) for name, row in past.rows.items())
    return msgspec.msgpack.encode(_Past(layout=_LAYOUT, folded=past.folded, rows=rows))


def parsed_past(data: bytes) -> Past:
    """The past in a file's bytes; an empty one when they are torn or something else."""
    try:
        read = _past.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Past()
    if read.layout != _LAYOUT:
        return Past()
    rows = {(e, v): row for e, v, row in read.rows if len(row) == COLUMNS and _is_sound(row)}
    return Past(folded=read.folded, rows=rows)
