"""KServe: a custom model of its Python SDK; Open Inference v2 over REST and gRPC."""

import numpy as np
from kserve import InferOutput, InferResponse, Model, ModelServer
from loaded import load


class Service(Model):
    def __init__(self):
        super().__init__("m")
        self.load()

    def load(self):
        self.model = load()
        self.ready = True
        return True

    def predict(self, payload, headers=None, response_headers=None):
        output = self.model(payload.inputs[0].as_numpy().astype(np.float32, copy=False))
        datatype = "FP32" if output.dtype == np.float32 else "INT64"
        tensor = InferOutput(name="output", shape=list(output.shape), datatype=datatype)
        tensor.set_data_from_numpy(output, binary_data=False)
        return InferResponse(
            response_id=payload.id or "none", model_name=self.name, infer_outputs=[tensor]
        )


if __name__ == "__main__":
    ModelServer().start([Service()])
