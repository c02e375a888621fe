"""The caller's side of Open Inference v2: request bodies with binary tensors, and their answers.

Numeric arrays travel as raw little-endian buffers behind the JSON header (the binary tensor data
extension); text travels as JSON, where a null has a form.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from shipway.client.answers import Prediction
from shipway.client.exchange import Answer
from shipway.core.errors import Bug
from shipway.core.tensors import NUMPY_OF, Array, DataType, data_type_of

HEADER_LENGTH = "inference-header-content-length"


def infer_body(
    inputs: Mapping[str, Array], *, outputs: Sequence[str] | None = None, request_id: str = ""
) -> tuple[bytes, dict[str, str]]:
    """The body of an inference request and its HTTP headers.

    Raises:
        TypeError: an array's dtype has no Open Inference data type.
    """
    buffers: list[bytes] = []
    header: dict[str, Any] = {
        "inputs": [_tensor(name, array, buffers) for name, array in inputs.items()],
        "parameters": {"binary_data_output": True},
    }
    if request_id:
        header["id"] = request_id
    if outputs is not None:
        header["outputs"] = [{"name": name} for name in outputs]
    encoded = msgspec.json.encode(header)
    headers = {"content-type": "application/json"}
    if buffers:
        headers = {"content-type": "application/octet-stream", HEADER_LENGTH: str(len(encoded))}
    return b"".join((encoded, *buffers)), headers


def _tensor(name: str, array: Array, buffers: list[bytes]) -> dict[str, Any]:
    kind = data_type_of(array)
    tensor: dict[str, Any] = {
        "name": name,
        "shape": list(array.shape),
        "datatype": kind.wire_name,
    }
    if kind.is_numeric:
        raw = np.ascontiguousarray(array, dtype=NUMPY_OF[kind].newbyteorder("<")).tobytes()
        buffers.append(raw)
        tensor["parameters"] = {"binary_data_size": len(raw)}
    else:
        tensor["data"] = [_text(item) for item in array.ravel()]
    return tensor


def _text(item: Any) -> str | None:
    if item is None:
        return None
    return item.decode() if isinstance(item, bytes) else str(item)


class _Output(msgspec.Struct, kw_only=True):
    name: str
    datatype: str
    shape: tuple[int, ...]
    data: list[Any] | None = None
    parameters: dict[str, Any] = {}


class _Response(msgspec.Struct, kw_only=True):
    model_name: str
    outputs: list[_Output]
    model_version: str = ""
    id: str = ""


_DECODER = msgspec.json.Decoder(_Response)


def read_prediction(answer: Answer) -> Prediction:
    """The prediction in an answer, JSON or binary.

    Raises:
        Bug: the answer does not follow the protocol.
    """
    size = int(answer.headers.get(HEADER_LENGTH, len(answer.body)))
    try:
        response = _DECODER.decode(answer.body[:size])
        buffers = memoryview(answer.body)[size:]
        outputs = dict(_arrays(response.outputs, buffers))
    except (msgspec.MsgspecError, KeyError, ValueError, struct.error) as exc:
        raise Bug(
            f"The gateway's answer does not follow Open Inference v2: {exc}.",
            next_step="Use the same release of Shipway for client and server.",
        ) from exc
    return Prediction(
        endpoint=response.model_name,
        version=response.model_version,
        outputs=outputs,
        id=response.id,
    )


def _arrays(outputs: list[_Output], buffers: memoryview) -> Iterator[tuple[str, Array]]:
    start = 0
    for output in outputs:
        kind = DataType(output.datatype)
        size = output.parameters.get("binary_data_size")
        if size is None:
            flat = _from_json(output.data or [], kind)
        else:
            flat = _from_binary(buffers[start : start + size], kind)
            start += size
        yield output.name, flat.reshape(output.shape)


def _from_json(data: list[Any], kind: DataType) -> Array:
    array = np.array(data, dtype=NUMPY_OF[kind])
    return array.ravel()


def _from_binary(buffer: memoryview, kind: DataType) -> Array:
    if kind.is_numeric:
        return np.frombuffer(buffer, dtype=NUMPY_OF[kind].newbyteorder("<")).astype(NUMPY_OF[kind])
    items = list(_elements(buffer))
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


def _elements(buffer: memoryview) -> Iterator[str | bytes]:
    start = 0
    while start < len(buffer):
        (size,) = struct.unpack_from("<I", buffer, start)
        raw = bytes(buffer[start + 4 : start + 4 + size])
        start += 4 + size
        try:
            yield raw.decode()
        except UnicodeDecodeError:
            yield raw
