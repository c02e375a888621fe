"""The generate extension of Open Inference: one row by name in, the outputs by name out.

Source: triton-inference-server `extension_generate.md`. A model that is no language model answers
`generate_stream` with a stream of one event.
"""

from __future__ import annotations

from typing import Any

import msgspec

from shipway.core.errors import InvalidRequest, ShipwayError
from shipway.core.inference import InferenceRequest, InferenceResponse
from shipway.core.signature import Signature
from shipway.wire.codec import Answer, Message
from shipway.wire.media import json_answer, refusal, typed_answer
from shipway.wire.predictions import plain
from shipway.wire.rows import object_of, one_row

_TEXT_IN, _TEXT_OUT = "text_input", "text_output"
_EVENTS = "text/event-stream; charset=utf-8"


class Generate:
    """The codec of `…/generate`, and of `…/generate_stream`. See `wire.codec.Codec`."""

    def __init__(self, *, streaming: bool) -> None:
        self._streaming = streaming

    def decode(self, message: Message, signature: Signature) -> InferenceRequest:
        """The request: members named like inputs are inputs, the others are parameters.

        `text_input` is the only input of a model that has one of another name.
        """
        body = object_of(message.body)
        names = signature.input_names()
        values = {name: value for name, value in body.items() if name in names}
        renamed = _TEXT_IN in body and _TEXT_IN not in names and len(names) == 1
        if renamed:
            values[names[0]] = body[_TEXT_IN]
        if not values:
            raise InvalidRequest(
                "The body names no input of the model.",
                next_step=f"Its inputs are: {', '.join(names[:20])}.",
                path="$",
            )
        inputs = one_row(values, signature)
        parameters = {"renamed": True} if renamed and len(signature.outputs) == 1 else None
        return InferenceRequest(inputs=inputs, id=_id(body), parameters=parameters)

    def encode(self, response: InferenceResponse, asked: InferenceRequest) -> Answer:
        """The outputs by name, beside the model's; as a server-sent event when streaming."""
        members: dict[str, Any] = {
            "model_name": response.model,
            "model_version": response.version,
        }
        for name, array in response.outputs.items():
            values = plain(array)
            single = isinstance(values, list) and len(values) == 1
            shown = _TEXT_OUT if asked.parameters else name
            members[shown] = values[0] if single else values
        if response.id:
            members["id"] = response.id
        if not self._streaming:
            return json_answer(members, response)
        return typed_answer(_EVENTS, b"data: " + msgspec.json.encode(members) + b"\n\n", response)

    def refuse(self, error: ShipwayError) -> Answer:
        """`{"error": …}`; the stream has not begun when something fails."""
        return refusal(error, {"error": str(error), "code": error.code})


def _id(body: dict[str, Any]) -> str:
    given = body.get("id", "")
    return given if isinstance(given, str) else ""
