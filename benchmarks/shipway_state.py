"""A state directory of Shipway with one model behind one endpoint, made with the commands of a user."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from models import Model

_READY_S = 60.0
_PROGRAM = (sys.executable, "-m", "shipway.cli")


class NotPrepared(Exception):
    """A command failed; its output is the message."""


def prepare(state: Path, model: Model, *, placement: str, durability: str = "") -> None:
    """`up`, `register`, `deploy` and the end of it; nothing when that was done before.

    With a `durability`, the endpoint captures all of its predictions so.

    Raises:
        NotPrepared: one of the commands failed.
    """
    done = state / "bench.done"
    if done.exists():
        return
    state.mkdir(parents=True, exist_ok=True)
    with (state / "bench.log").open("wb") as log:
        up = subprocess.Popen(
            [*_PROGRAM, "up", "--dir", str(state), "--port", "0", "--control-port", "0"],
            stdout=log, stderr=log, env=_variables(),
        )  # fmt: skip
    try:
        _wait_until_ready(state, up)
        source = str(model.pickled or model.onnx)
        _run("register", source, "--name", model.name, "--sample", str(model.sample), state=state)
        _run("deploy", model.name, "--placement", placement, state=state)
        if durability:
            _run("apply", "--file", str(_captured(state, model, durability)), state=state)
    finally:
        up.terminate()
        up.wait(_READY_S)
    done.touch()


def _captured(state: Path, model: Model, durability: str) -> Path:
    file = state / "endpoint.yaml"
    spec = {"name": model.name, "model": model.name, "capture": {"durability": durability}}
    file.write_text(json.dumps(spec))
    return file


def serving(state: Path) -> str:
    """What the last `deploy` said about where the model runs: `inline` or `process`."""
    text = (state / "deploy.json").read_text()
    endpoint = json.loads(text)
    variants = endpoint.get("endpoint", endpoint).get("variants", [])
    return variants[0]["placement"] if variants else "unknown"


def _variables() -> dict[str, str]:
    return {**os.environ, "SHIPWAY_GRPC_PORT": "0"}


def _run(*arguments: str, state: Path) -> None:
    command = [*_PROGRAM, *arguments, "--dir", str(state), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=_variables())
    if done.returncode != 0:
        raise NotPrepared(f"{' '.join(arguments)}: {done.stdout}{done.stderr}")
    (state / f"{arguments[0]}.json").write_text(done.stdout)


def _wait_until_ready(state: Path, up: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _READY_S
    while not (state / "run" / "up.json").exists():
        if up.poll() is not None or time.monotonic() > until:
            raise NotPrepared(f"`shipway up` is not ready: {(state / 'bench.log').read_text()}")
        time.sleep(0.05)
