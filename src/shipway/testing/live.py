"""A whole server for tests, and small models that really load."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from shipway.core.bundles import EnvironmentLock, Feed, Format, Manifest, OnnxForm, Served
from shipway.core.signature import Field, Layout, Signature
from shipway.core.tensors import DataType
from shipway.settings import Settings
from shipway.store.api_keys import ADMIN, key_path
from shipway.supervisor.down import down
from shipway.supervisor.records import Running
from shipway.supervisor.up import start
from shipway.testing.bundles import write_bundle
from shipway.tls.contexts import pinned_context
from shipway.tls.files import TlsFiles

SIGNATURE = Signature(
    layout=Layout.COLUMNS,
    inputs=(Field(name="x", dtype=DataType.FP64),),
    outputs=(Field(name="y", dtype=DataType.FP64),),
)
"""One column in, one out."""

INHERIT = EnvironmentLock(python="3.11", requirements=())
"""A lock that every interpreter of that Python satisfies."""

POLL_S = 0.02


def onnx_bundle(directory: Path, factor: float) -> Manifest:
    """A bundle whose ONNX graph gives `y = x * factor`."""
    graph = _graph(factor)
    return write_bundle(
        directory,
        files={"model/model.onnx": graph},
        format=Format.ONNX,
        served=Served.ONNX,
        signature=SIGNATURE,
        environment=INHERIT,
        onnx=OnnxForm(
            path="model/model.onnx",
            feeds=(Feed(graph_input="x", dtype="FP64", columns=("x",)),),
            outputs={"y": "y"},
        ),
    )


def python_bundle(directory: Path, code: str) -> Manifest:
    """A bundle of a Python class `Model` with `predict(inputs)`."""
    return write_bundle(
        directory,
        files={"model/model.py": code.encode()},
        artifact="model",
        format=Format.PYTHON,
        options={"class": "model:Model"},
        signature=SIGNATURE,
        environment=INHERIT,
    )


def _graph(factor: float) -> bytes:
    from onnx import TensorProto, helper

    column = [None, 1]
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "factor"], ["y"])],
        "scale",
        [helper.make_tensor_value_info("x", TensorProto.DOUBLE, column)],
        [helper.make_tensor_value_info("y", TensorProto.DOUBLE, column)],
        [helper.make_tensor("factor", TensorProto.DOUBLE, [1], [factor])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())


class LiveServer:
    """A running server, called over HTTP by somebody who knows nothing but the key.

    `key` is the one in its state directory, empty without access control; `headers` present it.
    """

    def __init__(self, running: Running) -> None:
        self.running = running
        self.state_dir = Path(running.state_dir)
        key = key_path(self.state_dir, ADMIN)
        self.key = key.read_text().strip() if key.exists() else ""
        self.headers = {"authorization": f"Bearer {self.key}"} if self.key else {}
        tls = pinned_context(Path(running.tls_cert), TlsFiles()) if running.tls_cert else True
        self.control = httpx.Client(
            base_url=f"{running.control_url}/api/v1", timeout=20, headers=self.headers, verify=tls
        )
        self.gateway = httpx.Client(
            base_url=running.gateway_url, timeout=40, headers=self.headers, verify=tls
        )

    def close(self) -> None:
        """Closes the connections."""
        self.control.close()
        self.gateway.close()

    def register(self, model: str, bundle: Path) -> int:
        """Registers a bundle directory and gives its version number."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for path in sorted(bundle.rglob("*")):
                tar.add(path, path.relative_to(bundle).as_posix(), recursive=False)
        answer = self.control.post(f"/models/{model}/versions", content=archive.getvalue())
        answer.raise_for_status()
        return int(answer.json()["number"])

    def deploy(self, endpoint: str, model: str, **fields: Any) -> dict[str, Any]:
        """Asks for a version behind an endpoint; gives the answer, whatever it is."""
        body = {"model": model, **fields}
        answer: dict[str, Any] = self.control.post(
            f"/endpoints/{endpoint}/deploy", json=body
        ).json()
        return answer

    def endpoint(self, name: str) -> dict[str, Any]:
        """One endpoint's view."""
        answer: dict[str, Any] = self.control.get(f"/endpoints/{name}").json()
        return answer

    def settled(self, name: str, *, timeout_s: float = 40.0) -> dict[str, Any]:
        """The endpoint's view once no change is under way."""
        self.until(lambda: self.endpoint(name)["phase"] != "starting", timeout_s=timeout_s)
        return self.endpoint(name)

    def replicas(self, name: str, version: str) -> list[dict[str, Any]]:
        """The views of a version's replicas behind an endpoint."""
        variants = self.endpoint(name)["variants"]
        return [r for v in variants if v["version"] == version for r in v["replicas"]]

    def predict(self, endpoint: str, *values: float) -> httpx.Response:
        """One inference request."""
        tensor = {"name": "x", "shape": [len(values)], "datatype": "FP64", "data": list(values)}
        return self.gateway.post(f"/v2/models/{endpoint}/infer", json={"inputs": [tensor]})

    def answers(self, endpoint: str, value: float) -> float | None:
        """What the endpoint makes of a value; None while it does not answer with 200."""
        try:
            answer = self.predict(endpoint, value)
        except httpx.HTTPError:
            return None
        return float(answer.json()["outputs"][0]["data"][0]) if answer.is_success else None

    def until(self, claim: Callable[[], Any], *, timeout_s: float = 40.0) -> Any:
        """The claim's first true value; polled.

        Raises:
            AssertionError: it did not come true in time.
        """
        deadline = time.monotonic() + timeout_s
        while not (value := claim()):
            assert time.monotonic() < deadline, f"not in {timeout_s:g} s; see {self.state_dir}/logs"
            time.sleep(POLL_S)
        return value


@contextmanager
def live_server(state_dir: Path, **settings: Any) -> Iterator[LiveServer]:
    """A running server on free ports, ended with all its processes when the block ends."""
    options = Settings(state_dir=state_dir, gateway_port=0, grpc_port=0, control_port=0, **settings)
    server = LiveServer(start(options))
    try:
        yield server
    finally:
        server.close()
        down(state_dir)
