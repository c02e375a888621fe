"""A replica's process gets what its secrets refer to, when it starts, and nothing keeps the values."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import pytest

from shipway.backends.port import ReplicaOrder
from shipway.backends.process import ProcessBackend
from shipway.backends.records import end_all
from shipway.backends.secrets import SecretSource
from shipway.core.errors import ModelFailed, SecretUnavailable
from shipway.core.replicas import ReplicaState
from shipway.core.secrets import SecretRef, SecretRules
from shipway.core.versions import VersionRef
from shipway.testing.live import INHERIT, python_bundle
from shipway.wire.link import connect

TELLS = """
import os
Path = __import__("pathlib").Path
class Model:
    def __init__(self, context=None):
        Path(os.environ["HOME"], "told").write_text(os.environ["TOKEN"] + "/" + os.environ["DB"])
    def predict(self, inputs):
        return {"y": inputs["x"]}
"""
CANARY = "canary-77b1"


def now():
    return datetime.now(UTC)  # noqa: TID251 - the test's own clock


def order_of(directory, *, name="e-1-0-a", **secrets):
    manifest = python_bundle(directory / "bundle", TELLS)
    return ReplicaOrder(
        id=name, endpoint="e", version=VersionRef("m", 1), slot=0, generation=1, max_batch_rows=8,
        max_batch_delay_ms=5.0, digest=manifest.digest, bundle_dir=directory / "bundle",
        environment=INHERIT, secrets=tuple(secrets.items()),
    )  # fmt: skip


@asynccontextmanager
async def backend_of(state_dir, source):
    backend = ProcessBackend(state_dir, clock=now, secrets=source)
    await backend.open()
    try:
        yield backend
    finally:
        await backend.close()
        end_all(state_dir, grace_s=5)


async def in_state(backend, state):
    async with asyncio.timeout(20):
        while not (found := [r for r in backend.observe() if r.state is state]):  # noqa: ASYNC110 - a real process is watched
            await asyncio.sleep(0.01)
    return found[0]


async def in_no_state(backend):
    async with asyncio.timeout(20):
        while backend.observe():  # noqa: ASYNC110 - a real process is watched
            await asyncio.sleep(0.01)


def argv_of(pid):
    return Path(f"/proc/{pid}/cmdline").read_text()


def told_by(replica, directory):
    """What the model wrote into its own home, the only place where it can."""
    (told,) = (directory / "state" / "run" / "scratch" / replica.id).rglob("told")
    return told.read_text()


def bytes_below(directory):
    files = (path for path in directory.rglob("*") if path.is_file() and path.name != "told")
    return b"".join(path.read_bytes() for path in files)


async def test_a_model_gets_its_secrets_and_no_record_has_them(tmp_path):
    mounted = tmp_path / "mounted"
    mounted.write_text(f"{CANARY}-db\n")
    rules = SecretRules(allowed=("env:MODEL_*", f"file:{tmp_path}/*"))
    source = SecretSource(rules, {"MODEL_TOKEN": f"{CANARY}-token"})
    order = order_of(tmp_path, TOKEN=SecretRef(env="MODEL_TOKEN"), DB=SecretRef(file=str(mounted)))
    async with backend_of(tmp_path / "state", source) as backend:
        backend.start(order)
        replica = await in_state(backend, ReplicaState.READY)
        assert told_by(replica, tmp_path) == f"{CANARY}-token/{CANARY}-db"
        assert CANARY not in argv_of(replica.pid)
        kept = bytes_below(tmp_path / "state")
        assert b"MODEL_TOKEN" in kept
        assert CANARY.encode() not in kept
        # The next replica gets what is there then.
        mounted.write_text(f"{CANARY}-new")
        backend.stop(replica.id)
        backend.start(order_of(tmp_path, name="e-1-0-b", **dict(order.secrets)))
        replica = await in_state(backend, ReplicaState.READY)
        assert told_by(replica, tmp_path).endswith(f"{CANARY}-new")


async def test_the_log_of_a_replica_that_redacts_has_no_message_of_what_the_model_raised(tmp_path):
    code = "class Model:\n    def predict(self, inputs):\n        raise ValueError(f'at {inputs[\"x\"][0]}')\n"
    said = {}
    async with backend_of(tmp_path / "state", SecretSource(SecretRules(), {})) as backend:
        for redacts in (False, True):
            order = order_of(tmp_path, name=f"e-1-0-{redacts}")
            manifest = python_bundle(tmp_path / "bundle", code)
            backend.start(msgspec.structs.replace(order, digest=manifest.digest, redacts=redacts))
            replica = await in_state(backend, ReplicaState.READY)
            link = await connect(replica.address)
            with pytest.raises(ModelFailed):
                await link.infer({"x": np.array([731.5])}, timeout_s=10)
            link.close()
            said[redacts] = "\n".join(backend.read_log(replica.id, 100))
            backend.stop(replica.id)
            await in_no_state(backend)
    assert "ValueError: at 731.5" in said[False]
    assert "ValueError: (`capture.redact`" in said[True]
    assert "731.5" not in said[True]


@pytest.mark.parametrize("reference", [SecretRef(env="MODEL_X"), SecretRef(file="/nowhere/x")])
async def test_a_secret_that_is_not_there_is_the_reason_why_the_replica_exited(tmp_path, reference):
    source = SecretSource(SecretRules(allowed=("env:*", "file:/nowhere/*")), {})
    async with backend_of(tmp_path / "state", source) as backend:
        backend.start(order_of(tmp_path, TOKEN=reference))
        replica = await in_state(backend, ReplicaState.EXITED)
    assert replica.code == "secret_unavailable"
    assert f"Secret `TOKEN`: `{reference}`" in replica.message
    assert replica.pid is None


def test_what_is_no_longer_allowed_is_not_read(tmp_path):
    (tmp_path / "x").write_text(CANARY)
    source = SecretSource(SecretRules(), {"MODEL_X": CANARY})
    for reference in (SecretRef(env="MODEL_X"), SecretRef(file=str(tmp_path / "x"))):
        with pytest.raises(SecretUnavailable, match="does not cover") as caught:
            source.variables((("TOKEN", reference),))
        assert CANARY not in str(caught.value)


def test_a_link_does_not_lead_to_what_is_the_servers_own(tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    (own / "key").write_text(CANARY)
    (tmp_path / "link").symlink_to(own / "key")
    (tmp_path / "environ").symlink_to("/proc/self/environ")
    rules = SecretRules(allowed=(f"file:{tmp_path}/*",), own_places=("/proc", str(own)))
    for name in ("link", "environ"):
        reference = SecretRef(file=str(tmp_path / name))
        assert rules.objection(reference) == ""
        with pytest.raises(SecretUnavailable, match="server's own"):
            SecretSource(rules, os.environ).variables((("TOKEN", reference),))


def test_a_kubernetes_mount_is_followed(tmp_path):
    """There a file is a link into `..data`, itself a link to the directory of the present revision."""
    for revision, value in (("..one", "a"), ("..two", "b")):
        (tmp_path / revision).mkdir()
        (tmp_path / revision / "db").write_text(value)
    (tmp_path / "db").symlink_to("..data/db")
    (tmp_path / "..data").symlink_to("..one")
    source = SecretSource(SecretRules(allowed=(f"file:{tmp_path}/*",)), {})
    secrets = (("DB", SecretRef(file=str(tmp_path / "db"))),)
    assert source.variables(secrets) == {"DB": "a"}
    (tmp_path / "..next").symlink_to("..two")
    (tmp_path / "..next").replace(tmp_path / "..data")
    assert source.variables(secrets) == {"DB": "b"}
