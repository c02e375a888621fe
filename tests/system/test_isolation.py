"""A model that tries to get at control, gateway, other models and the machine: each is stopped."""

import errno
import json
import os
import socket
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from shipway.testing.live import live_server, python_bundle

sys.path.insert(0, str(Path(__file__).parent))
from intruder import ATTEMPTS

INTRUDER = (Path(__file__).parent / "intruder.py").read_text()
DOUBLE = """
class Model:
    def predict(self, inputs):
        return {"y": inputs["x"] * 2}
"""
FILES, MOUNTS, CALLS, HIDDEN = errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOENT
STOPPED = {
    "read the control database": FILES,
    "read a key": FILES,
    "read the server's log": FILES,
    "read another model's bundle": FILES,
    "list another replica's directory": FILES,
    "list the home directory": FILES,
    "read the variables of control": HIDDEN,
    "read the memory of control": HIDDEN,
    "read the command line of control": HIDDEN,
    "write where temporary files are": MOUNTS,
    "write into its own bundle": MOUNTS,
    "write among the packages": MOUNTS,
    "change the database's mode": MOUNTS,
    "open others' shared memory": HIDDEN,
    "connect to control": CALLS,
    "connect to the gateway": CALLS,
    "connect to a listener on loopback": CALLS,
    "send a datagram": CALLS,
    "ask the kernel by netlink": CALLS,
    "connect to another replica": CALLS,
    "make datagram sockets": CALLS,
    "connect with its own socket": CALLS,
    "signal control": CALLS,
    "signal a process of the user": CALLS,
    "signal by a handle": CALLS,
    "read another's memory": CALLS,
    "trace a process": CALLS,
    "set another's limits": CALLS,
    "leave its namespaces": CALLS,
    "make an io_uring": CALLS,
    "leave its process group": CALLS,
    "open many files": errno.EMFILE,
    "map much memory": errno.ENOMEM,
    "allocate much memory": errno.ENOMEM,
    "start many processes": errno.EAGAIN,
    "write a large file": errno.EFBIG,
}
OUTSIDE = dict.fromkeys(ATTEMPTS, 0) | {
    "make an io_uring": errno.EFAULT,  # it gets as far as reading its arguments
    "connect with its own socket": errno.ENOENT,  # as a script it has none
}
"""What the same attempts give without a sandbox: they can all succeed here."""

LIMITS = {"memory_mb": 1024, "processes": 100, "open_files": 256, "file_mb": 128}


@pytest.fixture(scope="module")
def server():
    with (
        tempfile.TemporaryDirectory(prefix="shipway-iso-") as name,
        live_server(Path(name) / "state") as made,
    ):
        yield made


