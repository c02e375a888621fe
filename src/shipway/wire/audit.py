"""The audit chain as JSON lines: exports, archives, and the file of signed heads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from shipway.core.audit import AuditEvent
from shipway.core.errors import InvalidRequest
from shipway.core.heads import Cut, Head
from shipway.core.verification import Link


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of an export: exactly one of the three. Lines come in the order of `position`."""

    event: AuditEvent | None = None
    head: Head | None = None
    cut: Cut | None = None


_DECODER = msgspec.json.Decoder(Line)


def line_of(link: Link) -> bytes:
    """A link as a line, its end included."""
    if isinstance(link, AuditEvent):
        line = Line(event=link)
    else:
        line = Line(cut=link) if isinstance(link, Cut) else Line(head=link)
    return msgspec.json.encode(line) + b"\n"


def links_in(lines: Iterable[bytes], *, source: str) -> Iterator[Link]:
    """The links in lines, read as they are asked for.

    Raises:
        InvalidRequest: a line is none of ours; it is named.
    """
    for number, text in enumerate(lines, start=1):
        try:
            line = _DECODER.decode(text)
        except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
            raise _unreadable(source, number, str(exc)) from exc
        link = line.event or line.head or line.cut
        if link is None:
            raise _unreadable(source, number, "it has no event, head or cut")
        yield link


def _unreadable(source: str, number: int, why: str) -> InvalidRequest:
    return InvalidRequest(
        f"Line {number} of {source} is no line of an audit export: {why}.",
        next_step="It was changed or damaged; verify another copy.",
        line=number,
    )
