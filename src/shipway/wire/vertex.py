"""Vertex AI's contract for custom containers: `{"instances", "parameters"}` to `{"predictions"}`.

Source: Google Cloud, "Custom container requirements for prediction".
"""

from __future__ import annotations

from shipway.core.errors import InvalidRequest, ShipwayError
from shipway.core.inference import InferenceRequest, InferenceResponse
from shipway.core.signature import Signature
from shipway.wire.codec import Answer, Message
from shipway.wire.media import json_answer, refusal
from shipway.wire.predictions import values_by_row, wanted_outputs
from shipway.wire.rows import inputs_of_rows, object_of


class Vertex:
    """The codec of `AIP_PREDICT_ROUTE`. See `wire.codec.Codec`."""

    def decode(self, message: Message, signature: Signature) -> InferenceRequest:
        """The request: `instances`, one item per row."""
        body = object_of(message.body)
        if "instances" not in body:
            raise InvalidRequest('Send {"instances": […]}.', path="instances")
        wanted = wanted_outputs(signature, body.get("parameters"))
        return InferenceRequest(inputs=inputs_of_rows(body["instances"], signature), outputs=wanted)

    def encode(self, response: InferenceResponse, asked: InferenceRequest) -> Answer:
        """`{"predictions": […]}`, one item per instance."""
        del asked
        return json_answer({"predictions": values_by_row(response.outputs)}, response)

    def refuse(self, error: ShipwayError) -> Answer:
        """`{"error": …}`."""
        return refusal(error, {"error": str(error), "code": error.code})
