"""Open Inference v2 over gRPC: `ModelInferRequest` to a request, a response to `ModelInferResponse`.

Sources: kserve/open-inference-protocol `open_inference_grpc.proto`. A request's tensors are all raw
(`raw_input_contents`: little-endian, row-major, BYTES with lengths before them) or all typed
(`contents`); its answer is like it. FP16 has no typed field and always travels raw.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from shipway.core.errors import InvalidRequest, ShipwayError
from shipway.core.inference import InferenceRequest, InferenceResponse
from shipway.core.signature import Signature
from shipway.core.tensors import NUMPY_OF, Array, DataType, data_type_of
from shipway.gateway.grpc.call import Metadata, Reply
from shipway.gateway.grpc.messages import ModelInferResponse, ModelStreamInferResponse
from shipway.wire.open_inference import joined_bytes, split_bytes

FIELD_OF: dict[DataType, str] = {
    DataType.BOOL: "bool_contents",
    DataType.UINT8: "uint_contents",
    DataType.UINT16: "uint_contents",
    DataType.UINT32: "uint_contents",
    DataType.UINT64: "uint64_contents",
    DataType.INT8: "int_contents",
    DataType.INT16: "int_contents",
    DataType.INT32: "int_contents",
    DataType.INT64: "int64_contents",
    DataType.FP32: "fp32_contents",
    DataType.FP64: "fp64_contents",
    DataType.BYTES: "bytes_contents",
    DataType.STRING: "bytes_contents",
}
"""Where a typed tensor's values are, in `InferTensorContents`."""

_KINDS = {kind.value: kind for kind in DataType if kind is not DataType.STRING}
_NARROW = {
    kind: np.iinfo(NUMPY_OF[kind])
    for kind in (DataType.INT8, DataType.INT16, DataType.UINT8, DataType.UINT16)
}
_RAW = {"raw": True}
_HALF = np.dtype(np.float16).char
_Shape = tuple[str, np.dtype[Any], tuple[int, ...]]
_SMALL = [bytes((number,)) for number in range(0x80)]

# Field numbers and wire type 2 (bytes) of what is serialized here.
_ID = bytes((3 << 3 | 2,))
_RAW_OUTPUT = bytes((6 << 3 | 2,))
_STREAMED = bytes((2 << 3 | 2,))
_REFUSED = frozenset({"shared_memory_region", "classification"})


class InferCall:
    """A `ModelInferRequest`, and how long its caller still waits (None when it did not say).

    `headers` are the call's metadata. It has no `body`: that is for what reads JSON.
    """

    __slots__ = ("headers", "request", "timeout_s")

    body = b""

    def __init__(
        self, request: Any, timeout_s: float | None, headers: Metadata | None = None
    ) -> None:
        self.request = request
        self.timeout_s = timeout_s
        self.headers = Metadata() if headers is None else headers

    @property
    def source(self) -> str:
        """See `wire.callers.Sent`."""
        return self.headers.source

    @property
    def peer(self) -> str:
        """See `wire.callers.Sent`."""
        return self.headers.peer

    @property
    def size_bytes(self) -> int:
        """The size of the message, uncompressed."""
        return int(self.request.ByteSize())


class GrpcInference:
    """The codec of `ModelInfer`. See `wire.codec.Codec`."""

    def decode(self, message: InferCall, signature: Signature) -> InferenceRequest:
        """The request, its arrays in exactly the dtypes that it names."""
        request = message.request
        raw = request.raw_input_contents
        tensors = request.inputs
        if raw and len(raw) != len(tensors):
            raise InvalidRequest(
                f"There are {len(tensors)} inputs and {len(raw)} `raw_input_contents`.",
                next_step="Send all inputs raw, or none.",
                path="raw_input_contents",
            )
        inputs: dict[str, Array] = {}
        for position, tensor in enumerate(tensors):
            data = raw[position] if raw else None
            inputs[tensor.name] = _array_of(tensor, data, position)
        if len(inputs) != len(tensors):
            raise InvalidRequest("An input appears twice.", path="inputs")
        return InferenceRequest(
            inputs=inputs,
            outputs=_wanted(request.outputs) if request.outputs else None,
            id=request.id,
            parameters=_RAW if raw else None,
            timeout_s=_timeout_s(message),
        )

    def encode(self, response: InferenceResponse, asked: InferenceRequest) -> Reply:
        """The outputs raw when the inputs were, typed otherwise (all raw when one of them is FP16)."""
        answer = infer_response(response, raw=asked.parameters is not None)
        return Reply.carrying(answer, response.marks)

    def refuse(self, error: ShipwayError) -> Reply:
        """The status of `gateway.grpc.status`."""
        return Reply.refusing(error)


class GrpcStreamInference(GrpcInference):
    """The codec of one request in a `ModelStreamInfer`: a failure is a message, and the call goes on."""

    def __init__(self, request: Any) -> None:
        self._model, self._id = request.model_name, request.id

    def encode(self, response: InferenceResponse, asked: InferenceRequest) -> Reply:
        """As for `ModelInfer`, in a `ModelStreamInferResponse`."""
        answer = infer_response(response, raw=asked.parameters is not None)
        return Reply.carrying(b"".join((_STREAMED, _varint(len(answer)), answer)))

    def refuse(self, error: ShipwayError) -> Reply:
        """`error_message`, with the request's id so that the caller knows which one failed."""
        about = ModelInferResponse(model_name=self._model, id=self._id)
        told = ModelStreamInferResponse(error_message=str(error), infer_response=about)
        return Reply.of(told).about(error)


