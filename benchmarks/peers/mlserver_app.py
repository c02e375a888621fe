"""MLServer brings no ONNX runtime; this is a custom one, as its documentation describes."""

import numpy as np
from loaded import load
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse


class OnnxModel(MLModel):
    async def load(self):
        self.run = load(self.settings.parameters.uri)
        return True

    async def predict(self, payload):
        rows = self.decode(payload.inputs[0], default_codec=NumpyCodec)
        output = self.run(rows.astype(np.float32, copy=False))
        encoded = NumpyCodec.encode_output("output", output)
        return InferenceResponse(model_name=self.name, outputs=[encoded])
