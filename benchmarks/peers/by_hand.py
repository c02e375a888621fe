"""What most people write by hand: FastAPI, a pydantic body, a `def` endpoint, joblib."""

import numpy as np
from fastapi import FastAPI
from loaded import load
from pydantic import BaseModel

app = FastAPI()
model = load()


class Request(BaseModel):
    inputs: list[list[float]]


class Response(BaseModel):
    outputs: list


@app.post("/predict")
def predict(request: Request) -> Response:
    rows = np.asarray(request.inputs, dtype=np.float32)
    return Response(outputs=model(rows).tolist())
