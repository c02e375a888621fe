r"""Text of strangers where people read it: terminals and logs, which obey some characters instead of showing them.

Escape sequences move the cursor and rename windows, line breaks forge lines, and controls of direction show
a name as another. All of them are shown as what they are: `\x1b`, `\r`, `\u202e`.
"""

from __future__ import annotations

import re

_OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
_JSON_ESCAPE = re.compile(rb"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)
_JSON_OBEYED = re.compile(
    rb"\x7f|\xc2[\x80-\x9f]|\xd8\x9c|\xe2\x80[\x8e\x8f\xa8-\xae]|\xe2\x81[\xa6-\xa9]|\xef\xbb\xbf"
)


def printable(text: str) -> str:
    """The text with everything escaped that a terminal obeys, but for tabs and line breaks."""
    return _OBEYED.sub(lambda found: _escaped(found[0]), text)


def indented(text: str) -> str:
    """The printable text, its further lines indented: none can be taken for another record."""
    return "\n    ".join(printable(text).split("\n"))


def printable_json(body: bytes) -> bytes:
    """The JSON text whose strings are the printable ones of a JSON text."""
    if b"\\" in body:
        body = _JSON_ESCAPE.sub(_reescaped, body)
    return _JSON_OBEYED.sub(lambda found: b"\\" + _escaped(found[0].decode()).encode(), body)


def _escaped(character: str) -> str:
    r"""One character in Python's notation: ESC is `\x1b`."""
    return character.encode("unicode_escape").decode()


def _reescaped(found: re.Match[bytes]) -> bytes:
    """An escape of JSON, or the escape of its backslash where a terminal would obey what it stands for."""
    number = found[1]
    if number is None:
        return b"\\" + found[0] if found[0] in (rb"\b", rb"\f", rb"\r") else found[0]
    character = chr(int(number, 16))
    is_half = "\ud800" <= character <= "\udfff"  # of a pair, which stands for one character
    return b"\\" + found[0] if _OBEYED.match(character) and not is_half else found[0]
