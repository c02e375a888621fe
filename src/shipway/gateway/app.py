"""The gateway's HTTP door: a path names a dialect and an endpoint, and `Serving` does the rest.

On the way of a request there is no framework, no model of the request, and no database.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from shipway.core.errors import NotFound, ShipwayError, VersionNotFound
from shipway.engines.failures import MOST_CHARACTERS, FailureLog
from shipway.gateway.faults import known
from shipway.gateway.feedback import FeedbackDoor
from shipway.gateway.fronts import Front
from shipway.gateway.http import Request
from shipway.gateway.metrics import page as metrics_page
from shipway.gateway.paths import Paths, Target, table_codec
from shipway.gateway.reads import Reads
from shipway.gateway.repository import Repository
from shipway.gateway.routes import LiveRoute, RouteTable
from shipway.gateway.serving import Serving
from shipway.gateway.variants import LiveVariant
from shipway.wire.codec import Answer, Timed, timeout_s_of
from shipway.wire.exposition import CONTENT_TYPE
from shipway.wire.request_ids import header_of, made_id, own_id, shown, told_id

UNKNOWN_LIMIT_BYTES = 1024 * 1024
"""What a body may have where it will not be used: enough to be read, and answered with 401 or 404."""

_SHORT_DIGITS = 6
_UNKNOWN_LENGTH = b"unknown"

LABELS = ("stable", "canary")
"""What TF Serving's version labels mean here: the primary and the candidate of a rollout.

Without one, the version with most traffic, and the one after it.
"""


class Gateway:
    """Answers callers from the current routes. An `http.Application`.

    `front` adds the routes of a platform for one endpoint. Without `feedback`, none is taken.
    """

    def __init__(
        self,
        table: RouteTable,
        serving: Serving,
        front: Front | None = None,
        *,
        feedback: FeedbackDoor | None = None,
    ) -> None:
        self._table = table
        self._feedback = feedback or FeedbackDoor(table)
        self._trusted = front.predict_path if front is not None and front.is_trusted else ""
        self._serving = serving
        self._paths = Paths(front)
        self._reads = Reads(table, front)
        self._repository = Repository(table)
        self._failures = FailureLog()

    def handle(self, request: Request) -> Answer | asyncio.Task[Answer]:
        """One exchange: the answer, or the task that makes it."""
        try:
            method = request.method
            if method == "POST":
                target = self._paths.target(request.path)
                if target is not None:
                    return self._predict(target, request)
            return self._other(request)
        except Exception as exc:  # noqa: BLE001 - the outermost frame of a request
            return self.refuse(known(exc), request.path)

    def body_limit(self, request: Request) -> int:
        """The limit of the endpoint that the path names, for a caller who may ask it."""
        target = self._paths.target(request.path)
        if target is None:
            return UNKNOWN_LIMIT_BYTES
        # A short body is read before anybody asks who sends it: that is asked once, not twice.
        is_short = len(request.headers.get(b"content-length", _UNKNOWN_LENGTH)) <= _SHORT_DIGITS
        if not is_short and not self._is_let_in(request, target):
            return UNKNOWN_LIMIT_BYTES
        try:
            return self._table.route(target.endpoint).max_body_bytes
        except NotFound:
            return UNKNOWN_LIMIT_BYTES

    def _is_let_in(self, request: Request, target: Target) -> bool:
        is_trusted = bool(self._trusted) and request.path == self._trusted
        return is_trusted or self._table.door.admits(request, target.endpoint)

    def refuse(self, error: ShipwayError, path: str) -> Answer:
        """The answer that carries an error, in the dialect of the path."""
        return self._paths.codec_of(path).refuse(error)

    def failed(self, request: Request, answer: Answer) -> Answer:
        """See Application: the failure goes to the log, under an id that the caller is told."""
        told = told_id(answer.headers)
        request_id = told or own_id("", request.headers) or made_id()
        self._failures.note(
            f"{shown(request.method)} {shown(request.path)}",
            answer.body[:MOST_CHARACTERS].decode("utf-8", "replace"),
            request_id=shown(request_id),
            status=answer.status,
            trace_id=answer.trace_id.hex(),
        )
        if told:
            return answer
        return answer.marked(header_of(request_id))

    def _predict(self, target: Target, request: Request) -> Answer | asyncio.Task[Answer]:
        codec = table_codec(target, request.headers.get(b"content-type"))
        number = target.number
        if target.label is not None:
            self._table.door.admit(request, target.endpoint)
            number = labelled(self._table.route(target.endpoint), target.label)
        timeout_s = timeout_s_of(request.headers)
        if timeout_s is not None:
            codec = Timed(codec, timeout_s)
        is_admitted = bool(self._trusted) and request.path == self._trusted
        return self._serving.answer(
            codec, request, target.endpoint, number, is_admitted=is_admitted
        )

    async def _metrics(self) -> Answer:
        """The counts over all gateways, read in a thread: with thousands of versions it takes a while."""
        try:
            body = await asyncio.to_thread(metrics_page, self._table)
        except Exception as exc:  # noqa: BLE001 - the outermost frame of a request
            return self.refuse(known(exc), "/metrics")
        return Answer(200, body, ((b"content-type", CONTENT_TYPE),))

    def _other(self, request: Request) -> Answer | asyncio.Task[Answer]:
        """What is no prediction by POST."""
        method, path = request.method, request.path
        if method in ("GET", "HEAD"):
            if path == "/metrics":
                self._table.door.show_server(request)
                return asyncio.ensure_future(self._metrics())
            return self._reads.answer(request)
        if method == "POST":
            answer = self._repository.answer(request) or self._feedback.answer(request)
            if answer is not None:
                return answer
        elif method == "PUT" and path.startswith("/predictions/"):
            target = self._paths.target(path)
            if target is not None:
                return self._predict(target, request)
        raise NotFound(
            f"There is no route {method} `{path}`.",
            next_step="Predictions are POST /v2/models/NAME/infer.",
        )


def labelled(route: LiveRoute, label: str) -> str:
    """The number of the version that a label means; see `LABELS`.

    Raises:
        VersionNotFound: no version of this endpoint carries it.
    """
    labels = dict(zip(LABELS, (variant.number for variant in _labelled(route)), strict=False))
    if label not in labels:
        raise VersionNotFound.named(
            f"{route.name}/labels/{label}", (f"{route.name}/labels/{name}" for name in labels)
        )
    return labels[label]


def _labelled(route: LiveRoute) -> Sequence[LiveVariant]:
    if route.trial is not None:
        return route.trial.primary, route.trial.candidate
    return sorted(
        (variant for variant in route.variants if variant.spec.weight_pct > 0),
        key=lambda variant: variant.spec.weight_pct,
        reverse=True,
    )
