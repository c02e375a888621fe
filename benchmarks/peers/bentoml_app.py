"""BentoML: two workers; with BENCH_BATCHING, its adaptive batching."""

import bentoml
import numpy as np
from loaded import BATCH_ROWS, is_batching, load


@bentoml.service(workers=2, traffic={"timeout": 30}, logging={"access": {"enabled": False}})
class Service:
    def __init__(self):
        self.model = load()

    @bentoml.api(batchable=is_batching(), max_batch_size=BATCH_ROWS, max_latency_ms=1000)
    def predict(self, inputs: np.ndarray) -> np.ndarray:
        return self.model(inputs.astype(np.float32))
