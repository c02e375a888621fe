"""TF Serving's REST API, which is KServe's v1 too: `:predict`, `:classify`, `:regress`, and status.

Sources: tensorflow/serving `g3doc/api_rest.md` and `util/json_tensor.cc` (the answer of `:classify`
and `:regress` is under `results`); kserve `protocol/rest/v1_endpoints.py`. Both clients' wishes for
`GET /v1/models/{m}` are met in one answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any

import msgspec
import numpy as np

from shipway.core.errors import InvalidRequest, ShipwayError
from shipway.core.inference import InferenceRequest, InferenceResponse
from shipway.core.outputs import Outputs
from shipway.core.signature import Field, Signature
from shipway.core.tensors import DataType
from shipway.wire.codec import Answer, Message
from shipway.wire.media import json_answer, refusal
from shipway.wire.predictions import (
    PROBABILITIES,
    as_base64,
    plain,
    values_by_name,
    values_by_row,
    wanted_outputs,
)
from shipway.wire.rows import inputs_of_columns, inputs_of_rows, object_of

_BINARY = "_bytes"
_TYPES = {
    DataType.BOOL: "DT_BOOL",
    DataType.FP16: "DT_HALF",
    DataType.FP32: "DT_FLOAT",
    DataType.FP64: "DT_DOUBLE",
    DataType.BYTES: "DT_STRING",
    DataType.STRING: "DT_STRING",
}


class Verb(StrEnum):
    """What is asked of a model."""

    PREDICT = "predict"
    CLASSIFY = "classify"
    REGRESS = "regress"


class TfServing:
    """The codec of `/v1/models/{endpoint}:{verb}`. See `wire.codec.Codec`."""

    def __init__(self, verb: Verb) -> None:
        self._verb = verb

    def decode(self, message: Message, signature: Signature) -> InferenceRequest:
        """The request: `instances` by row or `inputs` by column; for other verbs `examples` too."""
        body = object_of(message.body)
        if self._verb is not Verb.PREDICT and "examples" in body:
            inputs = inputs_of_rows(_examples(body), signature)
        elif ("instances" in body) == ("inputs" in body):
            raise InvalidRequest("Send either `instances` or `inputs`.", path="$")
        elif "inputs" in body:
            inputs = inputs_of_columns(body["inputs"], signature)
        else:
            inputs = inputs_of_rows(body["instances"], signature)
        if self._verb is Verb.CLASSIFY:
            return InferenceRequest(inputs=inputs)
        wanted = wanted_outputs(signature, body.get("parameters"))
        parameters = {"by_column": True} if "inputs" in body else None
        return InferenceRequest(inputs=inputs, outputs=wanted, parameters=parameters)

    def encode(self, response: InferenceResponse, asked: InferenceRequest) -> Answer:
        """`predictions`, `outputs` for a request by column, `results` for the other verbs."""
        outputs = {name: _bytes_named(name, a) for name, a in response.outputs.items()}
        if self._verb is Verb.CLASSIFY:
            return json_answer({"results": _scores(response)}, response)
        if self._verb is Verb.REGRESS:
            return json_answer({"results": values_by_row(outputs)}, response)
        if asked.parameters:
            return json_answer({"outputs": values_by_name(outputs)}, response)
        return json_answer({"predictions": values_by_row(outputs)}, response)

    def refuse(self, error: ShipwayError) -> Answer:
        """`{"error": …}`."""
        return refusal(error, {"error": str(error), "code": error.code})


def _examples(body: dict[str, Any]) -> Any:
    context, examples = body.get("context", {}), body["examples"]
    if not isinstance(examples, list) or not isinstance(context, dict):
        raise InvalidRequest("`examples` must be a list and `context` an object.", path="examples")
    return [context | example if isinstance(example, dict) else example for example in examples]


def _bytes_named(name: str, array: Any) -> Any:
    """An output whose name ends in `_bytes` is base64, whatever its bytes are."""
    if not name.endswith(_BINARY) or array.dtype.kind != "O":
        return array
    coded = np.empty(array.size, dtype=object)
    coded[:] = [
        as_base64(item) if isinstance(item, bytes) else item for item in array.ravel().tolist()
    ]
    return coded.reshape(array.shape)


def _scores(response: InferenceResponse) -> list[list[tuple[str, float]]]:
    """Label and score of each class by row; a model without scores gives its label 1.0."""
    probabilities = response.outputs.get(PROBABILITIES)
    classes = response.classes
    if probabilities is None or classes is None or probabilities.shape[1] != len(classes):
        return [[(_label(value), 1.0)] for value in plain(_labels(response.outputs))]
    names = [_label(value) for value in classes]
    return [list(zip(names, row, strict=True)) for row in probabilities.tolist()]


def _labels(outputs: Outputs) -> Any:
    labels = outputs.get("label")
    if labels is None:
        raise InvalidRequest("The model is no classifier.", next_step="Use `:predict`.")
    return labels


def _label(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def encode_models(names: Iterable[str]) -> bytes:
    """What `GET /v1/models` answers."""
    return msgspec.json.encode({"models": list(names)})


def encode_status(name: str, versions: Sequence[tuple[str, bool, str]], *, ready: bool) -> bytes:
    """The status of versions: (number, ready, why it is not). KServe reads `ready`."""
    return msgspec.json.encode(
        {
            "name": name,
            "ready": ready,
            "model_version_status": [_status(*version) for version in versions],
        }
    )


def _status(number: str, ready: bool, error: str) -> dict[str, Any]:  # noqa: FBT001 - a fact
    state = "AVAILABLE" if ready else "LOADING"
    code = "UNAVAILABLE" if error else "OK"
    return {
        "version": number,
        "state": state,
        "status": {"error_code": code, "error_message": error},
    }


def encode_metadata(name: str, number: str, signature: Signature) -> bytes:
    """What `GET /v1/models/{m}/metadata` answers."""
    serving_default = {
        "inputs": {field.name: _tensor(field) for field in signature.inputs},
        "outputs": {field.name: _tensor(field) for field in signature.outputs},
        "method_name": "tensorflow/serving/predict",
    }
    return msgspec.json.encode(
        {
            "model_spec": {"name": name, "signature_name": "", "version": number},
            "metadata": {"signature_def": {"signature_def": {"serving_default": serving_default}}},
        }
    )


def _tensor(field: Field) -> dict[str, Any]:
    dims = [{"size": str(size), "name": ""} for size in field.shape]
    return {
        "dtype": _TYPES.get(field.dtype, f"DT_{field.dtype.value}"),
        "tensor_shape": {"dim": dims, "unknown_rank": False},
        "name": field.name,
    }
