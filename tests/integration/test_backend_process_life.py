"""The process backend with real replica processes."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import threading
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import pytest

from shipway.backends.identity import ProcessIdentity, with_option
from shipway.backends.launch import scrubbed, spawn
from shipway.backends.port import ReplicaOrder
from shipway.backends.process import ProcessBackend
from shipway.backends.records import (
    KEPT_LOGS,
    LONGEST_SOCKET_PATH,
    RecordDirectory,
    ReplicaRecord,
    end_all,
)
from shipway.core.errors import EnvironmentFailed
from shipway.core.replicas import ReplicaState
from shipway.core.versions import VersionRef
from shipway.testing.live import INHERIT, onnx_bundle, python_bundle
from shipway.wire.link import connect

READY, EXITED = ReplicaState.READY, ReplicaState.EXITED
WAIT_S = 15.0
DOUBLE = """
class Model:
    def predict(self, inputs):
        return {"y": inputs["x"] * 2}
"""


def now():
    return datetime.now(UTC)  # noqa: TID251 - the test's own clock


def order_of(bundle: Path, manifest, name="double-1-0-a"):
    return ReplicaOrder(
        id=name, endpoint="double", version=VersionRef("double", 1), slot=0, generation=1,
        max_batch_rows=8, max_batch_delay_ms=5.0, digest=manifest.digest, bundle_dir=bundle, environment=INHERIT,
    )  # fmt: skip


@asynccontextmanager
async def backend_of(state_dir, *, end=True, **options):
    backend = ProcessBackend(state_dir, clock=now, **options)
    await backend.open()
    try:
        yield backend
    finally:
        await backend.close()
        if end:
            end_all(state_dir, grace_s=5)


async def until(claim, timeout_s=WAIT_S):
    async with asyncio.timeout(timeout_s):
        while not (value := claim()):  # noqa: ASYNC110 - a real process is watched
            await asyncio.sleep(0.01)
    return value


async def in_state(backend, state, timeout_s=WAIT_S):
    (replica,) = await until(
        lambda: [r for r in backend.observe() if r.state is state], timeout_s=timeout_s
    )
    return replica


@pytest.fixture
def onnx(tmp_path):
    return order_of(tmp_path / "bundle", onnx_bundle(tmp_path / "bundle", 2.0))


async def test_a_replica_starts_and_stops_and_leaves_nothing(tmp_path, onnx):
    changes = []
    async with backend_of(tmp_path / "state") as backend:
        backend.on_change = lambda: changes.append(backend.observe())
        backend.start(onnx)
        backend.start(onnx)
        replica = await in_state(backend, READY)
        assert replica.ready_at is not None
        assert os.getpgid(replica.pid) == replica.pid != os.getpgid(0)
        backend.stop(replica.id)
        backend.stop(replica.id)
        await until(lambda: backend.observe() == ())
        assert ProcessIdentity.of(replica.pid) is None
    assert RecordDirectory(tmp_path / "state").all() == ()
    assert not os.path.lexists(replica.address.removeprefix("unix:"))  # noqa: ASYNC240
    states = [seen[0].state for seen in changes if seen]
    assert list(dict.fromkeys(states)) == ["building", "starting", "ready", "stopping"]


async def test_a_stopped_replica_answers_what_it_has_accepted(tmp_path):
    slow = "import time\n" + DOUBLE.replace("return", "time.sleep(0.5); return")
    manifest = python_bundle(tmp_path / "bundle", slow)
    async with backend_of(tmp_path / "state") as backend:
        backend.start(order_of(tmp_path / "bundle", manifest))
        replica = await in_state(backend, READY)
        link = await connect(replica.address)
        asked = asyncio.create_task(link.infer({"x": np.array([3.0])}, timeout_s=5))
        await until(lambda: backend.observe()[0].busy_s > 0)
        backend.stop(replica.id)
        assert (await asked)["y"].tolist() == [6.0]
        link.close()
        await until(lambda: backend.observe() == ())


async def test_a_killed_replica_is_noticed_at_once(tmp_path, onnx):
    async with backend_of(tmp_path / "state") as backend:
        backend.start(onnx)
        replica = await in_state(backend, READY)
        os.kill(replica.pid, signal.SIGKILL)
        exited = await in_state(backend, EXITED, timeout_s=1)
        assert exited.message == "It was ended by signal 9 (SIGKILL)."
        assert exited.code == "replica_lost"
        assert exited.exited_at is not None
        backend.stop(exited.id)
        assert backend.observe() == ()


async def test_a_silent_replica_is_noticed_in_two_seconds_and_may_recover(tmp_path, onnx):
    async with backend_of(tmp_path / "state") as backend:
        backend.start(onnx)
        replica = await in_state(backend, READY)
        os.kill(replica.pid, signal.SIGSTOP)
        await in_state(backend, ReplicaState.UNRESPONSIVE, timeout_s=2)
        os.kill(replica.pid, signal.SIGCONT)
        recovered = await in_state(backend, READY, timeout_s=3)
        assert recovered.ready_at == replica.ready_at
        os.kill(replica.pid, signal.SIGSTOP)
        await in_state(backend, ReplicaState.UNRESPONSIVE, timeout_s=2)
        backend.kill(replica.id, "It stopped answering.")
        exited = await in_state(backend, EXITED, timeout_s=1)
        assert (exited.code, exited.message) == ("unresponsive", "It stopped answering.")


async def test_a_long_model_call_is_seen_as_busy_and_not_as_silent(tmp_path):
    manifest = python_bundle(
        tmp_path / "bundle", "import time\n" + DOUBLE.replace("return", "time.sleep(4); return")
    )
    async with backend_of(tmp_path / "state") as backend:
        backend.start(order_of(tmp_path / "bundle", manifest))
        replica = await in_state(backend, READY)
        link = await connect(replica.address)
        asked = asyncio.create_task(link.infer({"x": np.array([3.0])}, timeout_s=9))
        seen = await until(lambda: [r for r in backend.observe() if r.busy_s > 2])
        assert seen[0].state is READY
        asked.cancel()
        link.close()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise RuntimeError('no licence')", "RuntimeError: no licence"),
        ("import nowhere_to_be_found", "nowhere_to_be_found"),
    ],
)
async def test_a_model_that_does_not_load_says_why(tmp_path, code, words):
    manifest = python_bundle(tmp_path / "bundle", code + DOUBLE)
    async with backend_of(tmp_path / "state") as backend:
        backend.start(order_of(tmp_path / "bundle", manifest))
        exited = await in_state(backend, EXITED)
        assert words in exited.message
        assert exited.ready_at is None
        assert any(words in line for line in backend.read_log(exited.id, 50))
        assert len(backend.read_log(exited.id, 1)) == 1


async def test_a_corrupt_bundle_names_the_file(tmp_path, onnx):
    (tmp_path / "bundle" / "model" / "model.onnx").write_bytes(b"changed")
    async with backend_of(tmp_path / "state") as backend:
        backend.start(onnx)
        exited = await in_state(backend, EXITED)
        assert exited.code == "bundle_corrupt"
        assert "`model/model.onnx`" in exited.message


async def test_an_environment_is_visibly_built_and_its_failure_is_the_replicas(tmp_path, onnx):
    proceed = threading.Event()

    def broken(lock, envs_dir, *, on_progress):
        on_progress("Resolving 3 packages")
        proceed.wait(WAIT_S)
        raise EnvironmentFailed("There is no numpy 0.0.1.")

    async with backend_of(tmp_path / "state", interpreter=broken) as backend:
        backend.start(onnx)
        building = await until(lambda: [r for r in backend.observe() if r.message])
        assert building[0].state is ReplicaState.BUILDING
        assert building[0].message == "Resolving 3 packages"
        proceed.set()
        exited = await in_state(backend, EXITED)
        assert (exited.code, exited.message) == ("environment_failed", "There is no numpy 0.0.1.")


async def test_a_replica_may_be_stopped_while_its_environment_is_built(tmp_path, onnx):
    proceed = threading.Event()

    def slow(lock, envs_dir, *, on_progress):
        proceed.wait(WAIT_S)
        raise EnvironmentFailed("Too late.")

    async with backend_of(tmp_path / "state", interpreter=slow) as backend:
        backend.start(onnx)
        await in_state(backend, ReplicaState.BUILDING)
        backend.stop(onnx.id)
        assert backend.observe() == ()
        proceed.set()
    assert RecordDirectory(tmp_path / "state").all() == ()


async def test_an_interpreter_that_is_not_there_is_an_exit_and_not_a_crash(tmp_path, onnx):
    def missing(lock, envs_dir, *, on_progress):
        return Path("/nowhere/python")

    async with backend_of(tmp_path / "state", interpreter=missing) as backend:
        backend.start(onnx)
        exited = await in_state(backend, EXITED)
        assert "No such file" in exited.message


async def test_the_next_backend_takes_over_what_runs(tmp_path, onnx):
    async with backend_of(tmp_path / "state", end=False) as backend:
        backend.start(onnx)
        replica = await in_state(backend, READY)
    assert ProcessIdentity.of(replica.pid) is not None, "it outlives its backend"
    async with backend_of(tmp_path / "state") as backend:
        (adopted,) = backend.observe()
        assert (adopted.state, adopted.pid) == (READY, replica.pid), "known at once, without a ping"
        os.kill(replica.pid, signal.SIGKILL)
        await in_state(backend, EXITED, timeout_s=1)


async def test_what_ended_meanwhile_is_noted_by_the_next_backend(tmp_path, onnx):
    async with backend_of(tmp_path / "state", end=False) as backend:
        backend.start(onnx)
        replica = await in_state(backend, READY)
    os.kill(replica.pid, signal.SIGKILL)
    os.waitpid(replica.pid, 0)  # noqa: ASYNC222 - it was killed
    async with backend_of(tmp_path / "state") as backend:
        (exited,) = backend.observe()
        assert exited.state is EXITED
        assert exited.message.startswith("It ended while control was away.")


async def test_a_reused_pid_is_not_taken_for_the_replica(tmp_path, onnx):
    directory = RecordDirectory(tmp_path / "state")
    directory.create()
    directory.save(record_of(pid=os.getpid(), process_start="1"))
    async with backend_of(tmp_path / "state") as backend:
        assert [r.state for r in backend.observe()] == [EXITED]


async def test_a_process_whose_pid_was_not_noted_is_found_and_ended(tmp_path, onnx):
    directory = RecordDirectory(tmp_path / "state")
    directory.create()
    address = directory.address_of("double-1-0-a")
    directory.save(record_of(pid=None, address=address))
    log = directory.log_of("double-1-0-a")
    pid = spawn(["/bin/sh", "-c", "sleep 60; true", "--address", address], log, {})
    # The kernel shows a command line only a moment after the process began.
    await until(lambda: with_option("--address", address))
    async with backend_of(tmp_path / "state") as backend:
        assert backend.observe() == ()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL  # noqa: ASYNC222


def record_of(**changes):
    values = {
        "id": "double-1-0-a", "endpoint": "double", "version": VersionRef("double", 1), "slot": 0,
        "generation": 1, "max_batch_rows": 8, "state": ReplicaState.STARTING, "started_at": now(),
    }  # fmt: skip
    return ReplicaRecord(**{**values, **changes})


def test_records_survive_being_written_and_read(tmp_path):
    directory = RecordDirectory(tmp_path)
    directory.create()
    record = record_of(pid=3, process_start="4", message="hm")
    directory.save(record)
    (tmp_path / "run" / "replicas" / "torn.json").write_text('{"id": "to')
    assert directory.all() == (record,)
    assert record.process == ProcessIdentity(3, "4")
    text = msgspec.json.decode((tmp_path / "run" / "replicas" / "double-1-0-a.json").read_bytes())
    assert {"pid", "process_start", "address", "endpoint", "version"} <= text.keys()


async def test_a_deep_state_directory_gets_its_sockets_elsewhere(tmp_path, onnx):
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    async with backend_of(deep) as backend:
        backend.start(onnx)
        replica = await in_state(backend, READY)
        path = replica.address.removeprefix("unix:")
        assert len(os.fsencode(path)) <= LONGEST_SOCKET_PATH
        assert not path.startswith(str(deep))
        assert Path(path).parent.stat().st_mode & 0o077 == 0
        backend.stop(replica.id)
        await until(lambda: backend.observe() == ())
    Path(path).parent.rmdir()


async def test_a_full_disk_does_not_end_the_watch_over_a_replica(tmp_path, onnx, monkeypatch):
    def full(self, record):
        raise OSError(errno.ENOSPC, "No space left on device")

    async with backend_of(tmp_path / "state") as backend:
        monkeypatch.setattr(RecordDirectory, "save", full)
        backend.start(onnx)
        replica = await in_state(backend, READY)
        os.kill(replica.pid, signal.SIGKILL)
        await in_state(backend, EXITED, timeout_s=1)


async def test_model_code_sees_no_credentials(tmp_path, monkeypatch):
    monkeypatch.setenv("SHIPWAY_DATABASE_URL", "postgresql://secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    manifest = python_bundle(
        tmp_path / "bundle", "import os\nprint('seen:', sorted(os.environ))\n" + DOUBLE
    )
    async with backend_of(tmp_path / "state") as backend:
        backend.start(order_of(tmp_path / "bundle", manifest))
        await in_state(backend, READY)
        (line,) = [one for one in backend.read_log("double-1-0-a", 20) if one.startswith("seen:")]
    assert "PATH" in line
    assert "SHIPWAY" not in line
    assert "AWS" not in line


def test_libraries_get_one_thread_unless_a_person_says_otherwise():
    given = {"PATH": "/bin", "OMP_NUM_THREADS": "4", "LC_ALL": "C", "TOKEN": "t", "HOME": "/root"}
    kept = scrubbed(given, "/own")
    assert kept["OMP_NUM_THREADS"] == "4"
    assert kept["MKL_NUM_THREADS"] == "1"
    assert kept["LC_ALL"] == "C"
    assert "TOKEN" not in kept
    assert kept["HOME"] == kept["TMPDIR"] == "/own"


def test_logs_of_long_gone_replicas_are_removed(tmp_path):
    directory = RecordDirectory(tmp_path)
    directory.create()
    directory.save(record_of())
    for number in range(KEPT_LOGS + 5):
        path = directory.log_of(f"old-{number}")
        path.write_text("x")
        os.utime(path, (number, number))
    directory.log_of("double-1-0-a").write_text("kept")
    directory.prune_logs()
    left = {path.stem for path in (tmp_path / "logs" / "replicas").iterdir()}
    assert len(left) == KEPT_LOGS + 1
    assert "double-1-0-a" in left
    assert "old-4" not in left
