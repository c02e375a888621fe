"""Rollouts by the command line and the SDK, against one real server."""

import json
import os
import signal
import subprocess
import sys

import pytest

from shipway import AsyncClient, Client
from shipway.core.errors import NotPromoted, RolloutNotPossible, RolloutUnderWay
from shipway.core.rollouts import RolloutPhase
from shipway.core.strategies import BlueGreen, Canary, Guards, RolloutPlan
from shipway.testing.live import live_server, onnx_bundle

UNGUARDED = Guards(error_rate=None, latency=None, shift=None, rejections=None, disagreement=None)
"""Nobody asks the endpoints of these tests, so that no guard that needs requests would ever pass."""

SPEC = """
name: {name}
model: scale:1
rollout:
  stages: []
  guards: {{error_rate: null, latency: null, shift: null, rejections: null, disagreement: null}}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    directory = tmp_path_factory.mktemp("server")
    with live_server(directory / "state") as server:
        for number, factor in ((1, 2.0), (2, 3.0), (3, 4.0)):
            onnx_bundle(directory / f"v{number}", factor)
            assert server.register("scale", directory / f"v{number}") == number
        yield server


@pytest.fixture
def client(server):
    with Client(state_dir=server.state_dir) as client:
        yield client


@pytest.fixture
def shell(server):
    """Runs a command to its end; what it printed, of stderr where it failed as expected."""

    def run(*words, code=0, stdin=""):
        with started(server, *words) as process:
            out, error = process.communicate(stdin, timeout=60)
        assert process.returncode == code, f"{words}\n{out}\n{error}"
        assert "Traceback" not in error
        return out if code == 0 else error

    return run


def started(server, *words):
    environ = {k: v for k, v in os.environ.items() if not k.startswith("SHIPWAY_")}
    return subprocess.Popen(
        [sys.executable, "-m", "shipway.cli", *words, "--dir", str(server.state_dir)],
        env=environ | {"PYTHONUNBUFFERED": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def endpoint(shell, request, server):
    """An endpoint of the test's own that serves `scale:1`, and whose guards need no requests."""
    name = request.node.name.removeprefix("test_").replace("_", "-")[:40].strip("-")
    shell("apply", "-f", "-", stdin=SPEC.format(name=name))
    assert server.answers(name, 1.0) == 2.0
    return name


AB = ("--strategy", "ab", "--metric", "sold", "--pause")
CANARY = ("--strategy", "canary", "--steps", "5,50", "--hold", "3600")


def test_blue_green_is_promoted_by_itself_and_rolled_back_by_a_word(shell, server, endpoint):
    plan = ("--strategy", "blue_green", "--hold", "0", "--bake", "0", "--success", "faster")
    tried = shell("deploy", "scale:2", "-e", endpoint, *plan, "--dry-run")
    assert "would: then preview" in tried
    assert "success: faster" in tried
    assert server.endpoint(endpoint)["active"] == "scale:1"
    shell("deploy", "scale:2", "-e", endpoint, *plan)
    assert "scale:2 in place of scale:1, promoted" in shell("rollout", "watch", endpoint)
    server.until(lambda: server.answers(endpoint, 1.0) == 3.0)
    shell("rollback", endpoint)
    assert server.answers(endpoint, 1.0) == 2.0


def test_a_canary_obeys_a_person_at_any_time(shell, server, endpoint):
    said = shell("deploy", "scale:2", "-e", endpoint, *CANARY)
    assert said.index("then canary 5 %") < said.index("is releasing")
    assert f"shipway rollout watch {endpoint}" in shell("get")
    words = ("rollout", "pause", endpoint, "--reason", "lunch")
    assert "would: " in shell(*words, "--dry-run")
    assert server.endpoint(endpoint)["rollout"]["phase"] == "running"
    shell(*words)
    assert server.endpoint(endpoint)["rollout"]["phase"] == "paused"
    assert "lunch" in shell("rollout", "status", endpoint)
    assert "Not now" in shell(*words, code=5)
    shell("rollout", "resume", endpoint)
    assert json.loads(shell("rollout", "status", endpoint, "--json"))["phase"] == "running"
    shell("rollout", "promote", endpoint)
    server.until(lambda: server.answers(endpoint, 1.0) == 3.0)
    assert "nothing to abort" in shell("rollout", "abort", endpoint, code=5)


def test_a_second_rollout_is_refused_or_takes_the_place_of_the_first(shell, endpoint):
    shell("deploy", "scale:2", "-e", endpoint, *CANARY)
    refused = shell("deploy", "scale:3", "-e", endpoint, code=5)
    assert "scale:2" in refused
    assert "--supersede" in refused
    shell("deploy", "scale:3", "-e", endpoint, "--supersede")
    listed = json.loads(shell("rollout", "history", endpoint, "--json"))
    assert [(one["candidate"]["version"], one["phase"]) for one in listed] == [
        ("scale:3", "running"),
        ("scale:2", "superseded"),
    ]
    first = shell("rollout", "status", endpoint, "--id", listed[1]["id"], "--json")
    assert json.loads(first)["id"] == listed[1]["id"]
    again = SPEC.format(name=endpoint).replace("scale:1", "scale:2")
    shell("apply", "-f", "-", stdin=again, code=5)
    shell("apply", "-f", "-", "--supersede", stdin=again)


