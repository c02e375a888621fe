"""Elec2's weeks around the change that is known, as traffic: the monitor finds it there, and nothing in a shuffled stream."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from drift_data import VICTORIA, elec2
from drift_replay import shuffled, traffic

WEEK = 336
JOINED = {"vicprice", "vicdemand", "transfer"}
"""What Victoria's joining the market changes. The prices of New South Wales follow the seasons all along."""


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    return elec2(tmp_path_factory.mktemp("elec2"))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with traffic(tmp_path_factory.mktemp("server")) as one:
        yield one


def test_drift_is_found_in_the_week_where_it_is_known_to_be_and_named(server, stream):
    before, around = server.replay("elec2", stream, [17136, 17136 + WEEK])
    assert before.end < VICTORIA < around.end
    assert not before.named & JOINED
    assert around.named >= JOINED
    since = around.run.report.since
    assert around.run.period.since <= since < around.run.period.until
    assert before.is_as_in_memory
    assert around.is_as_in_memory


def test_nothing_is_found_in_the_same_rows_in_random_order(server, stream):
    windows = server.replay("shuffled", shuffled(stream), [3024, 3024 + WEEK])
    assert [one.run.verdict for one in windows] == ["steady", "steady"]
    assert all(one.is_as_in_memory for one in windows)
