"""What the small services share: the model of $BENCH_MODEL as a function of float32 rows.

It gives the class of each row (scikit-learn, or ONNX of such a model), or its scores (mlp).
"""

import os

# Half of the 64 connections: with two workers, a batch of all of them leaves one without work.
BATCH_ROWS = 32


def load(path: str | None = None):
    path = path or os.environ["BENCH_MODEL"]
    if path.endswith(".joblib"):
        import joblib

        return joblib.load(path).predict
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    output = session.get_outputs()[0].name
    return lambda rows: session.run([output], {"X": rows})[0]


def is_batching() -> bool:
    return bool(os.environ.get("BENCH_BATCHING"))