def test_watching_tells_how_it_ended_by_its_exit_code(shell, server, endpoint):
    shell("deploy", "scale:2", "-e", endpoint, *CANARY)
    with started(server, "rollout", "watch", endpoint) as watch:
        assert "running at `canary 5 %`" in watch.stdout.readline()
        shell("rollback", endpoint)
        out, error = watch.communicate(timeout=30)
    assert watch.returncode == 7, error
    assert "aborted" in out
    assert "Not promoted" in error


def test_looking_away_ends_nothing_and_control_may_die_meanwhile(shell, server, endpoint):
    shell("deploy", "scale:2", "-e", endpoint, *CANARY)
    with started(server, "rollout", "watch", endpoint) as watch:
        watch.stdout.readline()
        record = server.state_dir / "run" / "control.json"
        os.kill(json.loads(record.read_text())["pid"], signal.SIGKILL)
        lines = iter(watch.stdout.readline, "")
        assert any("Control does not answer" in line for line in lines)
        assert any("Control answers again" in line for line in lines)
        watch.send_signal(signal.SIGINT)
        _, error = watch.communicate(timeout=30)
    assert watch.returncode == 130
    assert "the rollout goes on" in error
    assert server.endpoint(endpoint)["rollout"]["phase"] == "running"


def test_outcomes_are_counted_once_for_the_version_that_they_name(shell, endpoint):
    lines = [
        {"metric": "sold", "value": 1, "version": 1, "id": "a"},
        {"metric": "sold", "value": 1, "version": "1", "id": "a"},
        {"metric": "sold", "value": 0, "version": 2, "id": "b"},
        {"metric": "sold", "value": 1, "version": 9},
    ]
    text = "\n".join(json.dumps(line) for line in lines)
    shell("rollout", "outcomes", endpoint, stdin=text, code=3)
    shell("deploy", "scale:2", "-e", endpoint, *AB)
    said = shell("rollout", "outcomes", endpoint, "-f", "-", stdin=text)
    assert "2 counted, 1 known already, 1 of neither" in said
    assert json.loads(shell("rollout", "pairs", endpoint, "--json")) == []


def test_what_is_not_there_or_not_valid_has_its_exit_code(shell, endpoint):
    for word in ("status", "watch", "pairs"):
        assert "has had no rollout" in shell("rollout", word, endpoint, code=3)
    assert "no endpoint" in shell("rollout", "status", "nobody", code=3)
    assert "no rollout" in shell("rollout", "pause", endpoint, code=5)
    assert shell("rollout", "history", endpoint).startswith("Endpoint")
    for words in (
        ("--strategy", "canary", "--steps", "50,5"),
        ("--strategy", "canary", "--steps", "500"),
        ("--strategy", "ab", "--metric", "sold", "--goal", "up"),
        ("--steps", "5"),
    ):
        shell("deploy", "scale:2", "-e", endpoint, *words, code=4)


def test_the_client_waits_until_it_is_promoted_or_says_why_not(client, server, endpoint):
    plan = RolloutPlan(stages=(BlueGreen(preview_s=0.0, bake_s=0.5),), guards=UNGUARDED)
    client.deploy("scale:2", endpoint=endpoint, rollout=plan)
    assert client.wait_rollout(endpoint, timeout_s=30).phase is RolloutPhase.PROMOTED
    assert server.answers(endpoint, 1.0) == 3.0
    held = {"stages": [{"strategy": "canary", "hold_s": 3600}]}
    change = client.deploy("scale:3", endpoint=endpoint, rollout=held)
    assert change.endpoint.rollout.candidate == "scale:3"
    with pytest.raises(RolloutUnderWay):
        client.deploy("scale:1", endpoint=endpoint)
    assert client.abort_rollout(endpoint, reason="no").phase is RolloutPhase.ABORTED
    with pytest.raises(NotPromoted, match=r"aborted: Aborted by hand\. no"):
        client.wait_rollout(endpoint)
    with pytest.raises(RolloutNotPossible):
        client.resume_rollout(endpoint)


async def test_the_async_client_does_the_same(server, endpoint):
    async with AsyncClient(state_dir=server.state_dir) as client:
        plan = RolloutPlan(stages=(Canary(hold_s=0.2),), guards=UNGUARDED)
        await client.deploy("scale:2", endpoint=endpoint, rollout=plan)
        ended = await client.wait_rollout(endpoint, timeout_s=30)
        assert [step.state for step in ended.steps] == ["done"] * 4
        assert (await client.rollouts(endpoint))[0].id == ended.id
        assert await client.rollout_pairs(endpoint) == ()
