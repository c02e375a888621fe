"""`up` and `down` with real processes: one server per directory, and none left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from shipway.backends.identity import ProcessIdentity
from shipway.backends.launch import spawn
from shipway.backends.records import RecordDirectory
from shipway.core.errors import AlreadyRunning, PortTaken, SchemaTooNew, StateUnusable
from shipway.settings import Settings, variables_with
from shipway.supervisor.down import down
from shipway.supervisor.records import running
from shipway.supervisor.up import start
from shipway.testing.live import LiveServer, live_server, onnx_bundle


def settings_of(state_dir, **options):
    return Settings(
        state_dir=state_dir, **{"gateway_port": 0, "grpc_port": 0, "control_port": 0, **options}
    )


def pids_of(state_dir):
    """Control and gateways, by their records."""
    return {
        path.stem.split("-")[0]: json.loads(path.read_text())["pid"]
        for path in sorted((state_dir / "run").glob("*.json"))
        if path.stem == "control" or path.stem.startswith("gateway-")
    }


def identity_of(pid):
    identity = ProcessIdentity.of(pid)
    assert identity is not None
    return identity


def serving(server, tmp_path, *, placement="process"):
    onnx_bundle(tmp_path / "bundle", 2.0)
    server.register("double", tmp_path / "bundle")
    server.deploy("double", "double:1", placement=placement)
    assert server.settled("double")["phase"] == "live"
    server.until(lambda: server.answers("double", 1.0) == 2.0)


def test_up_is_quick_and_down_leaves_no_process(tmp_path):
    state = tmp_path / "state"
    with live_server(state) as server:
        serving(server, tmp_path)
        (record,) = RecordDirectory(state).all()
        processes = [identity_of(pid) for pid in (*pids_of(state).values(), record.pid)]
        processes.append(server.running.process)
        assert len(processes) == 4
        stopped = down(state)
        assert stopped.was_running
        assert [process for process in processes if process.is_alive()] == []
    assert running(state) is None
    assert RecordDirectory(state).all() == ()
    assert not down(state).was_running


def test_a_second_server_on_the_directory_is_told_about_the_first(tmp_path):
    with live_server(tmp_path / "state") as server:
        with pytest.raises(AlreadyRunning) as caught:
            start(settings_of(tmp_path / "state"))
        assert str(server.running.pid) in caught.value.message
        assert server.running.gateway_url in caught.value.message
        assert running(tmp_path / "state") == server.running, "the first is not disturbed"


@pytest.mark.parametrize(
    ("field", "flag"),
    [("gateway_port", "--port"), ("grpc_port", "--grpc-port"), ("control_port", "--control-port")],
)
def test_a_taken_port_is_named_with_the_option_that_chooses_another(tmp_path, field, flag):
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortTaken) as caught:
            start(settings_of(tmp_path / "state", **{field: port}))
    assert f"Port {port}" in caught.value.message
    assert f"`{flag}`" in caught.value.next_step
    assert running(tmp_path / "state") is None


def test_an_unusable_directory_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(StateUnusable, match="cannot be used"):
        start(settings_of(tmp_path / "file" / "state"))


def test_a_newer_schema_is_one_clear_error_and_nothing_stays_up(tmp_path):
    state = tmp_path / "state"
    state.mkdir()
    with closing(sqlite3.connect(state / "shipway.db")) as database:
        database.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        database.execute("INSERT INTO alembic_version VALUES ('9999_from_the_future')")
        database.commit()
    with pytest.raises(SchemaTooNew):
        start(settings_of(state))
    assert running(state) is None
    assert pids_of(state) == {}


def test_dead_gateway_and_control_are_started_again_at_their_addresses(tmp_path):
    state = tmp_path / "state"
    with live_server(state) as server:
        serving(server, tmp_path, placement="inline")
        before = pids_of(state)
        for pid in before.values():
            os.kill(pid, signal.SIGKILL)
        server.until(lambda: server.answers("double", 3.0) == 6.0)

        def is_back():
            try:
                return server.endpoint("double")["variants"][0]["ready"]
            except (httpx.HTTPError, KeyError):
                return False

        server.until(is_back)
        after = pids_of(state)
        assert after.keys() == before.keys()
        assert not set(after.values()) & set(before.values())


def test_without_control_a_restarted_gateway_serves_and_catches_up_later(tmp_path):
    state = tmp_path / "state"
    with live_server(state) as server:
        serving(server, tmp_path)
        onnx_bundle(tmp_path / "second", 3.0)
        server.register("double", tmp_path / "second")
        pids = pids_of(state)
        # Stopped, not killed: the supervisor would bring a killed one back too soon.
        os.kill(pids["control"], signal.SIGSTOP)
        try:
            os.kill(pids["gateway"], signal.SIGKILL)
            server.until(lambda: server.answers("double", 3.0) == 6.0)
        finally:
            os.kill(pids["control"], signal.SIGCONT)
        server.deploy("double", "double:2")
        server.until(lambda: server.answers("double", 3.0) == 9.0)


def test_a_killed_supervisor_takes_its_children_along_and_the_next_adopts_the_replicas(tmp_path):
    state = tmp_path / "state"
    first = LiveServer(start(settings_of(state)))
    try:
        serving(first, tmp_path)
        (record,) = RecordDirectory(state).all()
        children = [identity_of(pid) for pid in pids_of(state).values()]
        first.running.process.signal(signal.SIGKILL)
        first.until(lambda: not any(child.is_alive() for child in children))
        assert identity_of(record.pid).is_alive()
        assert running(state) is None
        second = LiveServer(start(settings_of(state)))
        second.until(lambda: second.answers("double", 4.0) == 8.0)
        (replica,) = second.replicas("double", "double:1")
        assert (replica["pid"], replica["state"]) == (record.pid, "ready")
        second.close()
    finally:
        first.close()
        down(state)
    assert ProcessIdentity.of(record.pid) is None


def test_down_ends_what_a_killed_server_left_behind(tmp_path):
    state = tmp_path / "state"
    with live_server(state) as server:
        serving(server, tmp_path)
        (record,) = RecordDirectory(state).all()
        replica = identity_of(record.pid)
        server.running.process.signal(signal.SIGKILL)
        server.until(lambda: running(state) is None)
        stopped = down(state)
        assert not stopped.was_running
        assert stopped.leftovers >= 1
        assert not replica.is_alive()


def test_several_gateways_share_one_address(tmp_path):
    state = tmp_path / "state"
    server = LiveServer(start(settings_of(state), gateways=2))
    try:
        serving(server, tmp_path, placement="inline")
        gateways = server.control.get("/status").json()["gateways"]
        assert len(gateways) == 2
        assert {gateway["address"] for gateway in gateways} == {server.running.gateway_url}
    finally:
        server.close()
        down(state)


def test_a_killed_gateway_of_two_is_started_again_and_takes_part(tmp_path):
    state = tmp_path / "state"
    server = LiveServer(start(settings_of(state), gateways=2))

    def page():
        try:
            # A connection of its own for each question: either gateway may answer.
            return server.gateway.get("/metrics").text.splitlines()
        except httpx.TransportError:
            return []

    def counted():
        lines = [line for line in page() if 'outcome="ok"' in line]
        return sum(int(line.rpartition(" ")[2]) for line in lines)

    try:
        serving(server, tmp_path, placement="inline")
        before = counted()
        assert before >= 1
        records = sorted((state / "run").glob("gateway-*.json"))
        killed = identity_of(json.loads(records[0].read_text())["pid"])
        killed.signal(signal.SIGKILL)
        server.until(lambda: not killed.is_alive())
        server.until(lambda: "shipway_gateways 2" in page())
        server.until(lambda: server.answers("double", 2.0) == 4.0)
        assert counted() > before
    finally:
        server.close()
        down(state)


def test_gateways_are_not_given_the_database(tmp_path, monkeypatch):
    secret = f"sqlite:///{tmp_path}/elsewhere.db"
    monkeypatch.setenv("SHIPWAY_DATABASE_URL", secret)
    state = tmp_path / "state"
    with live_server(state):
        pids = pids_of(state)
        environment = Path(f"/proc/{pids['gateway']}/environ").read_text()
        assert "SHIPWAY_DATABASE_URL" not in environment
        assert secret in Path(f"/proc/{pids['control']}/environ").read_text()


def test_a_server_that_is_told_to_stop_while_it_starts_stops(tmp_path):
    state = tmp_path / "state"
    pid = spawn(
        [sys.executable, "-m", "shipway.supervisor"],
        tmp_path / "log",
        variables_with(settings_of(state)),
    )
    end = time.monotonic() + 20
    while not (state / "logs" / "control.log").exists() and time.monotonic() < end:
        time.sleep(0.02)
    os.kill(pid, signal.SIGTERM)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert pids_of(state) == {}
