"""Rollouts from the caller's side: find one, follow it to its end, post what came of predictions."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import msgspec

from shipway.client import calls
from shipway.client.answers import Counted, Rollout
from shipway.client.exchange import Flow, Pause, one
from shipway.client.flows import live
from shipway.client.session import Session
from shipway.core.errors import (
    DeadlineExceeded,
    InvalidRequest,
    NotPromoted,
    RolloutNotFound,
    ServerUnreachable,
    StoreUnavailable,
)
from shipway.core.guards import Verdict
from shipway.core.rollouts import RolloutPhase

ROLLOUT_TIMEOUT_S = 3600.0
AWAY = (ServerUnreachable, StoreUnavailable)
"""Control cannot tell now; its rollouts go on once it is back."""

_POLL_S = 0.5
_MOST_KEPT = 100
_BATCH = 1000


class Outcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that happened after a prediction: a sale (1 or 0), its amount, whether it was right.

    `version` is the number that answered, `key` in its place the sticky key of the caller. An `id` makes
    one that is posted twice count once.
    """

    metric: str
    value: float
    version: str | int | None = None
    key: str | None = None
    id: str | None = None


def found(name: str, id: str | None = None) -> Flow[Rollout]:  # noqa: A002 - its field's name
    """The endpoint's rollout of that id; the last one without an id.

    Raises:
        RolloutNotFound: there is none.
    """
    last = yield from one(calls.rollout(name))
    if id is None or last.id == id:
        return last
    for other in (yield from one(calls.rollouts(name, limit=_MOST_KEPT))):
        if other.id == id:
            return other
    raise RolloutNotFound(
        f"Endpoint `{name}` has had no rollout `{id}` lately.",
        next_step=f"`shipway rollout history {name}` lists them.",
    )


def ended(session: Session, name: str, *, timeout_s: float) -> Flow[Rollout]:
    """The rollout once it is promoted and the gateways route to its candidate.

    It is the one under way now, whatever others follow. Control may be away for a while.

    Raises:
        NotPromoted: it ended without its candidate.
        DeadlineExceeded: `timeout_s` passed first.
        RolloutNotFound: the endpoint has had no rollout.
    """
    deadline = time.monotonic() + timeout_s
    rollout = yield from found(name)
    while rollout.is_under_way:
        if time.monotonic() >= deadline:
            raise DeadlineExceeded(
                f"The rollout of {rollout.candidate.version} was {rollout.phase.value} at"
                f" `{rollout.step}` after {timeout_s:g} s. {rollout.message}".strip(),
                next_step=f"It goes on: see `shipway rollout status {name}`.",
            )
        yield Pause(_POLL_S)
        try:
            rollout = yield from found(name, rollout.id)
        except AWAY:
            continue
    if rollout.phase is not RolloutPhase.PROMOTED:
        raise not_promoted(rollout)
    yield from live(session, name, timeout_s=max(_POLL_S, deadline - time.monotonic()))
    return rollout


def not_promoted(rollout: Rollout) -> NotPromoted:
    """The error for a rollout that ended without its candidate."""
    failed = next((f.guard for f in rollout.findings if f.verdict is Verdict.FAIL), None)
    ending = "failed" if rollout.phase is RolloutPhase.FAILED else f"was {words_of(rollout.phase)}"
    return NotPromoted(
        f"The rollout of {rollout.candidate.version} {ending}: {rollout.message}".rstrip(": "),
        next_step=f"See `shipway rollout status {rollout.endpoint}`.",
        phase=rollout.phase.value,
        guard=failed if rollout.phase is RolloutPhase.ROLLED_BACK else None,
        rollout=rollout.id,
    )


def words_of(phase: RolloutPhase) -> str:
    """A phase as people read it: `rolled back`."""
    return phase.value.replace("_", " ")


def posted(name: str, outcomes: Iterable[Outcome | Mapping[str, Any]]) -> Flow[Counted]:
    """Posts outcomes, as many at a time as one request takes; what became of all of them.

    Raises:
        InvalidRequest: one cannot be read. Those of earlier requests are counted.
    """
    total = Counted()
    for batch in _batches(_read(outcomes)):
        some = yield from one(calls.post_outcomes(name, batch))
        total = Counted(
            counted=total.counted + some.counted,
            known=total.known + some.known,
            unmatched=total.unmatched + some.unmatched,
        )
    return total


def _read(outcomes: Iterable[Outcome | Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for number, given in enumerate(outcomes, start=1):
        try:
            outcome = msgspec.convert(given, Outcome, from_attributes=True)
        except msgspec.ValidationError as exc:
            raise InvalidRequest(
                f"Outcome {number} cannot be read: {exc}.",
                next_step='One looks like {"metric": "converted", "value": 1, "version": "2", "id": "a7"}.',
            ) from exc
        fields: dict[str, Any] = msgspec.to_builtins(outcome)
        if outcome.version is not None:
            fields["version"] = str(outcome.version)
        yield fields


def _batches(outcomes: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while batch := list(islice(outcomes, _BATCH)):
        yield batch
