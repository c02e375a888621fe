"""MLflow's scoring protocol: `POST /invocations`, and what its deployment client reads.

Source: mlflow 3, `mlflow/pyfunc/scoring_server/__init__.py` and `mlflow/deployments/mlflow`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from shipway.core.errors import InvalidRequest, ShipwayError, UnsupportedMediaType
from shipway.core.inference import InferenceRequest, InferenceResponse
from shipway.core.signature import Signature
from shipway.core.tensors import Array
from shipway.wire.codec import Answer, Message
from shipway.wire.delimited import Header, inputs_of_csv
from shipway.wire.media import CSV, JSON, json_answer, media_type, refusal
from shipway.wire.predictions import values_by_row, wanted_outputs
from shipway.wire.problems import status_of
from shipway.wire.rows import inputs_of_columns, inputs_of_rows, inputs_of_split, object_of

PROTOCOL_RELEASE = "3.17.2"
"""The MLflow whose scoring protocol this is; the answer of `GET /version`."""

PARQUET = "application/vnd.apache.parquet"

_FORMS: dict[str, Callable[[Any, Signature], dict[str, Array]]] = {
    "dataframe_split": inputs_of_split,
    "dataframe_records": inputs_of_rows,
    "instances": inputs_of_rows,
    "inputs": inputs_of_columns,
}
_UNWRAPPED = ("messages", "prompt", "input")
_CODES = {
    400: "BAD_REQUEST",
    404: "RESOURCE_DOES_NOT_EXIST",
    409: "RESOURCE_CONFLICT",
    429: "REQUEST_LIMIT_EXCEEDED",
    500: "INTERNAL_ERROR",
    503: "TEMPORARILY_UNAVAILABLE",
    504: "TEMPORARILY_UNAVAILABLE",
}


class Mlflow:
    """The codec of `/invocations`. See `wire.codec.Codec`."""

    def decode(self, message: Message, signature: Signature) -> InferenceRequest:
        """The request: JSON with exactly one of the four forms, CSV with a header, or Parquet.

        Raises:
            UnsupportedMediaType: another type, another charset than UTF-8, an unknown parameter.
        """
        kind, parameters = media_type(message.headers)
        _require_readable(kind, parameters)
        if kind == CSV:
            inputs = inputs_of_csv(message.body, signature, Header.PRESENT)
        elif kind == PARQUET:
            from shipway.wire.arrow import Kind, inputs_of_arrow

            inputs = inputs_of_arrow(message.body, Kind.PARQUET, signature)
        else:
            return _of_json(message.body, signature)
        return InferenceRequest(inputs=inputs, outputs=wanted_outputs(signature))

    def encode(self, response: InferenceResponse, asked: InferenceRequest) -> Answer:
        """`{"predictions": …}`, or the predictions bare for an unwrapped request."""
        predictions = values_by_row(response.outputs)
        return json_answer(
            predictions if asked.parameters else {"predictions": predictions}, response
        )

    def refuse(self, error: ShipwayError) -> Answer:
        """`{"error_code", "message"}`; plain text for 415, as MLflow's own server answers it."""
        if isinstance(error, UnsupportedMediaType):
            text = str(error).encode()
            return Answer(status_of(error), text, ((b"content-type", b"text/plain"),))
        status = status_of(error)
        code = _CODES.get(status, "BAD_REQUEST" if status < 500 else "INTERNAL_ERROR")
        return refusal(error, {"error_code": code, "message": str(error), "code": error.code})


def _require_readable(kind: str, parameters: dict[str, str]) -> None:
    if kind not in ("", JSON, CSV, PARQUET):
        raise UnsupportedMediaType(
            f"`{kind}` is no content type of this route.", next_step=f"Send {JSON} or {CSV}."
        )
    if parameters.get("charset", "utf-8").lower() != "utf-8":
        raise UnsupportedMediaType("The scoring server only supports UTF-8.")
    unknown = parameters.keys() - {"charset"}
    if unknown:
        raise UnsupportedMediaType(f"Unrecognized content type parameters: {', '.join(unknown)}.")


def _of_json(body: bytes, signature: Signature) -> InferenceRequest:
    message = object_of(body)
    forms = [form for form in _FORMS if form in message]
    if not forms and any(key in message for key in _UNWRAPPED):
        inputs = inputs_of_rows([message], signature)
        parameters = {"unwrapped": True}
        return InferenceRequest(
            inputs=inputs, outputs=wanted_outputs(signature), parameters=parameters
        )
    if len(forms) != 1:
        raise InvalidRequest(
            f"The body has {len(forms)} of the fields {', '.join(_FORMS)}; it must have exactly one.",
            path="$",
        )
    inputs = _FORMS[forms[0]](message[forms[0]], signature)
    wanted = wanted_outputs(signature, message.get("params"))
    return InferenceRequest(inputs=inputs, outputs=wanted)


def encode_endpoint(name: str, version: str) -> bytes:
    """What `get_deploy_client(…).get_endpoint(name)` reads."""
    return msgspec.json.encode(_endpoint(name, version))


def encode_endpoints(endpoints: Iterable[tuple[str, str]]) -> bytes:
    """What `get_deploy_client(…).list_endpoints()` reads, of names with their versions."""
    return msgspec.json.encode({"endpoints": [_endpoint(*endpoint) for endpoint in endpoints]})


def _endpoint(name: str, version: str) -> dict[str, Any]:
    return {
        "name": name,
        "endpoint_type": "shipway/v1/predictions",
        "model": {"name": version, "provider": "shipway"},
        "endpoint_url": f"/endpoints/{name}/invocations",
        "limit": None,
    }
