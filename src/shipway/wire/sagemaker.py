"""SageMaker's contract for inference containers: `POST /invocations` with any content type.

Source: Amazon SageMaker AI developer guide, "Custom Inference Code with Hosting Services" and "Common
data formats for inference". What the contract leaves open is decided here: an answer is in the form
of its request unless `Accept` names CSV, JSON or JSON Lines.
"""

from __future__ import annotations

from typing import Any

import msgspec

from shipway.core.errors import InvalidRequest, ShipwayError, UnsupportedMediaType
from shipway.core.inference import InferenceRequest, InferenceResponse
from shipway.core.signature import Signature
from shipway.core.tensors import Array
from shipway.wire.codec import Answer, Codec, Headers, Message
from shipway.wire.delimited import Header, csv_of, header_of, inputs_of_csv
from shipway.wire.media import CSV, JSON, accepted, json_answer, media_type, refusal, typed_answer
from shipway.wire.predictions import values_by_row, wanted_outputs
from shipway.wire.rows import (
    inputs_of_columns,
    inputs_of_rows,
    inputs_of_split,
    json_of,
    with_bytes,
)

LINES = "application/jsonlines"
_LINES_TOO = ("application/jsonlines", "application/x-jsonlines", "application/x-ndjson")
_BINARY = "application/octet-stream"
_ATTRIBUTES = b"x-amzn-sagemaker-custom-attributes"
_BARE, _TENSORS = "bare", "tensors"


class SageMaker:
    """The codec of `/invocations`. `tensors` reads bodies that are Open Inference requests.

    See `wire.codec.Codec`. Custom attributes come back as they were sent.
    """

    def __init__(self, tensors: Codec[Message, Answer]) -> None:
        self._tensors = tensors

    def decode(self, message: Message, signature: Signature) -> InferenceRequest:
        """The request: CSV (with or without header), JSON, JSON Lines, or Open Inference."""
        kind, parameters = media_type(message.headers)
        if kind == CSV:
            header = header_of(parameters, Header.UNSAID)
            inputs = inputs_of_csv(message.body, signature, header)
            return _request(inputs, wanted_outputs(signature), message, form=CSV)
        if kind in _LINES_TOO:
            rows = [_row(line) for line in message.body.splitlines() if line.strip()]
            inputs = inputs_of_rows(rows, signature)
            return _request(inputs, wanted_outputs(signature), message, form=LINES)
        if kind == _BINARY:
            return self._of_tensors(message, signature)
        if kind not in ("", JSON):
            raise UnsupportedMediaType(
                f"`{kind}` is no content type of this route.",
                next_step=f"Send {JSON}, {CSV} or {LINES}.",
            )
        return self._of_json(message, signature)

    def encode(self, response: InferenceResponse, asked: InferenceRequest) -> Answer:
        """The predictions, in the form that was asked for."""
        parameters = asked.parameters or {}
        extra: Headers = parameters.get("headers", ())
        answer = self._encoded(parameters["form"], response, asked)
        answer.headers = (*answer.headers, *extra)
        return answer

    def refuse(self, error: ShipwayError) -> Answer:
        """`{"error": …, "code": …}`; the contract fixes only the status."""
        return refusal(error, {"error": str(error), "code": error.code})

    def _encoded(self, form: str, response: InferenceResponse, asked: InferenceRequest) -> Answer:
        if form == _TENSORS:
            return self._tensors.encode(response, asked)
        if form == CSV:
            return typed_answer(CSV, csv_of(response.outputs, header=False), response)
        values = values_by_row(response.outputs)
        if form == LINES:
            lines = b"".join(msgspec.json.encode(value) + b"\n" for value in values)
            return typed_answer(LINES, lines, response)
        return json_answer(values if form == _BARE else {"predictions": values}, response)

    def _of_json(self, message: Message, signature: Signature) -> InferenceRequest:
        body = json_of(message.body)
        if b'"b64"' in message.body:
            body = with_bytes(body)
        if isinstance(body, list):
            rows = [_features(row) for row in body]
            inputs = inputs_of_rows(rows, signature)
            return _request(inputs, wanted_outputs(signature), message, form=_BARE)
        if not isinstance(body, dict):
            raise InvalidRequest("The body must be a JSON object or a list of rows.", path="$")
        if _is_tensors(body.get("inputs")):
            return self._of_tensors(message, signature)
        inputs = _inputs(body, signature)
        wanted = wanted_outputs(signature, body.get("parameters"))
        return _request(inputs, wanted, message, form=JSON)

    def _of_tensors(self, message: Message, signature: Signature) -> InferenceRequest:
        request = self._tensors.decode(message, signature)
        own = {"form": _TENSORS, "headers": _echoed(message)}
        request.parameters = {**(request.parameters or {}), **own}
        return request


def _inputs(body: dict[str, Any], signature: Signature) -> dict[str, Array]:
    if "instances" in body:
        rows = body["instances"]
        if isinstance(rows, list):
            rows = [_features(row) for row in rows]
        return inputs_of_rows(rows, signature)
    if "inputs" in body:
        return inputs_of_columns(body["inputs"], signature)
    if "dataframe_split" in body:
        return inputs_of_split(body["dataframe_split"], signature)
    if "dataframe_records" in body:
        return inputs_of_rows(body["dataframe_records"], signature)
    return inputs_of_rows([_features(body)], signature)


def _row(line: bytes) -> Any:
    return _features(json_of(line))


def _features(row: Any) -> Any:
    """A row of SageMaker's own form, `{"features": […]}`, without its wrapping."""
    if isinstance(row, dict) and isinstance(row.get("features"), list) and len(row) == 1:
        return row["features"]
    return row


def _is_tensors(inputs: Any) -> bool:
    return bool(
        isinstance(inputs, list)
        and inputs
        and isinstance(inputs[0], dict)
        and {"name", "datatype", "shape"} <= inputs[0].keys()
    )


def _request(
    inputs: dict[str, Array], outputs: tuple[str, ...], message: Message, *, form: str
) -> InferenceRequest:
    asked = accepted(message.headers, (JSON, CSV, *_LINES_TOO))
    if asked in _LINES_TOO:
        form = LINES
    elif asked == CSV or (asked == JSON and form not in (JSON, _BARE)):
        form = asked
    return InferenceRequest(
        inputs=inputs, outputs=outputs, parameters={"form": form, "headers": _echoed(message)}
    )


def _echoed(message: Message) -> Headers:
    attributes = message.headers.get(_ATTRIBUTES)
    return () if attributes is None else ((_ATTRIBUTES, attributes),)
