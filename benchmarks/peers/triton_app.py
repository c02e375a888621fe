"""Triton through PyTriton: Triton's own front ends and scheduler, Python backend, two instances.

    triton_app.py HTTP_PORT GRPC_PORT METRICS_PORT COLUMNS SCORES

SCORES is the width of the model's output, 0 for a class per row. With BENCH_BATCHING, the dynamic
batcher waits up to 2 ms for company.
"""

import sys

import numpy as np
from loaded import BATCH_ROWS, is_batching, load
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

http_port, grpc_port, metrics_port, columns, scores = map(int, sys.argv[1:])
dtype, width = (np.float32, scores) if scores else (np.int64, 1)


def instance():
    model = load()

    @batch
    def infer(X):  # noqa: N803 - the name of the input
        return {"output": np.asarray(model(X), dtype).reshape(-1, width)}

    return infer


config = TritonConfig(
    http_address="127.0.0.1",
    http_port=http_port,
    grpc_address="127.0.0.1",
    grpc_port=grpc_port,
    metrics_port=metrics_port,
    log_verbose=0,
)
with Triton(config=config) as triton:
    triton.bind(
        "m",
        [instance(), instance()],
        inputs=[Tensor(name="X", dtype=np.float32, shape=(columns,))],
        outputs=[Tensor(name="output", dtype=dtype, shape=(width,))],
        config=ModelConfig(
            batching=True,
            max_batch_size=BATCH_ROWS,
            batcher=DynamicBatcher(max_queue_delay_microseconds=2000 if is_batching() else 0),
        ),
    )
    triton.serve()
