"""Whether a UBJSON value is whole. XGBoost's own reader runs past the end of one that is not."""

from __future__ import annotations

import struct

_SIZES = {b"Z": 0, b"N": 0, b"T": 0, b"F": 0} | {
    b"i": 1, b"U": 1, b"C": 1, b"I": 2, b"l": 4, b"d": 4, b"L": 8, b"D": 8
}  # fmt: skip
_INTEGERS = {b"i": ">b", b"U": ">B", b"I": ">h", b"l": ">i", b"L": ">q"}
_MAX_DEPTH = 64


def is_whole(content: bytes) -> bool:
    """Whether the bytes are one value of UBJSON (draft 12), from the first byte to the last."""
    try:
        return _after_value(content, 1, content[:1], 0) == len(content)
    except (ValueError, struct.error):
        return False


def _after_value(content: bytes, at: int, kind: bytes, depth: int) -> int:
    """The position behind the value of that kind whose content begins at `at`."""
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deeply")
    if kind in _SIZES:
        return _inside(content, at + _SIZES[kind])
    if kind in (b"S", b"H"):
        return _after_text(content, at)
    if kind == b"{":
        return _after_container(content, at, depth, is_object=True)
    if kind == b"[":
        return _after_container(content, at, depth, is_object=False)
    raise ValueError(f"unknown marker {kind!r} before {at}")


def _after_container(content: bytes, at: int, depth: int, *, is_object: bool) -> int:
    kind, count, at = _header(content, at)
    if kind is not None and kind in _SIZES and not is_object:
        return _inside(content, at + (count or 0) * _SIZES[kind])
    end = b"}" if is_object else b"]"
    left = count
    while left is None or left > 0:
        if left is None and content[at : at + 1] == end:
            return at + 1
        at = _after_text(content, at) if is_object else at
        own = kind or content[at : at + 1]
        at = _after_value(content, at + (kind is None), own, depth + 1)
        left = None if left is None else left - 1
    return at


def _header(content: bytes, at: int) -> tuple[bytes | None, int | None, int]:
    """The type and the count of a container, where it states them, and where its items begin."""
    kind: bytes | None = None
    if content[at : at + 1] == b"$":
        kind, at = content[at + 1 : at + 2], at + 2
    if content[at : at + 1] != b"#":
        if kind is not None:
            raise ValueError("a typed container without a count")
        return None, None, at
    count, at = _integer(content, at + 1)
    return kind, count, at


def _after_text(content: bytes, at: int) -> int:
    length, at = _integer(content, at)
    return _inside(content, at + length)


def _integer(content: bytes, at: int) -> tuple[int, int]:
    kind = content[at : at + 1]
    if kind not in _INTEGERS:
        raise ValueError(f"no length at {at}")
    (value,) = struct.unpack_from(_INTEGERS[kind], content, at + 1)
    if value < 0:
        raise ValueError(f"a negative length at {at}")
    return value, at + 1 + _SIZES[kind]


def _inside(content: bytes, at: int) -> int:
    if at > len(content):
        raise ValueError("reaches past the end")
    return at
