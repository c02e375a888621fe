"""What the ways of a request have in common, whether or not its endpoint is in a rollout."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import monotonic, perf_counter
from typing import Any, TypeVar

from shipway.core.errors import (
    DeadlineExceeded,
    InvalidRequest,
    ModelFailed,
    PredictionUnrecorded,
)
from shipway.core.inference import InferenceRequest, InferenceResponse
from shipway.core.outputs import Outputs, selected
from shipway.core.telemetry import Outcome, count_answer, outcome_of
from shipway.gateway.cache import HIT, Found
from shipway.gateway.counters import Row
from shipway.gateway.recording import Record, recorded
from shipway.gateway.routes import LiveRoute
from shipway.gateway.variants import LiveVariant
from shipway.wire.codec import Codec

A = TypeVar("A")

Marks = tuple[tuple[bytes, bytes], ...]


class Ending:
    """How a request that was let in will be counted. One without an outcome is one whose caller left."""

    __slots__ = ("outcome", "route", "row", "started", "variant")

    def __init__(self, route: LiveRoute, variant: LiveVariant | None, started: float) -> None:
        self.route = route
        self.variant = variant
        self.row = route.gate.row if variant is None else variant.row
        self.started = started
        self.outcome = Outcome.CALLER


def require_outputs(wanted: Sequence[str] | None, variant: LiveVariant) -> None:
    """Refuses outputs that a version has not.

    Raises:
        InvalidRequest: it has none of that name.
    """
    for name in wanted or ():
        if name not in variant.output_names:
            raise InvalidRequest(
                f"The model has no output `{name}`.",
                next_step=f"Its outputs are: {', '.join(sorted(variant.output_names))}.",
                path="outputs",
            )


def timeout_s_of(route: LiveRoute, asked: InferenceRequest) -> float:
    """The endpoint's deadline, or the caller's own when that is sooner."""
    own = asked.timeout_s
    return route.deadline_s if own is None else min(own, route.deadline_s)


def response_of(
    route: LiveRoute, variant: LiveVariant, asked: InferenceRequest, finished: Outputs, marks: Marks
) -> InferenceResponse:
    """The response with a version's outputs, finished ones, or those that its caller wanted."""
    return InferenceResponse(
        model=route.name,
        version=variant.number,
        outputs=selected(finished, asked.outputs),
        id=asked.id,
        marks=marks,
        classes=variant.spec.classes,
    )


def marks_of(outputs: Outputs, record: Record | None) -> Marks:
    """What an answer says of where its outputs are from, and by which id its record is found."""
    marks = HIT if isinstance(outputs, Found) else ()
    return marks if record is None else (*marks, *record.marks)


async def given(
    codec: Codec[Any, A],
    ending: Ending,
    answer: A,
    kept: asyncio.Future[None] | None,
    *,
    until: float,
) -> A:
    """The answer of a model, once it is recorded where somebody must wait for that; else why it is not given.

    `until` is when the request's deadline passes, by the monotonic clock.
    """
    if kept is not None:
        try:
            await recorded(kept, within_s=until - monotonic())
        except PredictionUnrecorded as exc:
            ending.outcome = outcome_of(exc)
            return codec.refuse(exc)
    ending.outcome = Outcome.OK
    return answer


def note_end(route: LiveRoute, asked: InferenceRequest, error: Exception) -> None:
    """Tells the admission what an error says of the model's speed: most say nothing.

    That a caller was impatient says nothing either.
    """
    is_patient = timeout_s_of(route, asked) >= route.deadline_s
    if isinstance(error, DeadlineExceeded) and is_patient:
        route.admission.note_expired()
    elif isinstance(error, ModelFailed):
        route.admission.note_answered()


def leave(ending: Ending, task: asyncio.Task[Any] | None = None) -> None:
    """Counts a request out of its endpoint, and how it ended."""
    del task
    ending.route.leave()
    count(ending.row, ending.outcome, ending.started)


def count(row: Row, outcome: int, started: float) -> None:
    """Every request comes by here once, when its answer is known or nobody waits for it any more."""
    count_answer(row.values, outcome, perf_counter() - started)
