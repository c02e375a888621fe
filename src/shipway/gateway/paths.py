"""Which dialect a path speaks, and of which endpoint: the table of the gateway's routes.

A path is taken apart once; after that it is one look-up, for every dialect alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from shipway.gateway.fronts import Dialect, Front
from shipway.wire.codec import Answer, Codec, Message
from shipway.wire.mlflow import Mlflow
from shipway.wire.open_inference import OpenInference
from shipway.wire.open_inference_generate import Generate
from shipway.wire.open_inference_tables import TABLE_TYPES, OpenInferenceTables
from shipway.wire.sagemaker import SageMaker
from shipway.wire.tf_serving import TfServing, Verb
from shipway.wire.torchserve import TorchServe
from shipway.wire.vertex import Vertex

HttpCodec = Codec[Message, Answer]

MAX_KNOWN = 1024
MAX_KNOWN_LENGTH = 256
"""Paths come from callers: only so many, and none longer, are kept taken apart."""

OPEN_INFERENCE: HttpCodec = OpenInference()
_TABLES: HttpCodec = OpenInferenceTables()
_MLFLOW: HttpCodec = Mlflow()
_TORCHSERVE: HttpCodec = TorchServe()
_V2: dict[str, HttpCodec] = {
    "infer": OPEN_INFERENCE,
    "generate": Generate(streaming=False),
    "generate_stream": Generate(streaming=True),
}
_V1: dict[str, HttpCodec] = {verb.value: TfServing(verb) for verb in Verb}
_FRONTS: dict[Dialect, HttpCodec] = {
    Dialect.SAGEMAKER: SageMaker(OPEN_INFERENCE),
    Dialect.MLFLOW: _MLFLOW,
    Dialect.VERTEX: Vertex(),
}
_DIALECTS: dict[str, HttpCodec] = {
    "v1": _V1[Verb.PREDICT],
    "predictions": _TORCHSERVE,
    "models": _TORCHSERVE,
    "endpoints": _MLFLOW,
    "gateway": _MLFLOW,
    "api": _MLFLOW,
}
_TENSOR_TYPES = (None, b"application/json", b"application/octet-stream")


class Target(NamedTuple):
    """What a path asks for a prediction: in which dialect, of which endpoint and version.

    `number` and `label` are None when the path names no version.
    """

    codec: HttpCodec
    endpoint: str
    number: str | None = None
    label: str | None = None


class Paths:
    """The targets of paths. `front` adds the routes of a single-model dialect."""

    def __init__(self, front: Front | None = None) -> None:
        self._fixed: dict[str, Target] = {}
        if front is not None and front.predict_path:
            codec = _FRONTS[front.dialect]
            self._fixed[front.predict_path] = Target(codec, front.endpoint)
        self._known = dict(self._fixed)

    def target(self, path: str) -> Target | None:
        """What a POST to the path asks; None when that is no prediction."""
        found = self._known.get(path)
        return found if found is not None else self._taken_apart(path)

    def codec_of(self, path: str) -> HttpCodec:
        """The dialect in which a path's errors are said."""
        target = self.target(path)
        if target is not None:
            return target.codec
        return _DIALECTS.get(path.split("/", 2)[1] if "/" in path else "", OPEN_INFERENCE)

    def _taken_apart(self, path: str) -> Target | None:
        parts = path.split("/")
        reader = _READERS.get(parts[1]) if len(parts) > 2 else None
        target = reader(parts[2:]) if reader is not None else None
        if target is not None and len(path) <= MAX_KNOWN_LENGTH:
            if len(self._known) >= MAX_KNOWN:
                self._known = dict(self._fixed)
            self._known[path] = target
        return target


def table_codec(target: Target, content_type: bytes | None) -> HttpCodec:
    """The codec of the body: the path's own, but for tables on Open Inference's route."""
    if content_type in _TENSOR_TYPES or target.codec is not OPEN_INFERENCE:
        return target.codec
    kind = (content_type or b"").partition(b";")[0].strip().lower().decode("latin-1")
    return _TABLES if kind in TABLE_TYPES else OPEN_INFERENCE


def _v2(rest: Sequence[str]) -> Target | None:
    match rest:
        case ["models", name, verb] if verb in _V2:
            return Target(_V2[verb], name)
        case ["models", name, "versions", number, verb] if verb in _V2:
            return Target(_V2[verb], name, number)
    return None


def _v1(rest: Sequence[str]) -> Target | None:
    *front, last = rest
    subject, _, verb = last.rpartition(":")
    codec = _V1.get(verb)
    if codec is None or not subject:
        return None
    match front:
        case ["models"]:
            return Target(codec, subject)
        case ["models", name, "versions"]:
            return Target(codec, name, subject)
        case ["models", name, "labels"]:
            return Target(codec, name, None, subject)
    return None


def _predictions(rest: Sequence[str]) -> Target | None:
    match rest:
        case [name]:
            return Target(_TORCHSERVE, name)
        case [name, number]:
            return Target(_TORCHSERVE, name, number)
    return None


def _invocations(rest: Sequence[str]) -> Target | None:
    match rest:
        case [name, "invocations"]:
            return Target(_MLFLOW, name)
    return None


_READERS: dict[str, Callable[[Sequence[str]], Target | None]] = {
    "v2": _v2,
    "v1": _v1,
    "predictions": _predictions,
    "endpoints": _invocations,
    "gateway": _invocations,
    "models": _invocations,
}
