"""The gRPC services of a gateway: Open Inference v2 with the extensions of Triton's clients, and health."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from shipway.core.errors import BodyTooLarge, InvalidRequest, NotFound
from shipway.core.release import VERSION
from shipway.core.signature import Field
from shipway.core.telemetry import Totals
from shipway.core.tensors import DataType
from shipway.engines.failures import FailureLog
from shipway.gateway.faults import known
from shipway.gateway.grpc.call import Form, Metadata, Method, Reply
from shipway.gateway.grpc.codec import GrpcInference, GrpcStreamInference, InferCall
from shipway.gateway.grpc.messages import ModelInferRequest, message_class, parsed
from shipway.gateway.grpc.streams import ALWAYS_READ_BYTES
from shipway.gateway.repository import Repository
from shipway.gateway.routes import LiveRoute, RouteTable
from shipway.gateway.serving import Serving
from shipway.gateway.variants import LiveVariant
from shipway.gateway.view import View
from shipway.wire.problems import status_of
from shipway.wire.request_ids import header_of, made_id, own_id, shown

INFERENCE = "inference.GRPCInferenceService"
HEALTH = "grpc.health.v1.Health"
EXTENSIONS = ("model_repository", "statistics", "model_configuration")

_SERVING, _NOT_SERVING, _SERVICE_UNKNOWN = 1, 2, 3


class Services:
    """Answers callers from the current routes. See `gateway.grpc.call.Service`."""

    def __init__(self, table: RouteTable, serving: Serving) -> None:
        self._table = table
        self._serving = serving
        self._codec = GrpcInference()
        self._repository = Repository(table)
        self._failures = FailureLog()
        answers = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._model_config,
            "ModelStatistics": self._model_statistics,
            "RepositoryIndex": self._repository_index,
            "RepositoryModelLoad": self._load,
            "RepositoryModelUnload": self._unload,
        }
        self.methods: dict[bytes, Method] = {
            _path(INFERENCE, name): Method(_answering(table, f"inference.{name}", answer))
            for name, answer in answers.items()
        }
        self.methods[_path(INFERENCE, "ModelInfer")] = Method(self._infer)
        self.methods[_path(INFERENCE, "ModelStreamInfer")] = Method(self._stream, Form.STREAM)
        check, watch = self._check, self._watch
        self.methods |= {
            _path(HEALTH, "Check"): Method(_answering(table, "grpc.health.v1.HealthCheck", check)),
            _path(HEALTH, "Watch"): Method(
                _answering(table, "grpc.health.v1.HealthCheck", watch), Form.WATCH
            ),
        }

    def message_limit(self) -> int:
        """The largest that any endpoint takes; which one is meant is known when it has been read."""
        limits = (route.max_body_bytes for route in self._table.routes())
        return max(ALWAYS_READ_BYTES, max(limits, default=0))

    def failed(self, metadata: Metadata, reply: Reply) -> Reply:
        """See Service: the failure goes to the log, under an id that the caller is told."""
        error = reply.failure
        if error is None:
            return reply
        request_id = reply.request_id or own_id("", metadata) or made_id()
        self._failures.note(
            shown(metadata.get(b":path", b"").decode("latin-1")),
            str(error),
            request_id=shown(request_id),
            status=status_of(error),
            trace_id=reply.trace_id.hex(),
        )
        if reply.request_id:
            return reply
        return reply.marked(header_of(request_id))

    # Predictions

    def _infer(
        self, message: bytes, timeout_s: float | None, metadata: Metadata
    ) -> Reply | asyncio.Task[Reply]:
        try:
            request = parsed(ModelInferRequest, message)
            call = InferCall(request, timeout_s, metadata)
            self._require_fitting(call, request.model_name, len(message))
        except Exception as exc:  # noqa: BLE001 - the outermost frame of a request
            return Reply.refusing(known(exc))
        version = request.model_version or None
        return self._serving.answer(self._codec, call, request.model_name, version)

    def _stream(
        self, message: bytes, timeout_s: float | None, metadata: Metadata
    ) -> Reply | asyncio.Task[Reply]:
        try:
            request = parsed(ModelInferRequest, message)
        except Exception as exc:  # noqa: BLE001 - the outermost frame of a request
            return Reply.refusing(known(exc))
        codec = GrpcStreamInference(request)
        call = InferCall(request, timeout_s, metadata)
        try:
            self._require_fitting(call, request.model_name, len(message))
        except Exception as exc:  # noqa: BLE001 - the outermost frame of a request
            return codec.refuse(known(exc))
        version = request.model_version or None
        return self._serving.answer(codec, call, request.model_name, version)

    def _require_fitting(self, call: InferCall, name: str, size: int) -> None:
        self._table.door.admit(call, name)
        route = self._table.route(name)
        if size > route.max_body_bytes:
            raise BodyTooLarge(
                f"The message has {size} bytes, over the limit of {route.max_body_bytes} bytes"
                f" of endpoint `{name}`.",
                next_step="Send fewer rows, or raise `limits.max_body_bytes` of the endpoint.",
                limit_bytes=route.max_body_bytes,
            )

    # Health and metadata

    def _server_live(self, view: View, request: Any, answer: Any) -> Any:
        return answer(live=True)

    def _server_ready(self, view: View, request: Any, answer: Any) -> Any:
        return answer(ready=bool(self._table.revision))

    def _server_metadata(self, view: View, request: Any, answer: Any) -> Any:
        return answer(name="shipway", version=VERSION, extensions=EXTENSIONS)

    def _model_ready(self, view: View, request: Any, answer: Any) -> Any:
        route = view.route(request.name)
        if not request.version:
            return answer(ready=route.is_ready)
        return answer(ready=route.variant(request.version).runner.is_ready)

    def _model_metadata(self, view: View, request: Any, answer: Any) -> Any:
        route, variant = self._named(view, request)
        message = answer(
            name=route.name,
            versions=[other.number for other in route.variants],
            platform=variant.spec.platform,
        )
        signature = variant.spec.signature
        for fields, tensors in (
            (signature.inputs, message.inputs),
            (signature.outputs, message.outputs),
        ):
            for field in fields:
                tensors.add(name=field.name, datatype=field.dtype.wire_name, shape=field.shape)
        return message

    def _model_config(self, view: View, request: Any, answer: Any) -> Any:
        """The part of Triton's config that describes the tensors, their first dimension included."""
        route, variant = self._named(view, request)
        message = answer()
        config, signature = message.config, variant.spec.signature
        config.name, config.platform = route.name, variant.spec.platform
        for field in signature.inputs:
            config.input.add(name=field.name, data_type=_config_type(field), dims=field.shape)
        for field in signature.outputs:
            config.output.add(name=field.name, data_type=_config_type(field), dims=field.shape)
        return message

    def _model_statistics(self, view: View, request: Any, answer: Any) -> Any:
        """What was counted of each version; only whole requests are timed."""
        message = answer()
        selected = [variant for _, variant in self._selected(view, request.name, request.version)]
        for variant, row in self._table.counted(selected):
            totals = Totals.of(row)
            entry = message.model_stats.add(
                name=variant.endpoint, version=variant.number, inference_count=totals.ok
            )
            for part, count, seconds in (
                (entry.inference_stats.success, totals.ok, totals.ok_s),
                (entry.inference_stats.fail, totals.other, totals.other_s),
            ):
                part.count, part.ns = count, round(seconds * 1e9)
        return message

    # The model repository

    def _repository_index(self, view: View, request: Any, answer: Any) -> Any:
        message = answer()
        for route, variant in self._selected(view, "", ""):
            runner = variant.runner
            if runner.is_ready or not request.ready:
                state = "READY" if runner.is_ready else "UNAVAILABLE" if runner.error else "LOADING"
                message.models.add(
                    name=route.name, version=variant.number, state=state, reason=runner.error
                )
        return message

    def _load(self, view: View, request: Any, answer: Any) -> Any:
        if request.parameters:
            raise InvalidRequest(
                f"`{min(request.parameters)}` cannot be brought with a load: a version's files"
                " never change.",
                next_step="Register a version with `shipway register`, and `shipway deploy` it.",
            )
        view.route(request.model_name)
        self._repository.require_ready(request.model_name)
        return answer()

    def _unload(self, view: View, request: Any, answer: Any) -> Any:
        view.route(request.model_name)
        raise self._repository.refused_unload(request.model_name)

    # grpc.health.v1

    def _check(self, view: View, request: Any, answer: Any) -> Any:
        status = self._status_of(view, request.service)
        if status == _SERVICE_UNKNOWN:
            raise NotFound(f"There is no service `{request.service}`.")
        return answer(status=status)

    def _watch(self, view: View, request: Any, answer: Any) -> Any:
        return answer(status=self._status_of(view, request.service))

    def _status_of(self, view: View, service: str) -> int:
        """Of the gateway for no name or the services' own, else of the endpoint of that name."""
        if service in ("", INFERENCE, HEALTH):
            return _SERVING if self._table.revision else _NOT_SERVING
        try:
            return _SERVING if view.route(service).is_ready else _NOT_SERVING
        except NotFound:
            return _SERVICE_UNKNOWN

    def _named(self, view: View, request: Any) -> tuple[LiveRoute, LiveVariant]:
        route = view.route(request.name)
        return route, route.variant(request.version or None)

    def _selected(
        self, view: View, name: str, version: str
    ) -> Iterable[tuple[LiveRoute, LiveVariant]]:
        """The versions that are meant: all for no name, all of an endpoint for no version."""
        routes = [view.route(name)] if name else view.routes()
        for route in routes:
            for variant in [route.variant(version)] if version else route.variants:
                yield route, variant


def _path(service: str, method: str) -> bytes:
    return f"/{service}/{method}".encode()


def _answering(
    table: RouteTable, name: str, answer: Callable[[View, Any, Any], Any]
) -> Callable[[bytes, float | None, Metadata], Reply]:
    """The answer of a method that needs no waiting, from `<name>Request` to `<name>Response`."""
    return partial(
        _answered, table, message_class(f"{name}Request"), message_class(f"{name}Response"), answer
    )


def _answered(  # noqa: PLR0913 - the first four are bound once
    table: RouteTable,
    request: Any,
    response: Any,
    answer: Callable[[View, Any, Any], Any],
    message: bytes,
    timeout_s: float | None,
    metadata: Metadata,
) -> Reply:
    del timeout_s
    try:
        return Reply.of(answer(View(table, metadata), parsed(request, message), response))
    except Exception as exc:  # noqa: BLE001 - the outermost frame of a request
        return Reply.refusing(known(exc))


_CONFIG_TYPES: Mapping[DataType, str] = {
    kind: "TYPE_STRING" if kind in (DataType.BYTES, DataType.STRING) else f"TYPE_{kind.value}"
    for kind in DataType
}


def _config_type(field: Field) -> str:
    return _CONFIG_TYPES[field.dtype]
