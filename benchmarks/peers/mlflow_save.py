"""Saves a model the way `mlflow models serve` wants it: mlflow_save.py MODEL_FILE DIRECTORY."""

import sys

import mlflow

source, target = sys.argv[1:]
if source.endswith(".joblib"):
    import joblib

    mlflow.sklearn.save_model(
        joblib.load(source),
        target,
        pip_requirements=["scikit-learn"],
        serialization_format="cloudpickle",
    )
else:
    import onnx

    mlflow.onnx.save_model(
        onnx.load(source),
        target,
        pip_requirements=["onnxruntime"],
        onnx_session_options={"intra_op_num_threads": 1, "inter_op_num_threads": 1},
    )
