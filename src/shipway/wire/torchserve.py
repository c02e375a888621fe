"""TorchServe's inference API: `POST /predictions/{model}` with whatever body its handler reads.

Source: pytorch/serve `docs/inference_api.md`, `docs/management_api.md`. Here a body is a JSON list of
rows, an object of one row, `{"instances": […]}`, form parts (`data`, or one per input), or the
raw bytes of the only input.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from shipway.core.errors import InvalidRequest, ShipwayError, UnsupportedMediaType
from shipway.core.inference import InferenceRequest, InferenceResponse
from shipway.core.signature import Signature
from shipway.core.tensors import Array, DataType
from shipway.wire.codec import Answer, Message
from shipway.wire.media import JSON, json_answer, media_type, refusal
from shipway.wire.multipart import Part, parts_of
from shipway.wire.predictions import values_by_row, wanted_outputs
from shipway.wire.problems import status_of
from shipway.wire.rows import inputs_of_rows, json_of, one_row, with_bytes

_DATA = ("data", "body")
_TYPES = {
    400: "BadRequestException",
    404: "ModelNotFoundException",
    413: "RequestEntityTooLargeException",
    415: "BadRequestException",
    429: "ServiceUnavailableException",
    503: "ServiceUnavailableException",
    504: "InferenceTimeoutException",
}


class TorchServe:
    """The codec of `/predictions/{endpoint}`. See `wire.codec.Codec`."""

    def decode(self, message: Message, signature: Signature) -> InferenceRequest:
        """The request in a body of any of the forms above."""
        kind, parameters = media_type(message.headers)
        if kind == "multipart/form-data":
            return _of_parts(parts_of(message.body, parameters.get("boundary", "")), signature)
        return _of_bytes(message.body, kind, signature)

    def encode(self, response: InferenceResponse, asked: InferenceRequest) -> Answer:
        """A list of predictions; the prediction itself for one row; an object for `instances`."""
        values = values_by_row(response.outputs)
        form = (asked.parameters or {}).get("form")
        if form == "instances":
            return json_answer({"predictions": values}, response)
        return json_answer(values[0] if form == "row" and len(values) == 1 else values, response)

    def refuse(self, error: ShipwayError) -> Answer:
        """`{"code", "type", "message"}`; the status is in `code` too."""
        status = status_of(error)
        kind = _TYPES.get(
            status, "BadRequestException" if status < 500 else "InternalServerException"
        )
        return refusal(error, {"code": status, "type": kind, "message": str(error)})


def _of_bytes(body: bytes, kind: str, signature: Signature) -> InferenceRequest:
    only = signature.inputs[0] if len(signature.inputs) == 1 else None
    if kind != JSON and only is not None and not only.dtype.is_numeric:
        value: bytes | str = body if only.dtype is DataType.BYTES else _text(body)
        return _request(one_row({only.name: value}, signature), signature, form="row")
    if kind.startswith(("image/", "audio/", "video/")):
        raise UnsupportedMediaType(
            f"The model takes no raw `{kind}`.", next_step="Send its tensors as JSON."
        )
    value_of_json = json_of(body)
    if b'"b64"' in body:
        value_of_json = with_bytes(value_of_json)
    return _of_json(value_of_json, signature)


def _of_json(value: Any, signature: Signature) -> InferenceRequest:
    if isinstance(value, list):
        return _request(inputs_of_rows(value, signature), signature)
    if not isinstance(value, dict):
        raise InvalidRequest("The body must be a list of rows, or an object.", path="$")
    if "instances" in value:
        inputs = inputs_of_rows(value["instances"], signature)
        wanted = wanted_outputs(signature, value.get("parameters"))
        return InferenceRequest(inputs=inputs, outputs=wanted, parameters={"form": "instances"})
    if len(value) == 1 and "data" in value and "data" not in signature.input_names():
        return _of_json(value["data"], signature)
    return _request(inputs_of_rows([value], signature), signature, form="row")


def _of_parts(parts: list[Part], signature: Signature) -> InferenceRequest:
    names = signature.input_names()
    if len(parts) == 1 and parts[0].name in _DATA and parts[0].name not in names:
        return _of_bytes(parts[0].content, parts[0].media_type, signature)
    kinds = {field.name: field.dtype for field in signature.inputs}
    values = {part.name: _part_value(part, kinds.get(part.name)) for part in parts}
    if len(values) != len(parts):
        raise InvalidRequest("Two parts of the form have the same name.")
    return _request(one_row(values, signature), signature, form="row")


def _part_value(part: Part, kind: DataType | None) -> Any:
    if kind is DataType.BYTES:
        return part.content
    return json_of(part.content) if kind is not None and kind.is_numeric else _text(part.content)


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as exc:
        raise InvalidRequest(f"The text is not UTF-8: {exc}.") from exc


def _request(
    inputs: dict[str, Array], signature: Signature, *, form: str = "rows"
) -> InferenceRequest:
    wanted = wanted_outputs(signature)
    return InferenceRequest(inputs=inputs, outputs=wanted, parameters={"form": form})


def encode_models(names: Iterable[str]) -> bytes:
    """What `GET /models` answers."""
    models = [{"modelName": name, "modelUrl": name} for name in names]
    return msgspec.json.encode({"models": models})


def encode_model(name: str, versions: Iterable[tuple[str, bool]]) -> bytes:
    """What `GET /models/{m}` answers, of version numbers and whether each is ready."""
    described = [
        {
            "modelName": name,
            "modelVersion": number,
            "modelUrl": name,
            "status": "Healthy" if ready else "Unhealthy",
        }
        for number, ready in versions
    ]
    return msgspec.json.encode(described)