def infer_response(response: InferenceResponse, *, raw: bool) -> bytes:
    """The `ModelInferResponse` that carries a response, serialized."""
    if raw or any(array.dtype.char == _HALF for array in response.outputs.values()):
        return _raw_response(response)
    message = ModelInferResponse(
        model_name=response.model, model_version=response.version, id=response.id
    )
    for name, array in response.outputs.items():
        kind = data_type_of(array)
        tensor = message.outputs.add(name=name, datatype=kind.wire_name, shape=array.shape)
        if kind.is_numeric:
            getattr(tensor.contents, FIELD_OF[kind]).extend(array.ravel().tolist())
        else:
            tensor.contents.bytes_contents.extend(_bytes_of(item) for item in array.ravel())
    data: bytes = message.SerializeToString()
    return data


def _raw_response(response: InferenceResponse) -> bytes:
    """Fields in any order are the same message: what each answer repeats is serialized once."""
    outputs = response.outputs
    shapes = tuple([(name, array.dtype, array.shape) for name, array in outputs.items()])
    known = _described(response.model, response.version, shapes)
    parts = [known]
    if response.id:
        identifier = response.id.encode()
        parts += (_ID, _varint(len(identifier)), identifier)
    for array in outputs.values():
        data = _raw_of(array)
        parts += (_RAW_OUTPUT, _varint(len(data)), data)
    return b"".join(parts)


@lru_cache(maxsize=4096)
def _described(model: str, version: str, shapes: tuple[_Shape, ...]) -> bytes:
    message = ModelInferResponse(model_name=model, model_version=version)
    for name, dtype, shape in shapes:
        kind = data_type_of(np.empty(0, dtype))
        message.outputs.add(name=name, datatype=kind.wire_name, shape=shape)
    data: bytes = message.SerializeToString()
    return data


def _varint(number: int) -> bytes:
    if number < 0x80:
        return _SMALL[number]
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _raw_of(array: Array) -> bytes:
    dtype = array.dtype
    if dtype.kind in "OUS":
        return joined_bytes(array)
    return (array if dtype.isnative else array.astype(dtype.newbyteorder("="))).tobytes()


def _bytes_of(item: Any) -> bytes:
    return b"" if item is None else item if isinstance(item, bytes) else str(item).encode()


def _timeout_s(message: InferCall) -> float | None:
    """The sooner of the call's deadline and the parameter `timeout`: microseconds, as Triton has it."""
    parameters = message.request.parameters
    if not parameters or "timeout" not in parameters:
        return message.timeout_s
    own_s = float(parameters["timeout"].int64_param) / 1e6
    if own_s <= 0:
        return message.timeout_s
    return own_s if message.timeout_s is None else min(own_s, message.timeout_s)


def _wanted(outputs: Any) -> tuple[str, ...]:
    for output in outputs:
        if output.parameters:
            _refuse_parameters(output.parameters)
    return tuple(output.name for output in outputs)


def _refuse_parameters(parameters: Mapping[str, Any]) -> None:
    """Some parameters change what an answer is: not to know them would be a wrong answer."""
    unknown = _REFUSED.intersection(parameters)
    if unknown:
        raise InvalidRequest(
            f"Parameter `{min(unknown)}` is not known here.",
            next_step="Send tensors in the message, and read probabilities from the outputs.",
        )


def _array_of(tensor: Any, raw: bytes | None, position: int) -> Array:
    kind = _KINDS.get(tensor.datatype)
    if kind is None:
        raise _refusal(position, "datatype", f"`{tensor.datatype}` is not a datatype")
    if tensor.parameters:
        _refuse_parameters(tensor.parameters)
    shape = tuple(tensor.shape)
    if shape and min(shape) < 0:
        raise _refusal(position, "shape", "a dimension is negative")
    if raw is None:
        array = _typed(tensor, kind, prod(shape), position=position)
    elif tensor.HasField("contents"):
        raise _refusal(position, "contents", "the inputs are raw, and this one is typed too")
    else:
        array = _untyped(raw, kind, prod(shape), position=position)
    try:
        return array.reshape(shape)
    except ValueError as exc:  # too many dimensions, or an empty tensor of an impossible size
        raise _refusal(position, "shape", f"no tensor has this shape ({exc})") from exc


def _untyped(raw: bytes, kind: DataType, count: int, *, position: int) -> Array:
    if kind is DataType.BYTES:
        return split_bytes(raw, count, position)
    dtype = NUMPY_OF[kind]
    if len(raw) != count * dtype.itemsize:
        fact = f"{len(raw)} raw bytes do not fill {count} elements of {kind}"
        raise _refusal(position, "shape", fact)
    return np.frombuffer(raw, dtype) if raw else np.empty(0, dtype)


def _typed(tensor: Any, kind: DataType, count: int, *, position: int) -> Array:
    if kind is DataType.FP16:
        fact = "FP16 has no typed field; send it in `raw_input_contents`"
        raise _refusal(position, "contents", fact)
    field = FIELD_OF[kind]
    values = getattr(tensor.contents, field)
    if len(values) != count:
        fact = f"{len(values)} values in `{field}` do not fill {count} elements of {kind}"
        raise _refusal(position, "contents", fact)
    if kind is DataType.BYTES:
        array = np.empty(count, dtype=object)
        array[:] = list(values)
        return array
    dtype = NUMPY_OF[kind]
    bounds = _NARROW.get(kind)
    if bounds is None:
        return np.array(values, dtype)
    wide = np.array(values, np.int64)
    if count and (wide.min() < bounds.min or wide.max() > bounds.max):
        raise _refusal(position, "contents", f"a value is out of the range of {kind}")
    return wide.astype(dtype)


def _refusal(position: int, member: str, fact: str) -> InvalidRequest:
    path = f"inputs[{position}].{member}"
    return InvalidRequest(f"At `{path}`: {fact}.", path=path)
