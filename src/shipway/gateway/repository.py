"""Open Inference's model repository over what control owns: it can be looked at, and woken.

What is deployed is the decision of control and its record; a gateway loads and unloads nothing for a
caller.
"""

from __future__ import annotations

from collections.abc import Sequence

from shipway.core.errors import ConflictError, NoReadyReplica
from shipway.gateway.http import Request
from shipway.gateway.routes import RouteTable
from shipway.gateway.view import View
from shipway.wire.codec import JSON_ONLY, Answer
from shipway.wire.open_inference_admin import (
    VersionState,
    encode_index,
    require_plain_load,
    wants_ready_only,
)


class Repository:
    """Answers the model-repository extension from the current routes."""

    def __init__(self, table: RouteTable) -> None:
        self._table = table

    def answer(self, request: Request) -> Answer | None:
        """The answer to a POST of the extension; None when the path is none of its routes.

        Raises:
            Unauthenticated, TooManyAttempts, Forbidden: the caller may not see it.
            EndpointNotFound: there is no such endpoint.
            InvalidRequest: a body of another form, or a load that brings files.
            NoReadyReplica: the endpoint to load is not ready.
            ConflictError: unloading, always.
        """
        parts: Sequence[str] = request.path.split("/")
        body = request.body
        match parts[1:]:
            case ["v2", "repository", "index"]:
                index = encode_index(self._states(request), ready_only=wants_ready_only(body))
                return Answer(200, index, JSON_ONLY)
            case ["v2", "repository", "models", name, "load"]:
                self._table.door.show(request, name)
                require_plain_load(body)
                self.require_ready(name)
                return Answer(200, b"", JSON_ONLY)
            case ["v2", "repository", "models", name, "unload"]:
                self._table.door.show(request, name)
                raise self.refused_unload(name)
        return None

    def require_ready(self, name: str) -> None:
        """What loading an endpoint comes to: it confirms that it can be asked.

        Raises:
            EndpointNotFound, NoReadyReplica: it cannot.
        """
        route = self._table.route(name)
        if not route.is_ready:
            reasons = [v.runner.error for v in route.variants if v.runner.error]
            why = f" {reasons[0]}" if reasons else ""
            raise NoReadyReplica(
                f"Endpoint `{name}` is not ready yet.{why}",
                next_step="Ask again; `shipway status` says what it waits for.",
                retry_after_s=1,
            )

    def refused_unload(self, name: str) -> ConflictError:
        """Why an endpoint is not unloaded for a caller.

        Raises:
            EndpointNotFound: there is no such endpoint.
        """
        self._table.route(name)
        return ConflictError(
            f"Endpoint `{name}` is deployed; a caller of the gateway cannot unload it.",
            next_step=f"`shipway delete {name}` stops it.",
        )

    def _states(self, request: Request) -> list[VersionState]:
        return [
            VersionState(
                name=route.name,
                version=variant.number,
                ready=variant.runner.is_ready,
                reason=variant.runner.error,
            )
            for route in View(self._table, request).routes()
            for variant in route.variants
        ]
