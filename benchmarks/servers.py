"""Every server that can be measured: its command, its address, and what it needs beforehand."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import environments
import shipway_state
from models import Model

PEERS = Path(__file__).resolve().parent / "peers"
SHIPWAY = "shipway"
FLOOR = "floor"
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where one start of a server happens: its model, its own directory, its ports."""

    model: Model
    directory: Path
    model_file: Path
    port: int
    grpc_port: int
    spare_port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One server in one setting.

    `command` and `path` are templates of a Place's words (see `words`). `pickled` names the models
    that it serves with scikit-learn itself; the others it serves from ONNX. `prepare` makes the
    files that it starts from; it may be called again and then does nothing. A `batching` server
    is measured where batching is asked for, and nowhere else. `home` is the server whose directory
    it shares; its own when None.
    """

    name: str
    title: str
    command: str
    path: str
    environment: str | None = None
    body: str = "open-inference"
    variables: Mapping[str, str] = field(default_factory=dict)
    pickled: frozenset[str] = frozenset({"iris"})
    models: frozenset[str] | None = None
    has_grpc: bool = False
    grpc_model: str = "m"
    batching: bool = False
    home: str | None = None
    prepare: Callable[[Place], None] = lambda place: None

    def runs_with(self, model: Model) -> bool:
        """Whether it is one of the models that this server is measured with."""
        return self.models is None or model.name in self.models

    def model_file(self, model: Model) -> Path:
        """What it loads: the pickle, or the ONNX form."""
        pickled = model.pickled if model.name in self.pickled else None
        return pickled or model.onnx

    def is_ours(self) -> bool:
        """Whether it is Shipway, in whatever setting."""
        return self.name.partition("-")[0] == SHIPWAY


def words(server: Server, place: Place) -> dict[str, object]:
    """What the templates of a server may name."""
    home = environments.path_of(server.environment) if server.environment else Path(sys.prefix)
    return {
        "bin": home / "bin",
        "peers": PEERS,
        "directory": place.directory,
        "model": place.model.name,
        "columns": place.model.columns,
        "scores": 10 if place.model.name == "mlp" else 0,
        "port": place.port,
        "grpc_port": place.grpc_port,
        "spare_port": place.spare_port,
    }


def command_of(server: Server, place: Place) -> list[str]:
    """The command line of one start."""
    return [word.format(**words(server, place)) for word in server.command.split()]


def url_of(server: Server, place: Place) -> str:
    """Where one start of it answers over REST."""
    return f"http://127.0.0.1:{place.port}" + server.path.format(**words(server, place))


def grpc_model_of(server: Server, place: Place) -> str:
    """The name by which its gRPC calls ask for the model."""
    return server.grpc_model.format(**words(server, place))


def variables_of(server: Server, place: Place) -> dict[str, str]:
    """The environment of one start: one thread per library, its own programs first."""
    own = {name: value.format(**words(server, place)) for name, value in server.variables.items()}
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    path = {} if server.is_ours() else {"PYTHONPATH": str(PEERS)}
    return {
        **kept,
        **dict.fromkeys(_ONE_THREAD, "1"),
        **path,
        "PATH": f"{words(server, place)['bin']}{os.pathsep}{os.environ['PATH']}",
        "BENCH_MODEL": str(place.model_file),
        "HF_HUB_OFFLINE": "1",
        **({"BENCH_BATCHING": "1"} if server.batching else {}),
        **own,
    }


def place_for(server: Server, model: Model, directory: Path) -> Place:
    """A place with ports that are free now."""
    own = directory / (server.home or server.name) / model.name
    own.mkdir(parents=True, exist_ok=True)
    port, grpc_port, spare_port = _free_ports(3)
    return Place(
        model=model, directory=own, model_file=server.model_file(model),
        port=port, grpc_port=grpc_port, spare_port=spare_port,
    )  # fmt: skip


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _write_mlserver_settings(place: Place, *, batches: bool) -> None:
    kind = "mlserver_sklearn.SKLearnModel"
    if place.model_file.suffix == ".onnx":
        kind = "mlserver_app.OnnxModel"
    settings = {
        "name": "m",
        "implementation": kind,
        "parameters": {"uri": str(place.model_file)},
        **({"max_batch_size": 64, "max_batch_time": 0.002} if batches else {}),
    }
    (place.directory / "model-settings.json").write_text(json.dumps(settings))


def _save_for_mlflow(place: Place) -> None:
    target = place.directory / "model"
    if (target / "MLmodel").exists():
        return
    shutil.rmtree(target, ignore_errors=True)
    python = environments.path_of("mlflow") / "bin" / "python"
    command = [str(python), str(PEERS / "mlflow_save.py"), str(place.model_file), str(target)]
    log = place.directory / "save.log"
    with log.open("wb") as output:
        subprocess.run(command, check=True, stdout=output, stderr=output, cwd=place.directory)


def _shipway_state(placement: str) -> Callable[[Place], None]:
    return lambda place: shipway_state.prepare(
        place.directory / "state", place.model, placement=placement
    )


_UVICORN = "{bin}/python -m uvicorn --host 127.0.0.1 --port {port} --no-access-log"
_UVICORN += " --log-level warning"
_V2 = "/v2/models/m/infer"
_BENTOML = "{bin}/bentoml serve bentoml_app:Service --host 127.0.0.1 --port {port}"
_BENTOML += " --working-dir {peers}"
_MLSERVER = "{bin}/mlserver start {directory}"
_MLSERVER_VARIABLES = {
    "MLSERVER_HOST": "127.0.0.1",
    "MLSERVER_HTTP_PORT": "{port}",
    "MLSERVER_GRPC_PORT": "{grpc_port}",
    "MLSERVER_METRICS_PORT": "{spare_port}",
    "MLSERVER_METRICS_DIR": "{directory}/metrics",
    "MLSERVER_DEBUG": "false",
}
_MOSEC = "{bin}/python {peers}/mosec_app.py --address 127.0.0.1 --port {port} --timeout 30000"
_MOSEC += " --log-level warning"
_TRITON = "{bin}/python {peers}/triton_app.py {port} {grpc_port} {spare_port} {columns} {scores}"
_KSERVE = "{bin}/python {peers}/kserve_app.py --http_port {port} --grpc_port {grpc_port}"
_KSERVE += " --enable_latency_logging false --configure_logging false"
_UP = "{bin}/python -m shipway.cli up --dir {directory}/state --port {port}"
_UP += " --control-port {spare_port}"
_ENDPOINT = "/v2/models/{model}/infer"
_SHIPWAY_VARIABLES = {"SHIPWAY_GRPC_PORT": "{grpc_port}"}
_MLP = frozenset({"mlp"})
_RAY_VARIABLES = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}

ALL = (
    Server(
        name=FLOOR, title="floor, 1 process", command=_UVICORN + " floor:app", path="/",
        pickled=frozenset(),
    ),
    Server(
        name="floor-2", title="floor, 2 processes",
        command=_UVICORN + " --workers 2 floor:app", path="/", pickled=frozenset(),
    ),
    Server(
        name=SHIPWAY, title="Shipway", command=_UP, path=_ENDPOINT, has_grpc=True,
        grpc_model="{model}", variables=_SHIPWAY_VARIABLES, prepare=_shipway_state("auto"),
    ),
    Server(
        name="shipway-2", title="Shipway, 2 gateways", command=_UP + " --gateways 2",
        path=_ENDPOINT, has_grpc=True, grpc_model="{model}", home=SHIPWAY,
        variables=_SHIPWAY_VARIABLES, prepare=_shipway_state("auto"),
    ),
    Server(
        name="shipway-process", title="Shipway, placement process", command=_UP, path=_ENDPOINT,
        variables=_SHIPWAY_VARIABLES, has_grpc=True, grpc_model="{model}",
        prepare=_shipway_state("process"),
    ),
    Server(
        name="shipway-inline", title="Shipway, placement inline", command=_UP, path=_ENDPOINT,
        variables=_SHIPWAY_VARIABLES, has_grpc=True, grpc_model="{model}",
        prepare=_shipway_state("inline"),
    ),
    Server(
        name="by-hand", title="FastAPI by hand, 2 workers",
        command=_UVICORN + " --workers 2 by_hand:app", path="/predict", body="rows",
        pickled=frozenset({"iris", "forest"}),
    ),
    Server(
        name="mosec", title="mosec", environment="mosec", command=_MOSEC, path="/inference",
        body="rows",
    ),
    Server(
        name="triton", title="Triton (Python backend)", environment="triton", command=_TRITON,
        path=_V2, has_grpc=True,
    ),
    Server(
        name="kserve", title="KServe", environment="kserve", command=_KSERVE, path=_V2,
        has_grpc=True,
    ),
    Server(
        name="kserve-2", title="KServe, 2 workers", environment="kserve",
        command=_KSERVE + " --workers 2", path=_V2, has_grpc=True,
    ),
    Server(
        name="mlserver", title="MLServer", environment="mlserver", command=_MLSERVER, path=_V2,
        has_grpc=True, variables=_MLSERVER_VARIABLES,
        prepare=lambda place: _write_mlserver_settings(place, batches=False),
    ),
    Server(
        name="mlserver-0", title="MLServer without parallel workers", environment="mlserver",
        command=_MLSERVER, path=_V2, has_grpc=True,
        variables={**_MLSERVER_VARIABLES, "MLSERVER_PARALLEL_WORKERS": "0"},
        prepare=lambda place: _write_mlserver_settings(place, batches=False),
    ),
    Server(
        name="bentoml", title="BentoML", environment="bentoml", command=_BENTOML, path="/predict",
        body="rows", variables={"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": "{directory}/home"},
    ),
    Server(
        name="litserve", title="LitServe", environment="litserve",
        command="{bin}/python {peers}/litserve_app.py {port}", path="/predict", body="rows",
    ),
    Server(
        name="mlflow", title="MLflow", environment="mlflow",
        command="{bin}/mlflow models serve -m {directory}/model --env-manager local"
        " -h 127.0.0.1 -p {port} --workers 2",
        path="/invocations", body="rows", prepare=_save_for_mlflow,
    ),
    Server(
        name="ray", title="Ray Serve", environment="ray",
        command="{bin}/python {peers}/ray_app.py {port}", path="/", body="rows",
        variables=_RAY_VARIABLES,
    ),
    Server(
        name="mosec-batching", title="mosec, batching", environment="mosec", command=_MOSEC,
        path="/inference", body="rows", models=_MLP, batching=True,
    ),
    Server(
        name="triton-batching", title="Triton (Python backend), batching", environment="triton",
        command=_TRITON, path=_V2, models=_MLP, batching=True,
    ),
    Server(
        name="mlserver-batching", title="MLServer, batching", environment="mlserver",
        command=_MLSERVER, path=_V2, models=_MLP, batching=True, variables=_MLSERVER_VARIABLES,
        prepare=lambda place: _write_mlserver_settings(place, batches=True),
    ),
    Server(
        name="bentoml-batching", title="BentoML, batching", environment="bentoml",
        command=_BENTOML, path="/predict", body="rows", models=_MLP, batching=True,
        variables={"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": "{directory}/home"},
    ),
    Server(
        name="litserve-batching", title="LitServe, batching", environment="litserve",
        command="{bin}/python {peers}/litserve_app.py {port}", path="/predict", body="rows",
        models=_MLP, batching=True,
    ),
    Server(
        name="ray-batching", title="Ray Serve, batching", environment="ray",
        command="{bin}/python {peers}/ray_app.py {port}", path="/", body="rows", models=_MLP,
        batching=True, variables=_RAY_VARIABLES,
    ),
)  # fmt: skip
BY_NAME = {server.name: server for server in ALL}
# Settings that a run leaves out unless they are asked for by name.
EXTRA = frozenset({"shipway-inline", "kserve-2", "mlserver-0"})
