"""Open Inference Protocol v2 over REST, with the binary tensor data extension.

Sources: kserve/open-inference-protocol `inference_rest.md`; triton-inference-server
`extension_binary_data.md`. Little-endian, row-major; BOOL is one byte; BYTES elements are u32 length
and bytes. A request may mix JSON and binary inputs; binary tensors follow the JSON in input order.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from math import prod
from typing import Any

import msgspec
import numpy as np

from shipway.core.errors import InvalidRequest, ShipwayError
from shipway.core.inference import InferenceRequest, InferenceResponse
from shipway.core.signature import Field, Layout, Signature
from shipway.core.tensors import NUMPY_OF, Array, DataType, data_type_of
from shipway.wire.codec import JSON_ONLY, Answer, Message, marked
from shipway.wire.problems import problem_of
from shipway.wire.rows import holds_text

HEADER_LENGTH = b"inference-header-content-length"
"""The header that gives the length of the JSON part of a binary body."""


class _InputIn(msgspec.Struct):
    name: str
    shape: tuple[int, ...]
    datatype: str
    data: list[Any] | None = None
    parameters: dict[str, Any] | None = None


class _OutputIn(msgspec.Struct):
    name: str
    parameters: dict[str, Any] | None = None


class _RequestIn(msgspec.Struct):
    inputs: list[_InputIn]
    id: str = ""
    parameters: dict[str, Any] | None = None
    outputs: list[_OutputIn] | None = None


class _OutputOut(msgspec.Struct, omit_defaults=True):
    name: str
    shape: tuple[int, ...]
    datatype: str
    data: list[Any] | None = None
    parameters: dict[str, Any] | None = None


class _ResponseOut(msgspec.Struct, omit_defaults=True):
    model_name: str
    model_version: str
    outputs: list[_OutputOut]
    id: str = ""


_decoder = msgspec.json.Decoder(_RequestIn)
_encoder = msgspec.json.Encoder()
_WIRE_TYPES = {kind.value: kind for kind in DataType if kind is not DataType.STRING}
_BYTE_LENGTH = struct.Struct("<I")
_BINARY = (b"content-type", b"application/octet-stream")
_MOST_DIGITS = 18
_SMALL_BYTES = 8192
"""In a larger body, text among numbers is looked for: numpy makes all texts as wide as the longest."""


class OpenInference:
    """The codec of `POST /v2/models/{endpoint}/infer`. See `wire.codec.Codec`."""

    def decode(self, message: Message, signature: Signature) -> InferenceRequest:
        """The request: JSON, JSON with binary tensors behind it, or one raw tensor."""
        length = message.headers.get(HEADER_LENGTH)
        if length is None:
            return decode_request(message.body)
        if not length.isdigit() or len(length) > _MOST_DIGITS:
            raise InvalidRequest("Inference-Header-Content-Length must be a number of bytes.")
        if int(length) == 0:
            return decode_raw(message.body, signature)
        return decode_request(message.body, header_length=int(length))

    def encode(self, response: InferenceResponse, asked: InferenceRequest) -> Answer:
        """JSON, with the outputs behind it that were wanted as binary."""
        body, json_length = encode_response(response, asked.parameters)
        if json_length is None:
            return Answer(200, body, marked(JSON_ONLY, response))
        headers = (_BINARY, (HEADER_LENGTH, b"%d" % json_length))
        return Answer(200, body, marked(headers, response))

    def refuse(self, error: ShipwayError) -> Answer:
        """`{"error": …}` with the status of `wire.problems`."""
        problem = problem_of(error)
        extra = ((name.encode(), value.encode()) for name, value in problem.headers.items())
        return Answer(problem.status, encode_error(error), (*JSON_ONLY, *extra))


def decode_request(body: bytes, *, header_length: int | None = None) -> InferenceRequest:
    """The request in a body. `header_length` is the header of that name, None for pure JSON.

    Numeric JSON data arrives in numpy's natural dtype, mixed or null-bearing data as objects: the
    signature's validator decides what is allowed. `parameters` carry `binary_outputs`, see
    `binary_outputs_of`.

    Raises:
        InvalidRequest: not JSON (with the byte), wrong shape of the message (with the path), an
            unknown datatype, data that does not fill the shape, or a binary part of other length.
    """
    text = body if header_length is None else _json_part(body, header_length)
    try:
        message = _decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise InvalidRequest(
            f"The body is not an Open Inference request: {exc}.",
            next_step='Send {"inputs": [{"name", "shape", "datatype", "data"}]}.',
            position=str(exc),
        ) from exc
    inputs: dict[str, Array] = {}
    offset = len(text)
    for position, tensor in enumerate(message.inputs):
        if tensor.data is not None:
            array = _array_of_json(tensor, position, small=len(text) <= _SMALL_BYTES)
        else:
            array, offset = _array_of_binary(tensor, body, offset, position=position)
        if tensor.name in inputs:
            raise _refusal(position, "name", f"input `{tensor.name}` appears twice")
        inputs[tensor.name] = array
    if offset != len(body):
        raise InvalidRequest(f"{len(body) - offset} bytes follow the last tensor.", path="body")
    outputs = None if not message.outputs else tuple(output.name for output in message.outputs)
    return InferenceRequest(
        inputs=inputs,
        outputs=outputs,
        id=message.id,
        parameters=_binary_wishes(message),
        timeout_s=None if message.parameters is None else _timeout_s(message.parameters),
    )


def _timeout_s(parameters: Mapping[str, Any]) -> float | None:
    """The `timeout` among the parameters: microseconds, as Triton has it; 0 is none."""
    given = parameters.get("timeout")
    if given is None:
        return None
    if not isinstance(given, int) or isinstance(given, bool) or given < 0:
        raise InvalidRequest(
            "`timeout` must be a whole number of microseconds.", path="$.parameters.timeout"
        )
    return given / 1_000_000 or None


def decode_raw(body: bytes, signature: Signature) -> InferenceRequest:
    """The request of a raw binary body (`Inference-Header-Content-Length: 0`): one tensor, one row.

    Raises:
        InvalidRequest: the model has several inputs or several unknown dimensions, or the bytes do
            not fill the shape.
    """
    if len(signature.inputs) != 1:
        raise InvalidRequest(
            "A raw binary request needs a model with one input;"
            f" this one has {len(signature.inputs)}.",
            next_step="Send the tensors with a JSON header.",
        )
    field = signature.inputs[0]
    parameters = {"binary_outputs": True}
    if not field.dtype.is_numeric:
        single = np.empty(1, dtype=object)
        single[0] = body
        array: Array = single.reshape((1,) * len(field.shape))
    else:
        array = _raw_numbers(body, field)
    return InferenceRequest(inputs={field.name: array}, parameters=parameters)


def _raw_numbers(body: bytes, field: Field) -> Array:
    dtype = NUMPY_OF[field.dtype]
    inner = field.shape[1:]
    if len(body) % dtype.itemsize or inner.count(-1) > 1:
        raise InvalidRequest(f"{len(body)} raw bytes do not make a {field.dtype} tensor.")
    try:
        return np.frombuffer(body, dtype).reshape((1, *inner) if inner else (-1,))
    except ValueError as exc:
        raise InvalidRequest(
            f"{len(body)} raw bytes do not fill one row of shape {list(inner)} {field.dtype}."
        ) from exc


def _json_part(body: bytes, length: int) -> bytes:
    if not 0 < length <= len(body):
        raise InvalidRequest(
            f"Inference-Header-Content-Length is {length}, the body has {len(body)} bytes."
        )
    return body[:length]


def _refusal(position: int, member: str, fact: str) -> InvalidRequest:
    path = f"$.inputs[{position}].{member}"
    return InvalidRequest(f"At `{path}`: {fact}.", path=path)


def _array_of_json(tensor: _InputIn, position: int, *, small: bool) -> Array:
    data: Any = tensor.data
    if tensor.datatype not in _WIRE_TYPES:
        raise _refusal(position, "datatype", f"`{tensor.datatype}` is not a datatype")
    try:
        if tensor.datatype == "BYTES" or (not small and holds_text(data)):
            array = np.array(data, dtype=object)
        else:
            array = _natural(data)
        if array.shape != tensor.shape:
            if array.size != prod(tensor.shape) or min(tensor.shape, default=0) < 0:
                raise _refusal(
                    position, "data", f"{array.size} values do not fill shape {list(tensor.shape)}"
                )
            array = array.reshape(tensor.shape)
    except (ValueError, OverflowError) as exc:
        raise _refusal(position, "data", f"the nested lists are ragged ({exc})") from exc
    return array


def _natural(data: list[Any]) -> Array:
    array = np.array(data)
    if array.dtype.kind in "USO":
        array = np.array(data, dtype=object)
        if array.ndim > 1 or not any(isinstance(item, list) for item in array.ravel().tolist()):
            return array
        raise ValueError("rows of different lengths")
    return array


def _array_of_binary(
    tensor: _InputIn, body: bytes, offset: int, *, position: int
) -> tuple[Array, int]:
    size = (tensor.parameters or {}).get("binary_data_size")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise _refusal(position, "data", "there is neither `data` nor `binary_data_size`")
    dtype = _WIRE_TYPES.get(tensor.datatype)
    if dtype is None:
        raise _refusal(position, "datatype", f"`{tensor.datatype}` is not a datatype")
    if offset + size > len(body):
        raise _refusal(position, "parameters", f"{size} bytes announced, {len(body) - offset} left")
    if min(tensor.shape, default=0) < 0:
        raise _refusal(position, "shape", "a dimension is negative")
    count = prod(tensor.shape)
    if dtype is DataType.BYTES:
        array = split_bytes(body[offset : offset + size], count, position)
    else:
        wanted = NUMPY_OF[dtype]
        if count * wanted.itemsize != size:
            raise _refusal(position, "parameters", f"{size} bytes do not fill {list(tensor.shape)}")
        array = np.frombuffer(body, wanted, count=count, offset=offset)
    try:
        return array.reshape(tensor.shape), offset + size
    except ValueError as exc:  # too many dimensions, or an empty tensor of an impossible size
        raise _refusal(position, "shape", f"no tensor has this shape ({exc})") from exc


def split_bytes(data: bytes, count: int, position: int) -> Array:
    """The `count` BYTES elements in a buffer, shape [count]; `position` is the input's, for the error.

    Raises:
        InvalidRequest: the buffer holds fewer or more.
    """
    items: list[bytes] = []
    offset = 0
    while offset + _BYTE_LENGTH.size <= len(data) and len(items) < count:
        (length,) = _BYTE_LENGTH.unpack_from(data, offset)
        offset += _BYTE_LENGTH.size
        items.append(data[offset : offset + length])
        offset += length
    if len(items) != count or offset != len(data):
        raise _refusal(position, "parameters", f"the bytes do not hold {count} BYTES elements")
    array = np.empty(count, dtype=object)
    array[:] = items
    return array


def _binary_wishes(message: _RequestIn) -> dict[str, Any] | None:
    """`{"binary_outputs": True | {name: bool}}` when any output is wanted as binary."""
    default = bool(message.parameters and message.parameters.get("binary_data_output"))
    own = {
        output.name: bool(output.parameters["binary_data"])
        for output in message.outputs or ()
        if output.parameters and "binary_data" in output.parameters
    }
    if not default and not any(own.values()):
        return None
    if not own:
        return {"binary_outputs": True}
    return {"binary_outputs": {o.name: own.get(o.name, default) for o in message.outputs or ()}}


def encode_response(
    response: InferenceResponse, parameters: Mapping[str, Any] | None = None
) -> tuple[bytes, int | None]:
    """The body, and the length of its JSON part when tensors follow it (None for pure JSON).

    `parameters` are those of the decoded request: they say which outputs are wanted as binary.
    """
    wishes = parameters.get("binary_outputs") if parameters else None
    outputs: list[_OutputOut] = []
    tail: list[bytes] = []
    for name, array in response.outputs.items():
        binary = wishes is True or (isinstance(wishes, dict) and wishes.get(name, False))
        outputs.append(_output(name, array, tail if binary else None))
    head = _encoder.encode(_ResponseOut(response.model, response.version, outputs, id=response.id))
    if not wishes:
        return head, None
    return b"".join((head, *tail)), len(head)


def _output(name: str, array: Array, tail: list[bytes] | None) -> _OutputOut:
    dtype = data_type_of(array)
    if tail is None:
        data = array.ravel().tolist()
        if dtype is DataType.BYTES:
            data = [_text_of(item) for item in data]
        return _OutputOut(name, array.shape, dtype.wire_name, data=data)
    data_bytes = (
        array.astype(NUMPY_OF[dtype], copy=False).tobytes()
        if dtype.is_numeric
        else joined_bytes(array)
    )
    tail.append(data_bytes)
    parameters = {"binary_data_size": len(data_bytes)}
    return _OutputOut(name, array.shape, dtype.wire_name, parameters=parameters)


def _text_of(item: bytes | None) -> str | None:
    return None if item is None else item.decode(errors="replace")


def joined_bytes(array: Array) -> bytes:
    """The elements of a BYTES or STRING array as one buffer, row-major; a null is empty."""
    parts: list[bytes] = []
    for item in array.ravel().tolist():
        data = b"" if item is None else item if isinstance(item, bytes) else str(item).encode()
        parts += (_BYTE_LENGTH.pack(len(data)), data)
    return b"".join(parts)


def encode_request(
    inputs: Mapping[str, Array], *, request_id: str = "", binary: bool = False
) -> tuple[bytes, int | None]:
    """A request's body, and the length of its JSON part when tensors follow it; for clients."""
    tail: list[bytes] = []
    tensors = [_output(name, array, tail if binary else None) for name, array in inputs.items()]
    message: dict[str, Any] = {"inputs": tensors}
    if request_id:
        message["id"] = request_id
    if not binary:
        return _encoder.encode(message), None
    message["parameters"] = {"binary_data_output": True}
    head = _encoder.encode(message)
    return b"".join((head, *tail)), len(head)


def encode_metadata(
    name: str, versions: list[str], platform: str, signature: Signature, *, serving: str = ""
) -> bytes:
    """The model metadata answer. Columns are tensors of shape [-1].

    `serving` is the version (`churn:2`) that gets the traffic; empty while none does.
    """
    return _encoder.encode(
        {
            "name": name,
            "versions": versions,
            "platform": platform,
            "inputs": [_tensor_metadata(field) for field in signature.inputs],
            "outputs": [_tensor_metadata(field) for field in signature.outputs],
            "parameters": {"layout": Layout(signature.layout).value, "serving": serving},
        }
    )


def _tensor_metadata(field: Field) -> dict[str, Any]:
    return {"name": field.name, "datatype": field.dtype.wire_name, "shape": field.shape}


def encode_error(error: ShipwayError) -> bytes:
    """`{"error": …}` of the protocol, with Shipway's code and facts beside it."""
    return _encoder.encode({"error": str(error), "code": error.code, "details": error.details})
