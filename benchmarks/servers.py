"""A server that can be measured: its command, its address, its variables. catalogue.py has them all."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import environments
from models import Model

PEERS = Path(__file__).resolve().parent / "peers"
SHIPWAY = "shipway"
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
    it shares; its own when None. `placement` is Shipway's alone. `key_file` is a template of where its
    key is; None for a server that wants none.
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
    placement: str | None = None
    key_file: str | None = None
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


def proof_of(server: Server, place: Place) -> str:
    """The value of the header `Authorization`; empty for a server that wants none."""
    if server.key_file is None:
        return ""
    return f"Bearer {Path(server.key_file.format(**words(server, place))).read_text().strip()}"


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
