"""What the benchmarks conclude from bytes and figures; whole runs are `make bench`."""

import struct
import sys
from dataclasses import replace
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _benchmarks_on_the_path(monkeypatch):
    before = set(sys.modules)
    monkeypatch.syspath_prepend(BENCHMARKS)
    yield
    for name in set(sys.modules) - before:
        if BENCHMARKS in Path(getattr(sys.modules[name], "__file__", None) or "/").parents:
            del sys.modules[name]


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        (b'{"outputs": [2]}', 2),
        (b'{"predictions": [1]}', 1),
        (b"[0]", 0),
        (b'{"outputs": [[0.1, -3.0, 0.7]]}', 2),
        (b'{"outputs": [{"name": "label", "shape": [1], "data": [1]}, {"data": [0.2, 0.8]}]}', 1),
    ],
)
def test_answer_of_any_server_is_read_as_the_class_that_it_decides_for(answer, label):
    import messages

    assert messages.decided(answer) == label


def frame(message):
    return struct.pack(">BI", 0, len(message)) + message


def test_grpc_answer_is_read_whether_its_contents_are_raw_or_typed():
    import messages

    tensor = b"\x0a\x05label\x12\x05INT64\x1a\x01\x01"
    raw = b"\x2a" + bytes([len(tensor)]) + tensor + b"\x32\x08" + (2).to_bytes(8, "little")
    typed = tensor + b"\x2a\x03\x1a\x01\x02"
    assert messages.grpc_decided(frame(raw)) == 2
    assert messages.grpc_decided(frame(b"\x2a" + bytes([len(typed)]) + typed)) == 2
    with pytest.raises(ValueError, match="no output"):
        messages.grpc_decided(b"")


def run(server, number, rps, **changes):
    import measure

    figures = measure.Run(
        server=server, model="iris", round=number, protocol="rest", connections=32, rps=rps,
        p50_ms=1.0, p99_ms=2.0, requests=100, failures=0, cpu_us=50.0, pss_mb=100.0, ready_s=1.0,
        others=0.0,
    )  # fmt: skip
    return replace(figures, **changes)


def test_ratio_is_taken_within_a_round_so_that_a_slow_minute_of_the_machine_does_not_count():
    import claims

    pairs = [(0, 100, 50), (1, 10, 5), (2, 1000, 500)]
    runs = [run("floor", n, floor) for n, floor, _ in pairs]
    runs += [run("shipway", n, ours) for n, _, ours in pairs]
    results = claims.Results(runs)
    assert results.ratio(claims.Spot(server="shipway"), claims.Spot(server="floor")) == 0.5


def test_claim_about_the_best_of_several_peers_needs_all_of_them():
    import claims

    runs = [run("shipway", 0, 1000), *(run(name, 0, 100) for name in claims.OTHERS)]
    text = "iris: times the best of"

    def verdict(runs):
        judge = claims.Judge(results=claims.Results(runs), direct_p50_ms=None)
        return next(claim.verdict for claim in judge.claims() if claim.text.startswith(text))

    assert verdict(runs) == "pass"
    assert verdict([*runs, run("mlflow", 0, 500)]) == "FAIL"
    assert verdict(runs[:-1]) == ""


def test_interval_of_a_share_is_wilsons():
    import rollout_runs

    assert rollout_runs.wilson(0, 2000) == pytest.approx((0, 0.00192), abs=1e-5)
    assert rollout_runs.wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)


def test_simulated_rollout_is_promoted_when_equal_and_rolled_back_when_it_fails():
    import rollout_runs
    from rollout_traffic import Behaviour

    case = rollout_runs.Case(name="equal", runs=1)
    ending = rollout_runs.rolled_out(case, seed=1)
    assert (ending.phase, ending.seconds) == ("promoted", 240.0)
    failing = rollout_runs.Case(name="fails", runs=1, candidate=Behaviour(errors=1.0))
    ending = rollout_runs.rolled_out(failing, seed=1)
    assert (ending.phase, ending.guard) == ("rolled_back", "error_rate")
    assert ending.exposed < 50


def test_simulated_ab_test_finds_the_better_one():
    import rollout_runs

    better = rollout_runs.Trial(name="better", runs=1, primary=0.2, candidate=0.3)
    assert rollout_runs.tested(better, seed=1).phase == "promoted"
