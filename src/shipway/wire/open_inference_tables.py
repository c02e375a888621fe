"""Tables on Open Inference's own route: CSV, Arrow IPC and Parquet bodies of `…/infer`.

The answer is in the form that `Accept` names; else Arrow for Arrow, and JSON for CSV and Parquet.
"""

from __future__ import annotations

from shipway.core.errors import ShipwayError
from shipway.core.inference import InferenceRequest, InferenceResponse
from shipway.core.signature import Signature
from shipway.wire.codec import Answer, Message
from shipway.wire.delimited import Header, csv_of, header_of, inputs_of_csv
from shipway.wire.media import CSV, JSON, accepted, media_type, refusal, typed_answer
from shipway.wire.open_inference import encode_response

_STREAM = "application/vnd.apache.arrow.stream"
_FILE = "application/vnd.apache.arrow.file"
_PARQUET = "application/vnd.apache.parquet"
TABLE_TYPES = frozenset({CSV, _STREAM, _FILE, _PARQUET})
"""The media types that this codec reads and writes."""


class OpenInferenceTables:
    """The codec of tables on `POST /v2/models/{endpoint}/infer`. See `wire.codec.Codec`."""

    def decode(self, message: Message, signature: Signature) -> InferenceRequest:
        """The request: a column per input, in any order; CSV has a header unless it says not."""
        kind, parameters = media_type(message.headers)
        if kind == CSV:
            header = header_of(parameters, Header.PRESENT)
            inputs = inputs_of_csv(message.body, signature, header)
        else:
            from shipway.wire.arrow import Kind, inputs_of_arrow

            inputs = inputs_of_arrow(message.body, Kind(kind), signature)
        asked = accepted(message.headers, (JSON, *sorted(TABLE_TYPES)))
        form = asked or (kind if kind in (_STREAM, _FILE) else JSON)
        return InferenceRequest(inputs=inputs, parameters={"form": form})

    def encode(self, response: InferenceResponse, asked: InferenceRequest) -> Answer:
        """The outputs in the form that was asked for."""
        form = (asked.parameters or {}).get("form", JSON)
        if form == JSON:
            return typed_answer(JSON, encode_response(response)[0], response)
        if form == CSV:
            return typed_answer(CSV, csv_of(response.outputs, header=True), response)
        from shipway.wire.arrow import Kind, encode_arrow

        return typed_answer(form, encode_arrow(response, Kind(form)), response)

    def refuse(self, error: ShipwayError) -> Answer:
        """`{"error": …}`, with Shipway's code and facts beside it."""
        return refusal(error, {"error": str(error), "code": error.code, "details": error.details})
