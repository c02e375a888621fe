"""Requests that ask what was asked just before: those that a cache would answer without the model."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from shipway.core.captures import columns_of
from shipway.core.capturing import Capture, How
from shipway.core.signature import Signature


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """What the prediction log has to compare requests by.

    `columns` hold the inputs. `redacted` are inputs that are not there, or not as they were: requests
    that differ in them alone look equal.
    """

    columns: tuple[str, ...]
    redacted: tuple[str, ...] = ()


class Repeats(msgspec.Struct, frozen=True, kw_only=True):
    """Of so many requests, so many were a repetition of one that an answer would still be kept for."""

    requests: int
    repeated: int

    @property
    def share(self) -> float:
        """The share of repetitions, 0 to 1."""
        return self.repeated / max(1, self.requests)


def compared_inputs(capture: Capture | None, signature: Signature) -> Compared | None:
    """What requests can be compared by; None where the log misses requests or inputs.

    Hashed values stay comparable: equal ones have the same hash.
    """
    if capture is None or capture.share_pct < 100:
        return None
    names = signature.input_names()
    if capture.fields is not None and not set(names) <= set(capture.fields):
        return None
    hiding = [rule for rule in capture.rules if rule.how is not How.HASH]
    dropped = {rule.field for rule in hiding if rule.how is How.DROP}
    columns, _ = columns_of([name for name in names if name not in dropped], ())
    if not columns:
        return None
    redacted = (n for n in names if any(f"{rule.field}.".startswith(f"{n}.") for rule in hiding))
    return Compared(columns=tuple(columns.values()), redacted=tuple(redacted))


def repeats_of(asked: Iterable[tuple[int, int]], *, ttl_s: float) -> Repeats:
    """How many a cache would have answered that keeps answers for `ttl_s`, all of them.

    `asked` are keys of inputs with the time in microseconds, in time order. An answer is kept from the
    request that the model ran for, and no longer for being asked again.

    >>> repeats_of([(7, 0), (7, 40_000_000), (7, 80_000_000)], ttl_s=60).repeated
    1
    """
    ttl_us = round(ttl_s * 1e6)
    until: dict[int, int] = {}
    requests = repeated = 0
    for key, at_us in asked:
        requests += 1
        if at_us < until.get(key, at_us):
            repeated += 1
        else:
            until[key] = at_us + ttl_us
    return Repeats(requests=requests, repeated=repeated)
