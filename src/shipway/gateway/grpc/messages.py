"""The protobuf messages, made from the checked-in descriptors.

They live in a descriptor pool of their own: another library in this process may register messages of
the same names. No generated code is involved, so no check of versions between generator and runtime.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from shipway.core.errors import InvalidRequest


def _pool() -> Any:
    pool = descriptor_pool.DescriptorPool()
    data = (Path(__file__).parent / "messages.binpb").read_bytes()
    for file in descriptor_pb2.FileDescriptorSet.FromString(data).file:
        pool.Add(file)
    return pool


POOL = _pool()


def message_class(name: str) -> Any:
    """The class of the message of that full name."""
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(name))


def parsed(kind: Any, data: bytes) -> Any:
    """A message of that class.

    Raises:
        InvalidRequest: the bytes are no such message.
    """
    try:
        return kind.FromString(data)
    except DecodeError as exc:
        raise InvalidRequest(
            f"The bytes are no {kind.DESCRIPTOR.full_name}.",
            next_step="Build the client from the Open Inference gRPC definition.",
        ) from exc


ModelInferRequest = message_class("inference.ModelInferRequest")
ModelInferResponse = message_class("inference.ModelInferResponse")
ModelStreamInferResponse = message_class("inference.ModelStreamInferResponse")
