"""Pickles that do not begin where their file does: behind other bytes, or inside of texts and numbers."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import IO

_WINDOW = 4 << 20
_OVERLAP = 1 << 20
_NAME = rb"[A-Za-z_][A-Za-z0-9_.]{0,127}"
_BEGINNING = rb"\x80[\x02-\x05]"
_BARE = (
    rb"[ci]" + _NAME + rb"\n" + _NAME + rb"\n"
    rb"|(?:\x8c.|[XU\x8d].{1,8}?)" + _NAME + rb"(?:\x94|q.|r....)?(?:\x8c.|[XU\x8d].{1,8}?)" + _NAME
    + rb"(?:\x94|q.|r....)?\x93"
)  # fmt: skip
_MARKED = re.compile(_BEGINNING, re.DOTALL)
_ANY = re.compile(_BEGINNING + rb"|" + _BARE, re.DOTALL)

Try = Callable[[IO[bytes], int], None]
"""Follows what may be a pickle: the bytes from there on, and their position in the whole."""


def search(stream: IO[bytes], attempt: Try, *, known_end: int = 0) -> None:
    """Calls `attempt` wherever a pickle may begin.

    Up to `known_end` lies a pickle that was followed already; in it, only marked ones are looked for.
    """
    start, window = 0, stream.read(_WINDOW + _OVERLAP)
    while window:
        view = io.BytesIO(window)
        is_last = len(window) < _WINDOW + _OVERLAP
        for found in (_MARKED if start + len(window) <= known_end else _ANY).finditer(window):
            at = found.start()
            if at >= _WINDOW and not is_last:
                break
            if start + at == 0 or (start + at < known_end and window[at] != 0x80):
                continue
            view.seek(at)
            attempt(view, start + at)
        if is_last:
            return
        start += _WINDOW
        window = window[_WINDOW:] + stream.read(_WINDOW)
