"""What most people write by hand: FastAPI, a pydantic body, a `def` endpoint, joblib.

It answers what Shipway answers: the label and the probabilities.
"""

import os

import joblib
import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
model = joblib.load(os.environ["BENCH_JOBLIB"])


class Request(BaseModel):
    inputs: list[list[float]]


class Response(BaseModel):
    label: list[int]
    probabilities: list[list[float]]


@app.post("/predict")
def predict(request: Request) -> Response:
    rows = np.asarray(request.inputs, dtype=np.float32)
    return Response(
        label=model.predict(rows).tolist(), probabilities=model.predict_proba(rows).tolist()
    )
