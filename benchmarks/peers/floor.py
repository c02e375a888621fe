"""The floor: raw ASGI, msgspec, ONNX Runtime on the event loop; no validation, no limits, no routes.

Like Shipway, it answers with all outputs of the model, where the other services give the first.
"""

import os

import msgspec
import numpy as np
import onnxruntime

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(
    os.environ["BENCH_MODEL"], options, providers=["CPUExecutionProvider"]
)
graph_input = session.get_inputs()[0].name
graph_outputs = [output.name for output in session.get_outputs()]


class Tensor(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: list[float]


class Request(msgspec.Struct):
    inputs: list[Tensor]


decoder, encoder = msgspec.json.Decoder(Request), msgspec.json.Encoder()


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    message = await receive()
    body = message["body"]
    while message.get("more_body"):
        message = await receive()
        body += message["body"]
    tensor = decoder.decode(body).inputs[0]
    rows = np.array(tensor.data, dtype=np.float32).reshape(tensor.shape)
    arrays = session.run(graph_outputs, {graph_input: rows})
    answer = encoder.encode(
        {
            "outputs": [
                {"name": name, "shape": array.shape, "data": array.ravel().tolist()}
                for name, array in zip(graph_outputs, arrays, strict=True)
            ]
        }
    )
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(answer)).encode()),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})