@contextmanager
def sleeper():
    command = [sys.executable, "-c", "import time; print(flush=True); time.sleep(600)"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.kill()


@pytest.fixture(scope="module")
def places(server):
    """What there is to reach, all of it really there."""
    state = server.state_dir
    bundle = state.parent / "neighbour"
    python_bundle(bundle, DOUBLE)
    server.register("neighbour", bundle)
    server.deploy("neighbour", "neighbour:1", replicas=1)
    assert server.settled("neighbour")["phase"] == "live"
    (replica,) = server.replicas("neighbour", "neighbour:1")
    keys = state / "keys"
    (manifest,) = (state / "artifacts").rglob("shipway.json")
    control = json.loads((state / "run" / "control.json").read_text())
    shared = Path("/dev/shm") / f"shipway-test-{os.getpid()}"
    shared.write_text("secret")
    with sleeper() as victim, socket.create_server(("127.0.0.1", 0)) as listener:
        yield {
            "database": str(next(state.glob("*.db"))),
            "key": str(keys / "admin.key"),
            "log": str(next((state / "logs").rglob("*.log"))),
            "neighbour_bundle": str(manifest),
            "neighbour_scratch": str(state / "run" / "scratch" / replica["id"]),
            "neighbour_socket": replica["address"].removeprefix("unix:"),
            "home": str(Path.home()),
            "tmp": tempfile.gettempdir(),
            "own_bundle": str(manifest.parents[1]),
            "packages": str(Path(pytest.__file__).parents[1]),
            "shared_memory": shared.name,
            "control": control["pid"],
            "control_port": int(control["url"].rpartition(":")[2]),
            "gateway_port": server.gateway.base_url.port,
            "listener_port": listener.getsockname()[1],
            "victim": victim,
        }
    shared.unlink()


def deployed(server, places, name, **sandbox):
    bundle = server.state_dir.parent / name
    python_bundle(bundle, f"PLACES = {places!r}\n{INTRUDER}")
    server.register(name, bundle)
    server.deploy(name, f"{name}:1", sandbox={**LIMITS, **sandbox})
    endpoint = server.settled(name)
    assert endpoint["phase"] == "live", endpoint["message"]
    return endpoint


@pytest.fixture(scope="module")
def intruder(server, places):
    return deployed(server, places, "intruder")


def outcomes(server, endpoint, offset=0):
    numbers = [float(offset + i) for i in range(len(ATTEMPTS))]
    answer = server.predict(endpoint, *numbers)
    assert answer.is_success, answer.text
    return dict(zip(ATTEMPTS, map(int, answer.json()["outputs"][0]["data"]), strict=True))


def by_name(found, expected):
    """The pairs that differ, in words: `EPERM` says more than 1."""
    return {
        name: (errno.errorcode.get(code, code), errno.errorcode.get(expected[name], 0))
        for name, code in found.items()
        if code != expected[name]
    }


def test_without_a_sandbox_every_attempt_succeeds(places, tmp_path):
    script = tmp_path / "intruder.py"
    mine = {**places, "own_bundle": str(tmp_path)}
    script.write_text(f"PLACES = {mine!r}\n{INTRUDER}")
    done = subprocess.run([sys.executable, script], capture_output=True, check=True, timeout=60)
    assert by_name(json.loads(done.stdout), OUTSIDE) == {}


def test_every_attempt_is_stopped_when_the_model_is_called(server, intruder):
    assert by_name(outcomes(server, "intruder"), STOPPED) == {}


def test_every_attempt_is_stopped_when_the_model_is_imported(server, intruder):
    assert by_name(outcomes(server, "intruder", 1000), STOPPED) == {}


def test_a_replica_says_what_it_is_kept_from(server, intruder):
    (replica,) = [r for v in intruder["variants"] for r in v["replicas"]]
    assert replica["isolation"]["missing"] == []
    assert {"files", "network", "signals", "process_count"} <= {*replica["isolation"]["enforced"]}


def test_a_declared_network_reaches_the_network_and_nothing_else(server, places):
    deployed(server, places, "caller", network=True)
    declared = dict.fromkeys(
        [
            "connect to control", "connect to the gateway", "connect to a listener on loopback",
            "send a datagram", "ask the kernel by netlink",
        ], 0,
    ) | {"connect with its own socket": errno.EINVAL}  # fmt: skip
    assert by_name(outcomes(server, "caller"), STOPPED | declared) == {}


WORKING = """
import multiprocessing, os, tempfile, threading
from pathlib import Path
import joblib, numpy as np

def doubled(x):
    return 2 * x

def share(path):
    np.load(path, mmap_mode="r")

class Model:
    def predict(self, inputs):
        x = float(inputs["x"][0])
        found = []
        thread = threading.Thread(target=lambda: found.append(2 * x))
        thread.start()
        thread.join()
        with multiprocessing.get_context("fork").Pool(2) as pool:
            found += pool.map(doubled, [x, x])
        found += joblib.Parallel(n_jobs=2)(joblib.delayed(float)(2 * x) for _ in range(4))
        large = np.full(500_000, x)  # joblib passes it in a file, whose mode it sets
        found += [2 * a for a in joblib.Parallel(n_jobs=2)(joblib.delayed(np.max)(large) for _ in range(2))]
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "it"
            path.write_text(str(2 * x))
            os.chmod(path, 0o400)
            found.append(float(path.read_text()))
        assert len(set(found)) == 1, found
        return {"y": np.array(found[:1])}
"""


def test_threads_processes_and_temporary_files_work(server):
    bundle = server.state_dir.parent / "working"
    python_bundle(bundle, WORKING)
    server.register("working", bundle)
    server.deploy("working", "working:1")
    assert server.settled("working")["phase"] == "live"
    assert server.answers("working", 3.0) == 6.0, server.predict("working", 3.0).text


def test_what_a_replica_wrote_and_started_is_gone_with_it(server, places):
    code = """
import os, subprocess, sys, tempfile
from pathlib import Path
Path(tempfile.gettempdir(), "kept").write_text("x")
CHILD = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid
class Model:
    def predict(self, inputs):
        return {"y": [float(CHILD)]}
"""
    bundle = server.state_dir.parent / "untidy"
    python_bundle(bundle, code)
    server.register("untidy", bundle)
    server.deploy("untidy", "untidy:1")
    assert server.settled("untidy")["phase"] == "live"
    child = int(server.answers("untidy", 1.0))
    (replica,) = server.replicas("untidy", "untidy:1")
    scratch = server.state_dir / "run" / "scratch" / replica["id"]
    assert (scratch / "kept").exists()
    assert Path(f"/proc/{child}").exists()
    server.control.delete("/endpoints/untidy")
    server.until(lambda: not scratch.exists())
    server.until(lambda: not Path(f"/proc/{child}").exists())
