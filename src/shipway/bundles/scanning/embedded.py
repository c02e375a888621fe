"""Pickles that do not begin where their file does: behind other bytes, or inside of texts and numbers."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from typing import IO

_WINDOW = 4 << 20
_OVERLAP = 1 << 20
_NAME = rb"[A-Za-z_][A-Za-z0-9_.]{0,127}"
_TEXT = rb"[\x8c\x8dXU].{1,8}?" + _NAME + rb"(?:\x94|q.|r....)?"
_MARKED = re.compile(rb"\x80[\x02-\x05]")
_BARE = (
    re.compile(rb"[ci]" + _NAME + rb"\n" + _NAME + rb"\n"),
    re.compile(_TEXT + _TEXT + rb"\x93", re.DOTALL),
)
"""Each begins with a byte, or a set of bytes: `re` is ten times faster than with alternatives."""

Try = Callable[[IO[bytes], int], None]
"""Follows what may be a pickle: the bytes from there on, and their position in the whole."""


def search(stream: IO[bytes], attempt: Try, *, known_end: int = 0) -> None:
    """Calls `attempt` wherever a pickle may begin.

    Up to `known_end` lies a pickle that was followed already; in it, only marked ones are looked for.
    """
    start, window = 0, stream.read(_WINDOW + _OVERLAP)
    while window:
        is_last = len(window) < _WINDOW + _OVERLAP
        patterns = (_MARKED,) if start + len(window) <= known_end else (_MARKED, *_BARE)
        for pattern in patterns:
            for at in _places(pattern, window, len(window) if is_last else _WINDOW):
                is_known = start + at < known_end and pattern is not _MARKED
                if start + at and not is_known:
                    attempt(_from(window, at), start + at)
        if is_last:
            return
        start += _WINDOW
        window = window[_WINDOW:] + stream.read(_WINDOW)


def _places(pattern: re.Pattern[bytes], window: bytes, end: int) -> Iterator[int]:
    return (found.start() for found in pattern.finditer(window) if found.start() < end)


def _from(window: bytes, at: int) -> IO[bytes]:
    # Bytes are shared with the window until somebody writes.
    view = io.BytesIO(window)
    view.seek(at)
    return view
