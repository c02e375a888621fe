"""Replicas come and go with the load: asleep and back, up and down, in and out of memory."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from shipway.core.bundles import Format
from shipway.settings import Settings
from shipway.supervisor.down import down
from shipway.supervisor.up import start
from shipway.testing.bundles import write_bundle
from shipway.testing.live import (
    INHERIT,
    SIGNATURE,
    LiveServer,
    live_server,
    onnx_bundle,
    python_bundle,
)

SLEEPY = {"min_replicas": 0, "max_replicas": 2, "idle_s": 0.5}
ROOT = Path(__file__).parents[2]
SLOW = """
import time
class Model:
    def predict(self, inputs):
        time.sleep(0.2)
        return {"y": inputs["x"] * 2}
"""
FRAGILE = """
from pathlib import Path
if Path({flag!r}).exists():
    raise RuntimeError("the licence has run out")
class Model:
    def predict(self, inputs):
        return {{"y": inputs["x"] * 2}}
"""


WARMED = """
class Model:
    def predict(self, inputs):
        print("asked", float(inputs["x"][0]), flush=True)
        return {"y": inputs["x"]}
"""
EXAMPLES = b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [7.0]}]}'


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    directory = tmp_path_factory.mktemp("scaling")
    with live_server(directory / "state") as server:
        for number, factor in ((1, 2.0), (2, 3.0)):
            onnx_bundle(directory / f"v{number}", factor)
            server.register("scale", directory / f"v{number}")
        python_bundle(directory / "slow", SLOW)
        server.register("slow", directory / "slow")
        yield server


def deployed(server, name, model, **fields):
    server.deploy(name, model, placement="process", **fields)
    view = server.settled(name)
    assert (view["phase"], view["active"]) == ("live", model), view
    return view


def asleep(server, name):
    """The view of the endpoint once it sleeps and its processes are gone."""

    def view():
        endpoint = server.endpoint(name)
        (active,) = [v for v in endpoint["variants"] if v["role"] == "primary"]
        return endpoint if active["asleep"] and not active["replicas"] else None

    return server.until(view, timeout_s=20)


def test_the_first_request_after_idling_is_answered_and_the_time_is_shown(server):
    deployed(server, "sleepy", "scale:1", scaling=SLEEPY)
    for _ in range(3):
        view = asleep(server, "sleepy")
        assert (view["phase"], view["message"]) == ("live", "Asleep; the next request wakes it.")
        assert view["variants"][0]["ready"]
        assert server.gateway.get("/v2/models/sleepy/ready").status_code == 200
        began = time.monotonic()
        answer = server.predict("sleepy", 21.0)
        took = time.monotonic() - began
        print(f"woken and answered in {took:.2f} s; {server.endpoint('sleepy')['message']}")
        assert answer.json()["outputs"][0]["data"] == [42.0]
        assert took < 5
        assert server.endpoint("sleepy")["message"].startswith("Woken in ")
    log = (server.state_dir / "logs" / "control.log").read_text()
    assert "scale:1 of endpoint sleepy was woken in " in log


def asked_of(server, endpoint):
    """What the model was asked for, as its replicas say."""
    lines = server.control.get(f"/endpoints/{endpoint}/logs").json()["lines"]
    return [line.rpartition("asked ")[2] for line in lines if "asked " in line]


def test_a_woken_replica_runs_the_bundles_examples_before_its_first_request(server, tmp_path):
    write_bundle(
        tmp_path / "bundle",
        files={
            "model/model.py": WARMED.encode(),
            "examples.json": EXAMPLES,
        },
        artifact="model", format=Format.PYTHON, options={"class": "model:Model"},
        signature=SIGNATURE, environment=INHERIT, examples="examples.json",
    )  # fmt: skip
    server.register("warmed", tmp_path / "bundle")
    deployed(server, "warmed", "warmed:1", scaling=SLEEPY)
    assert asked_of(server, "warmed") == ["7.0"]
    asleep(server, "warmed")
    assert server.answers("warmed", 3.0) == 3.0
    assert asked_of(server, "warmed")[-2:] == ["7.0", "3.0"]


def test_many_first_requests_at_once_are_all_answered_by_one_start(server):
    deployed(server, "crowd", "scale:1", scaling=SLEEPY)
    asleep(server, "crowd")
    answers = []
    calls = [
        threading.Thread(target=lambda v=v: answers.append((v, server.predict("crowd", float(v)))))
        for v in range(12)
    ]
    for call in calls:
        call.start()
    for call in calls:
        call.join()
    assert [a.json()["outputs"][0]["data"][0] for v, a in sorted(answers, key=lambda p: p[0])] == [
        2.0 * v for v in range(12)
    ]


def test_a_deadline_shorter_than_the_start_is_refused_and_the_start_goes_on(server):
    limits = {"deadline_ms": 30}
    deployed(server, "hasty", "scale:1", scaling={**SLEEPY, "idle_s": 3.0}, limits=limits)
    asleep(server, "hasty")
    answer = server.predict("hasty", 1.0)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    server.until(lambda: server.answers("hasty", 1.0) == 2.0, timeout_s=10)


def test_a_model_that_cannot_be_woken_says_why_and_is_tried_again_later(server, tmp_path):
    flag = tmp_path / "flag"
    python_bundle(tmp_path / "bundle", FRAGILE.format(flag=str(flag)))
    server.register("fragile", tmp_path / "bundle")
    deployed(server, "fragile", "fragile:1", scaling=SLEEPY)
    asleep(server, "fragile")
    flag.touch()
    answer = server.predict("fragile", 1.0)
    assert answer.status_code == 503
    assert "the licence has run out" in answer.text
    assert int(answer.headers["retry-after"]) >= 1
    flag.unlink()
    server.until(lambda: server.answers("fragile", 1.0) == 2.0, timeout_s=20)


def test_a_version_put_behind_a_sleeping_endpoint_serves_and_sleeps_again(server):
    deployed(server, "swap-asleep", "scale:1", scaling=SLEEPY)
    asleep(server, "swap-asleep")
    deployed(server, "swap-asleep", "scale:2")
    server.until(lambda: server.answers("swap-asleep", 1.0) == 3.0)
    asleep(server, "swap-asleep")
    change = server.control.post("/endpoints/swap-asleep/rollback").json()
    assert change["endpoint"]["active"] == "scale:1"
    server.settled("swap-asleep")
    assert server.answers("swap-asleep", 1.0) == 2.0


def test_an_endpoint_deleted_while_it_wakes_strands_no_caller(server):
    deployed(server, "gone", "slow:1", scaling=SLEEPY)
    asleep(server, "gone")
    answers = []
    call = threading.Thread(target=lambda: answers.append(server.predict("gone", 1.0)))
    call.start()
    server.control.delete("/endpoints/gone")
    call.join(timeout=15)
    assert answers[0].status_code in (200, 404, 503)


@contextmanager
def load(server, endpoint, callers, answers=None):
    """Callers who ask all the time; gives what was not answered with 200."""
    ending = threading.Event()
    failures = []

    def ask():
        options = {"base_url": server.running.gateway_url, "headers": server.headers}
        with httpx.Client(**options, timeout=30) as client:
            while not ending.is_set():
                tensor = {"name": "x", "shape": [1], "datatype": "FP64", "data": [1.0]}
                body = {"inputs": [tensor]}
                answer = client.post(f"/v2/models/{endpoint}/infer", json=body)
                if answer.status_code != 200:
                    failures.append(answer.text)
                elif answers is not None:
                    answers.append(answer.json()["outputs"][0]["data"][0])

    threads = [threading.Thread(target=ask) for _ in range(callers)]
    for thread in threads:
        thread.start()
    yield failures
    ending.set()
    for thread in threads:
        thread.join()


def test_replicas_follow_the_load_up_and_down_without_one_failed_request(server):
    scaling = {"max_replicas": 3, "target_concurrency": 2, "down_after_s": 2.0}
    deployed(server, "elastic", "slow:1", scaling=scaling, limits={"max_batch_rows": 1})

    def ready():
        replicas = server.replicas("elastic", "slow:1")
        return sum(r["state"] == "ready" for r in replicas)

    assert ready() == 1
    with load(server, "elastic", callers=6) as failures:
        server.until(lambda: ready() == 3, timeout_s=30)
        assert server.endpoint("elastic")["variants"][0]["wanted"] == 3
    with load(server, "elastic", callers=1) as more_failures:
        server.until(lambda: ready() == 1, timeout_s=30)
    assert failures == []
    assert more_failures == []


def test_bounds_changed_under_load_are_kept_at_once(server):
    deployed(server, "bounds", "scale:1", replicas=2)
    assert len(server.replicas("bounds", "scale:1")) == 2
    server.deploy("bounds", "scale:1", scaling={"min_replicas": 3, "max_replicas": 3})
    server.until(lambda: len(server.replicas("bounds", "scale:1")) == 3)
    answer = server.deploy("bounds", "scale:1", scaling={"max_replicas": 2})
    assert "at least 3 replicas and at most 2" in answer["detail"]


def test_twelve_models_in_a_budget_for_three_all_answer_within_it():
    done = subprocess.run(
        [
            *(sys.executable, str(ROOT / "benchmarks" / "many_models.py")),
            *("--models", "12", "--budget-models", "3", "--requests", "60"),
            *("--cold-limit-s", "15"),
        ],
        capture_output=True, text=True, check=False, timeout=150,
    )  # fmt: skip
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def tight(tmp_path_factory):
    """A server whose budget holds two small models, three at most."""
    directory = tmp_path_factory.mktemp("tight")
    with live_server(directory / "state", memory_budget_mb=140) as server:
        for number in range(4):
            onnx_bundle(directory / f"m{number}", float(number + 2))
            server.register(f"m{number}", directory / f"m{number}")
        yield server


def test_a_pinned_model_stays_and_others_make_room(tight):
    tight.deploy("pinned", "m0:1", residency="pinned")
    assert tight.settled("pinned")["phase"] == "live"
    (replica,) = tight.replicas("pinned", "m0:1")
    for number in (1, 2, 3):
        tight.deploy(f"e{number}", f"m{number}:1")
        assert tight.settled(f"e{number}")["phase"] == "live"
    for number in (1, 2, 3, 1, 2, 3):
        assert tight.answers(f"e{number}", 1.0) == number + 2
    assert tight.answers("pinned", 1.0) == 2.0
    assert [r["pid"] for r in tight.replicas("pinned", "m0:1")] == [replica["pid"]]
    status = tight.control.get("/status").json()
    assert status["memory"]["budget_mb"] == 140
    assert 0 < status["memory"]["used_mb"] <= 140


def test_with_a_budget_auto_places_no_model_inline_and_inline_stays_when_asked(tight):
    tight.deploy("placed", "m1:1")
    assert tight.settled("placed")["variants"][0]["placement"] == "process"
    tight.deploy("inline", "m2:1", placement="inline")
    assert tight.settled("inline")["variants"][0]["placement"] == "inline"
    assert tight.answers("inline", 1.0) == 4.0


def test_two_hot_models_that_do_not_fit_together_take_turns_and_fail_nobody(tmp_path):
    with live_server(tmp_path / "state", memory_budget_mb=70) as server:
        for number in range(2):
            onnx_bundle(tmp_path / f"m{number}", float(number + 2))
            server.register(f"m{number}", tmp_path / f"m{number}")
            server.deploy(f"e{number}", f"m{number}:1")
            assert server.settled(f"e{number}")["phase"] == "live"
        answers = ([], [])
        with (
            load(server, "e0", callers=2, answers=answers[0]) as failures,
            load(server, "e1", callers=2, answers=answers[1]) as more_failures,
        ):
            for _ in range(2):
                for found in answers:
                    so_far = len(found)
                    server.until(lambda f=found, n=so_far: len(f) > n + 20, timeout_s=30)
        assert failures == more_failures == []
        assert [set(found) for found in answers] == [{2.0}, {3.0}]


def test_after_a_restart_pinned_and_preloaded_models_are_loaded_and_others_when_asked(tmp_path):
    with live_server(tmp_path / "state", memory_budget_mb=300) as server:
        onnx_bundle(tmp_path / "bundle", 2.0)
        server.register("scale", tmp_path / "bundle")
        for residency in ("auto", "preload", "pinned"):
            server.deploy(residency, "scale:1", residency=residency)
            assert server.settled(residency)["phase"] == "live"
        down(server.state_dir)
        ports = {"gateway_port": 0, "control_port": 0}
        again = LiveServer(
            start(Settings(state_dir=server.state_dir, memory_budget_mb=300, **ports))
        )
        for residency in ("preload", "pinned"):
            again.until(lambda name=residency: again.answers(name, 1.0) == 2.0, timeout_s=15)
        assert again.replicas("auto", "scale:1") == []
        assert again.endpoint("auto")["variants"][0]["asleep"]
        assert again.answers("auto", 1.0) == 2.0
        again.close()
