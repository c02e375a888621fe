"""What was counted, as bytes: between a gateway and control, and in the database.

A map of names to counts in MessagePack: whole numbers, names in order, zeros left out. Who reads it
needs no table of columns, so windows of older releases stay readable.
"""

from __future__ import annotations

import msgspec

from shipway.core.tallies import Tally, is_sound

_decoder = msgspec.msgpack.Decoder(dict[str, float])


def encoded(tally: Tally) -> bytes:
    """The bytes of a tally; equal ones have equal bytes."""
    return msgspec.msgpack.encode({name: int(tally[name]) for name in sorted(tally) if tally[name]})


def decoded(data: bytes) -> dict[str, float]:
    """The tally in these bytes; an empty one when they are none."""
    try:
        tally = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
    return tally if is_sound(tally) else {}


class ProcessReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway process takes: processor seconds since it began, and resident memory."""

    gateway: str
    pid: int
    cpu_s: float
    memory_bytes: int


class TelemetryReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a source has counted since it began, each few seconds.

    A source is all gateways of a machine together, those that have ended included; one of them speaks for
    all. `rows` are (endpoint, version, counts), of those that changed since control took a report in.
    Counts never go back while the source has the same name: a report that comes late or twice changes
    nothing, and one that is lost costs nothing.
    """

    gateway: str
    source: str
    rows: tuple[tuple[str, str, dict[str, float]], ...]
    processes: tuple[ProcessReport, ...] = ()


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """That a report was taken in. `control` is another one each time that control starts.

    It has forgotten then what it had not written yet: whoever reports tells it everything again.
    """

    control: str
