"""What a gateway notes of requests, for control and in Valkey, holds nothing that the endpoint redacts."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from shipway.core.capturing import Capture, How, Redact
from shipway.core.endpoints import Cache
from shipway.core.redaction import Redaction
from shipway.core.signature import Field, Layout, Signature
from shipway.core.tensors import DataType
from shipway.gateway.keys import KEY_BYTES, redaction_key
from shipway.gateway.routes import RouteTable
from shipway.gateway.valkey import ValkeyStore
from shipway.testing.servers import valkey
from shipway.wire.snapshot import OPEN, Snapshot

sys.path.insert(0, str(Path(__file__).parent))
from trial_world import trial_world, until

HASHED = Capture(redact=(Redact(field="x", how=How.HASH), "y"))
AT_MOST_1 = Signature(
    layout=Layout.COLUMNS,
    inputs=(Field(name="x", dtype=DataType.FP64, maximum=1.0, declared=("maximum",)),),
    outputs=(Field(name="y", dtype=DataType.FP64),),
)
CANARY = 731.5


def captured(world, capture, **options):
    """Applies the world's endpoint with a `capture`."""
    route = msgspec.structs.replace(world.route_spec(**options), capture=capture)
    world.table.apply(Snapshot.of((route,), OPEN))


async def test_pairs_that_are_kept_have_neither_redacted_inputs_nor_outputs(tmp_path):
    async with trial_world(tmp_path, mirror_pct=100) as world:
        captured(world, HASHED, mirror_pct=100)
        for _ in range(2):
            assert await world.ask(CANARY) == (200, CANARY * 3, "")
        await until(lambda: len(world.seen.pairs.worst) == 2)
        first, second = world.seen.pairs.worst
        assert first.distance == pytest.approx(1 / 3)
        assert first.inputs == second.inputs
        assert first.inputs == {"x": world.route.redaction.token(CANARY)}
        assert (first.primary, first.candidate) == ({}, {})
        assert str(CANARY) not in msgspec.json.encode(world.seen).decode()


@pytest.mark.parametrize("capture", [None, HASHED])
@pytest.mark.parametrize("way", [{"mirror_pct": 100}, {"weight": 100}], ids=["copied", "tried"])
async def test_the_last_error_that_is_kept_quotes_a_value_only_where_none_is_redacted(
    tmp_path, capture, way
):
    options = {**way, "signatures": {2: AT_MOST_1}}
    async with trial_world(tmp_path, **options) as world:
        captured(world, capture, **options)
        assert (await world.ask(CANARY))[1] == CANARY * 3
        await until(lambda: world.seen.candidate.rejected == 1)
        said = world.seen.candidate.last_error
        assert said.startswith("invalid_input: Column `x`")
        assert "maximum 1" in said
        assert (str(CANARY) in said) == (capture is None)


@pytest.mark.parametrize("capture", [None, HASHED])
async def test_answers_that_are_redacted_are_kept_in_memory_and_not_in_valkey(tmp_path, capture):
    with valkey() as server:
        store = ValkeyStore(server.url)
        async with trial_world(tmp_path, rollout=None) as world:
            world.table.close()
            world.table = RouteTable(lambda: None, shared_cache=store)
            world.gateway, world.services = made_again(world)
            cached = msgspec.structs.replace(world.route_spec(rollout=None), cache=Cache(ttl_s=600))
            world.table.apply(Snapshot.of((cached,), OPEN))
            await world.table.loaded()
            await until(lambda: store.is_up)
            # From one without rules to one with them: the store is left.
            world.table.apply(
                Snapshot.of((msgspec.structs.replace(cached, capture=capture),), OPEN)
            )
            for _ in range(2):
                assert (await world.ask(CANARY))[:2] == (200, CANARY * 3)
            kept = world.route.variant("1").cache
            if capture is None:
                await until(lambda: server.ask("DBSIZE") == 1)
                assert kept.size_bytes == 0
            else:
                assert server.ask("DBSIZE") == 0
                assert kept.size_bytes > 0
        await store.close()


def made_again(world):
    from shipway.gateway.app import Gateway
    from shipway.gateway.grpc.service import Services
    from shipway.gateway.serving import Serving

    serving = Serving(world.table)
    return Gateway(world.table, serving), Services(world.table, serving)


@pytest.mark.parametrize("capture", [None, HASHED])
async def test_what_a_model_raises_is_logged_with_its_message_only_where_none_is_redacted(
    tmp_path, capture, capfd
):
    class Engine:
        def run(self, inputs):
            try:
                raise KeyError(f"first {inputs['x'][0]}")
            except KeyError as exc:
                raise ValueError(f"cannot take {inputs['x'][0]}") from exc

    async with trial_world(tmp_path, rollout=None) as world:
        captured(world, capture, rollout=None)
        await world.table.loaded()
        world.route.variant("1").runner._engine = Engine()
        assert (await world.ask(CANARY))[0] == 500
    said = capfd.readouterr().err
    assert said.index("KeyError") < said.index("ValueError")
    assert "in run" in said
    assert (str(CANARY) in said) == (capture is None)


def test_the_key_is_made_once_for_its_owner_alone_whoever_comes_first(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: redaction_key(tmp_path), range(8)))
    (key,) = keys
    assert len(key) == KEY_BYTES
    path = tmp_path / "keys" / "redaction.key"
    assert path.read_bytes() == key
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert os.listdir(path.parent) == ["redaction.key"]
    assert redaction_key(tmp_path) == key


def test_a_key_that_cannot_be_used_is_replaced_by_one_that_matches_nobodys(tmp_path, capfd):
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "redaction.key").write_bytes(b"short")
    tokens = {Redaction(HASHED, redaction_key(tmp_path)).token("a") for _ in range(2)}
    assert len(tokens) == 2
    assert "match no other gateway's" in capfd.readouterr().err
    assert (tmp_path / "keys" / "redaction.key").read_bytes() == b"short"


async def test_the_key_is_asked_for_once_and_only_where_something_is_redacted(tmp_path):
    asked = []
    async with trial_world(tmp_path) as world:
        plain = world.route_spec()
        world.table = RouteTable(lambda: None, redaction_key=lambda: asked.append(1) or b"k" * 32)
        world.table.apply(Snapshot.of((plain,), OPEN))
        assert asked == []
        for number in range(2):
            capture = Capture(redact=(["x", "y"][number],))
            world.table.apply(Snapshot.of((msgspec.structs.replace(plain, capture=capture),), OPEN))
        assert asked == [1]
