"""What was used of limits as bytes that the gateways of one machine share and change.

A file is a row of cells of `CELL_BYTES`; the first says what file it is. Each other cell has the digest
of whose it is, all zero while it is free, and floats of 8 bytes: spent, at, day, requests and units of
`core.rates.Use`, then the requests under way in each gateway, by its slot. Cells are taken in order. The
byte order is the machine's.
"""

from __future__ import annotations

import math
from hashlib import blake2b

from shipway.core.rates import Use

MAGIC = b"SHIPUSE1"
CELL_BYTES = 512
NAME_BYTES = 32
SLOTS = 48
"""Gateways of one machine that count together."""

INSIDE = 5
"""Where the slots begin among the floats."""

FLOATS = INSIDE + SLOTS
FREE = bytes(NAME_BYTES)


def digest_of(whose: str, name: str) -> bytes:
    """What stands in the cell of a name: names may have any length, and keys are nobody's business."""
    return blake2b(f"{whose}:{name}".encode(), digest_size=NAME_BYTES).digest()


def name_in(data: memoryview, number: int) -> bytes:
    """The digest in a cell."""
    at = number * CELL_BYTES
    return bytes(data[at : at + NAME_BYTES])


def cell_of(data: memoryview, number: int) -> memoryview[float]:
    """The floats of a cell."""
    at = number * CELL_BYTES + NAME_BYTES
    return data[at : at + 8 * FLOATS].cast("d")


def new_cell() -> memoryview[float]:
    """A cell in memory that nobody else sees."""
    return memoryview(bytearray(8 * FLOATS)).cast("d")


def use_in(cell: memoryview[float]) -> Use:
    """The use that a cell holds, without the requests under way."""
    return Use(cell[0], cell[1], int(cell[2]), int(cell[3]), int(cell[4]))


def put_use(cell: memoryview[float], use: Use) -> None:
    """Writes a use into a cell, without the requests under way."""
    cell[0], cell[1], cell[2] = use.spent, use.at, use.day
    cell[3], cell[4] = use.requests, use.units


def is_sound(cell: memoryview[float]) -> bool:
    """Whether a cell's floats can be a use."""
    return all(math.isfinite(value) and value >= 0 for value in cell)
