"""Feedback as callers post it: JSON, one object or a list of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Annotated, Any

import msgspec

from shipway.core.captures import Feedback
from shipway.core.errors import InvalidRequest
from shipway.core.labels import label_text

MOST_ITEMS = 1000
"""In one request."""

MOST_OUTCOMES = 20
LONGEST_TEXT = 256
LARGEST = 1e60
"""Sums of squares of larger numbers are no numbers any more."""

AHEAD = timedelta(days=1)
"""A time further ahead of the gateway's is wrong: it would win over every correction until it comes."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_EXAMPLE = '{"request_id": "a7", "label": 1}'

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_TEXT)]
Text = Annotated[str, msgspec.Meta(max_length=LONGEST_TEXT)]
Size = Annotated[float, msgspec.Meta(ge=-LARGEST, le=LARGEST)]


class Truth(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """What became of one prediction."""

    request_id: Name | None = None
    """The id of the request, as the answer's `x-request-id` has it."""

    key: Name | None = None
    """The business key in place of the request id: the last prediction of that key before `at` is meant."""

    row: Annotated[int, msgspec.Meta(ge=0, lt=2**31)] | None = None
    """The row of the request, from 0; all of its rows when left out."""

    label: bool | int | float | Text | None = None
    """The class that was right."""

    score: Size | None = None
    """The number that was right."""

    outcomes: dict[Annotated[str, msgspec.Meta(min_length=1, max_length=63)], Size] = {}
    """Business metrics by name: a sale's amount, minutes spent, 1 for a complaint."""

    id: Name | None = None
    """The sender's own. What the same sender posts twice under one id counts once."""

    at: datetime | None = None
    """When it became known (RFC 3339); when it arrives, when left out. The latest one holds."""


_TRUTHS = msgspec.json.Decoder(Truth | list[Truth])


def decode_truths(body: bytes, now: datetime) -> list[Truth]:
    """The feedback in a body, each sound in itself.

    Raises:
        InvalidRequest: the body is no feedback, or more than 1,000; the place is named.
    """
    try:
        read = _TRUTHS.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise InvalidRequest(
            f"The body is no feedback: {exc}.", next_step=f"One looks like {_EXAMPLE}."
        ) from exc
    truths = read if isinstance(read, list) else [read]
    if len(truths) > MOST_ITEMS:
        raise InvalidRequest(
            f"{len(truths):,} feedback items are more than one request takes.",
            next_step=f"Send at most {MOST_ITEMS:,} at a time.",
        )
    for number, truth in enumerate(truths):
        fault = fault_of(truth, now=now)
        if fault:
            where = f"$[{number}]" if isinstance(read, list) else "$"
            raise InvalidRequest(
                f"Feedback `{where}` {fault}.", next_step=f"One looks like {_EXAMPLE}.", path=where
            )
    return truths


def fault_of(truth: Truth, *, now: datetime | None) -> str:
    """What is wrong with a feedback, to follow its name; empty for nothing.

    Without `now` its time may be ahead.
    """
    if truth.request_id is None and truth.key is None:
        return "has neither `request_id` nor `key`"
    if truth.label is None and truth.score is None and not truth.outcomes:
        return "has no `label`, no `score` and no `outcomes`"
    if isinstance(truth.label, float) and not isfinite(truth.label):
        return "has a `label` that is no number"
    if isinstance(truth.label, int) and abs(truth.label) >= 2**64:
        return "has a `label` of more than 64 bits"
    if len(truth.outcomes) > MOST_OUTCOMES:
        return f"has more than {MOST_OUTCOMES} `outcomes`"
    return "" if truth.at is None else _fault_of_time(truth.at, now)


def _fault_of_time(at: datetime, now: datetime | None) -> str:
    if at.tzinfo is None:
        return "has an `at` without a time zone"
    if at < _EPOCH or (now is not None and at > now + AHEAD):
        return "has an `at` before 1970 or more than a day ahead"
    return ""


def feedback_of(
    truth: Truth, *, environment: str, endpoint: str, principal: str, now: datetime
) -> Feedback:
    """What is kept of a feedback that somebody sent."""
    label = truth.label
    fields: dict[str, Any] = {
        "request_id": truth.request_id or "",
        "key": truth.key or "",
        "id": truth.id or "",
        "row": truth.row,
        "label": None if label is None else label_text(label),
        "score": truth.score,
        "outcomes": truth.outcomes,
    }
    return Feedback(
        environment=environment,
        endpoint=endpoint,
        at_us=microseconds(truth.at or now),
        principal=principal,
        **fields,
    )


def microseconds(at: datetime) -> int:
    """A time in microseconds since 1970, exact."""
    return (at - _EPOCH) // _MICROSECOND
