"""Every server that can be measured, in its setting, in the order of the tables."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable

import environments
import shipway_state
from servers import PEERS, SHIPWAY, Place, Server

FLOOR = "floor"


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


def _prepare_shipway(placement: str, durability: str) -> Callable[[Place], None]:
    return lambda place: shipway_state.prepare(
        place.directory / "state", place.model, placement=placement, durability=durability
    )


def _shipway(
    name: str,
    title: str,
    *,
    placement: str = "auto",
    options: str = "",
    home: str | None = None,
    durability: str = "",
) -> Server:
    return Server(
        name=name,
        title=title,
        command=f"{{bin}}/python -m shipway.cli up --dir {{directory}}/state --port {{port}}"
        f" --control-port {{spare_port}} {options}",
        path="/v2/models/{model}/infer",
        variables={"SHIPWAY_GRPC_PORT": "{grpc_port}"},
        has_grpc=True,
        grpc_model="{model}",
        placement=placement,
        models=frozenset({"iris"}) if durability else None,
        key_file=None if "--no-auth" in options else "{directory}/state/keys/admin.key",
        home=home,
        prepare=_prepare_shipway(placement, durability),
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
    _shipway(SHIPWAY, "Shipway"),
    _shipway("shipway-2", "Shipway, 2 gateways", options="--gateways 2", home=SHIPWAY),
    _shipway("shipway-no-auth", "Shipway, no access control", options="--no-auth", home=SHIPWAY),
    _shipway("shipway-capture", "Shipway, predictions captured", durability="buffered"),
    _shipway("shipway-synced", "Shipway, predictions synced", durability="synced"),
    _shipway("shipway-process", "Shipway, placement process", placement="process"),
    _shipway("shipway-inline", "Shipway, placement inline", placement="inline"),
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
EXTRA = frozenset({"kserve-2", "mlserver-0"})
