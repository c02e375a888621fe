"""What became of predictions, from the caller's side, and how good they were."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, TypedDict
from urllib.parse import quote

import msgspec

from shipway.client.exchange import Call, Flow, Plane, one, reading
from shipway.client.session import Session
from shipway.client.times import text_of
from shipway.core.errors import InvalidRequest
from shipway.core.performance import By, Performance
from shipway.wire.feedback import MOST_ITEMS, Truth, fault_of

_TIMEOUT_S = 300.0
"""Control reads the prediction log before it answers."""

ENOUGH_BYTES = 900_000
"""Of JSON for one request: gateways take a body of 1 MiB, and the largest item has under 16 kB."""

_encoder = msgspec.json.Encoder()
_NEXT_STEP = 'One looks like {"request_id": "a7", "label": 1}.'


class TruthFields(TypedDict, total=False):
    """What became of one prediction: `request_id` or `key`, and a label, score or outcomes.

    request_id: the id of the request, as `Prediction.id` has it.
    key: the business key in its place; its last prediction before `at` is meant.
    row: the row of the request, from 0; all of its rows when left out.
    label: the class that was right.
    score: the number that was right.
    outcomes: business metrics by name.
    id: the sender's own; what is sent twice under one id counts once.
    at: when it became known; now when left out. The latest one holds. Times without a zone are UTC.
    """

    request_id: str
    key: str
    row: int
    label: bool | int | float | str
    score: float
    outcomes: Mapping[str, float]
    id: str
    at: datetime | str


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """How many items of feedback the gateway keeps."""

    accepted: int = 0


def truths(items: Iterable[Truth | Mapping[str, Any]]) -> Iterator[Truth]:
    """Each item once it is sound in itself. Whether its time is ahead, the gateway's clock says.

    Raises:
        InvalidRequest: one is not; its number, from 1, is named.
    """
    for number, item in enumerate(items, start=1):
        try:
            truth = msgspec.convert(item, Truth, from_attributes=True)
        except msgspec.ValidationError as exc:
            raise _unsound(number, f"cannot be read: {exc}") from exc
        if truth.at is not None and truth.at.tzinfo is None:
            truth = msgspec.structs.replace(truth, at=truth.at.replace(tzinfo=UTC))
        fault = fault_of(truth, now=None)
        if fault:
            raise _unsound(number, fault)
        yield truth


def _unsound(number: int, fault: str) -> InvalidRequest:
    return InvalidRequest(f"Feedback {number} {fault}.", next_step=_NEXT_STEP, item=number)


def batches(sound: Iterable[Truth]) -> Iterator[list[Truth]]:
    """The items in order, as many at a time as one request takes. Batches of a batch are itself."""
    batch: list[Truth] = []
    size_bytes = 0
    for truth in sound:
        batch.append(truth)
        size_bytes += len(_encoder.encode(truth))
        if len(batch) == MOST_ITEMS or size_bytes >= ENOUGH_BYTES:
            yield batch
            batch, size_bytes = [], 0
    if batch:
        yield batch


def posted(
    session: Session, endpoint: str, items: Iterable[Truth | Mapping[str, Any]]
) -> Flow[int]:
    """Sends feedback, as many items at a time as one request takes; how many were kept.

    Raises:
        InvalidRequest: one is not sound. Those of earlier requests are kept; to send them again changes
            nothing.
    """
    yield from session.located()
    total = 0
    for batch in batches(truths(items)):
        total += (yield from one(call(endpoint, batch))).accepted
    return total


def call(endpoint: str, batch: list[Truth]) -> Call[Accepted]:
    """Sends some feedback."""
    return Call(
        method="POST",
        path=f"/v2/models/{quote(endpoint)}/feedback",
        plane=Plane.GATEWAY,
        read=reading(Accepted),
        body=_encoder.encode(batch),
        headers={"content-type": "application/json"},
    )


def performance(
    endpoint: str,
    *,
    version: int | None,
    since: datetime | None,
    until: datetime | None,
    by: By | None,
) -> Call[Performance]:
    """How good an endpoint's predictions were."""
    given = {
        "version": None if version is None else str(version),
        "since": None if since is None else text_of(since),
        "until": None if until is None else text_of(until),
        "by": None if by is None else by.value,
    }
    return Call(
        method="GET",
        path=f"/api/v1/endpoints/{quote(endpoint)}/performance",
        query={name: text for name, text in given.items() if text is not None},
        read=reading(Performance),
        timeout_s=_TIMEOUT_S,
    )
