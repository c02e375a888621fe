"""`POST /v2/models/NAME/feedback`: what became of predictions, kept before it is acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Protocol

import msgspec

from shipway.core.access import PrincipalKind
from shipway.core.captures import Feedback
from shipway.core.errors import ConflictError, DeadlineExceeded, QueueFull, StoreUnavailable
from shipway.gateway.faults import known
from shipway.gateway.http import Request
from shipway.gateway.paths import OPEN_INFERENCE
from shipway.gateway.routes import LiveRoute, RouteTable
from shipway.wire.codec import JSON_ONLY, Answer
from shipway.wire.feedback import Truth, decode_truths, feedback_of

MOST_WAITING = 64
"""Requests that may wait for the disk at once; each holds a body of at most 1 MiB."""

PATIENCE_S = 10.0
"""How long a request waits for the disk."""


class Sink(Protocol):
    """Where feedback is kept."""

    def put_feedback(self, feedback: Feedback) -> Awaitable[None]:
        """Returns once it would survive the death of this process. Raises ShipwayError when it cannot."""
        ...


def _clock() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - the default of an injected clock


class FeedbackDoor:
    """Takes feedback about the endpoints of a table. Without a `sink` it refuses all of it."""

    def __init__(
        self,
        table: RouteTable,
        sink: Sink | None = None,
        *,
        environment: str = "",
        now: Callable[[], datetime] = _clock,
    ) -> None:
        self._table = table
        self._sink = sink
        self._environment = environment
        self._now = now
        self._waiting = 0

    def answer(self, request: Request) -> asyncio.Task[Answer] | None:
        """The task that answers a POST of feedback; None when the path is no such route.

        Raises:
            Unauthenticated, TooManyAttempts, Forbidden: the caller may not ask the endpoint.
            EndpointNotFound: there is no such endpoint.
            ConflictError: the endpoint keeps no predictions.
            InvalidRequest: the body is no feedback.
            QueueFull: too much waits for the disk.
        """
        match request.path.split("/"):
            case ["", "v2", "models", name, "feedback"]:
                return self._taken(request, name)
        return None

    def _taken(self, request: Request, name: str) -> asyncio.Task[Answer]:
        principal = self._table.door.admit(request, name).principal
        route = self._table.route(name)
        if not route.keeps_predictions:
            raise ConflictError(
                f"Endpoint `{name}` keeps no predictions that feedback could be about.",
                next_step="Add `capture: {}` to its spec, and `shipway apply` it.",
            )
        sink = self._ready_sink()
        now = self._now()
        sender = "" if principal.kind is PrincipalKind.NOBODY else principal.name
        truths = decode_truths(request.body, now)
        kept = [self._feedback(truth, route, sender, now) for truth in truths]
        self._waiting += 1
        task = asyncio.ensure_future(_kept(sink, kept))
        task.add_done_callback(self._leave)
        return task

    def _leave(self, task: asyncio.Task[Answer]) -> None:
        del task
        self._waiting -= 1

    def _ready_sink(self) -> Sink:
        if self._sink is None:
            raise StoreUnavailable(
                "This gateway has no place to keep feedback.",
                next_step="Start it with a state directory that it can write to.",
            )
        if self._waiting >= MOST_WAITING:
            raise QueueFull(
                f"{self._waiting} requests with feedback wait for the disk, the most that may.",
                next_step="Retry after the stated time; send more items in each request.",
                retry_after_s=1,
            )
        return self._sink

    def _feedback(self, truth: Truth, route: LiveRoute, sender: str, now: datetime) -> Feedback:
        said = feedback_of(
            truth, environment=self._environment, endpoint=route.name, principal=sender, now=now
        )
        recorder = route.variant(None).recorder if said.key and route.variants else None
        if recorder is None:
            return said
        return msgspec.structs.replace(said, key=recorder.key_as_kept(said.key))


async def _kept(sink: Sink, feedback: Sequence[Feedback]) -> Answer:
    """The answer, once all of it is kept."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*(sink.put_feedback(one) for one in feedback))
    except TimeoutError:
        return OPEN_INFERENCE.refuse(
            DeadlineExceeded(
                f"The feedback was not kept within {PATIENCE_S:g} s.",
                next_step="Send it again; items with an `id` count once.",
            )
        )
    except Exception as exc:  # noqa: BLE001 - the outermost frame of a request
        return OPEN_INFERENCE.refuse(known(exc))
    return Answer(202, msgspec.json.encode({"accepted": len(feedback)}), JSON_ONLY)
