"""One endpoint on the routes and the port that a platform expects: `shipway gateway --as …`.

Sources: Amazon SageMaker AI "Custom Inference Code with Hosting Services"; Vertex AI "Custom container
requirements"; `mlflow models serve`, TorchServe, TensorFlow Serving and KServe for their ports.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from shipway.core.errors import InvalidSpec


class Dialect(StrEnum):
    """A single-model dialect."""

    SAGEMAKER = "sagemaker"
    VERTEX = "vertex"
    MLFLOW = "mlflow"
    TORCHSERVE = "torchserve"
    TFSERVING = "tfserving"
    KSERVE = "kserve"


class Front(msgspec.Struct, frozen=True, kw_only=True):
    """Where one endpoint is answered beside the ordinary routes.

    `predict_path` is empty for dialects whose routes name the model; their ordinary routes serve. With
    `is_trusted`, whoever reaches `predict_path` may ask: the platform in front has checked the caller.
    """

    dialect: Dialect
    endpoint: str
    predict_path: str = ""
    health_paths: tuple[str, ...] = ()
    is_trusted: bool = False


_PORTS = {Dialect.MLFLOW: 5000, Dialect.TFSERVING: 8501}
_PORT = 8080
_PORT_VARIABLES = {
    Dialect.SAGEMAKER: "SAGEMAKER_BIND_TO_PORT",
    Dialect.VERTEX: "AIP_HTTP_PORT",
}
_LARGEST_PORT = 65535


def platform_port(dialect: Dialect, variables: Mapping[str, str]) -> int | None:
    """The port that the platform's environment variable asks for; None when it does not.

    Raises:
        InvalidSpec: the variable is no port.
    """
    variable = _PORT_VARIABLES.get(dialect, "")
    given = variables.get(variable, "")
    if not given:
        return None
    if not given.isdecimal() or not 0 < int(given) <= _LARGEST_PORT:
        raise InvalidSpec(f"`{variable}` cannot be `{given}`: it must be a port.", path=variable)
    return int(given)


def default_port(dialect: Dialect) -> int:
    """The port on which clients of the dialect look first."""
    return _PORTS.get(dialect, _PORT)


def front_of(dialect: Dialect, endpoint: str, variables: Mapping[str, str]) -> Front:
    """The front of an endpoint in a dialect, as the platform's variables want it.

    Raises:
        InvalidSpec: a route of the variables is no path.
    """
    predict, health = _paths(dialect, variables)
    for path in (predict, *health):
        if path and not path.startswith("/"):
            raise InvalidSpec(f"The route `{path}` must begin with `/`.", path="AIP_PREDICT_ROUTE")
    return Front(dialect=dialect, endpoint=endpoint, predict_path=predict, health_paths=health)


def _paths(dialect: Dialect, variables: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    match dialect:
        case Dialect.SAGEMAKER | Dialect.MLFLOW:
            return "/invocations", ("/ping", "/health")
        case Dialect.TORCHSERVE:
            return "", ("/ping",)
        case Dialect.VERTEX:
            base = "/v1/endpoints/{}/deployedModels/{}".format(
                variables.get("AIP_ENDPOINT_ID", "0"), variables.get("AIP_DEPLOYED_MODEL_ID", "0")
            )
            predict = variables.get("AIP_PREDICT_ROUTE") or f"{base}:predict"
            return predict, (variables.get("AIP_HEALTH_ROUTE") or base,)
        case Dialect.TFSERVING | Dialect.KSERVE:
            return "", ()
