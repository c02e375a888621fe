"""One gateway of a machine tells control what all of them counted, whoever of them lives."""

import shutil

import pytest

from shipway.core.telemetry import Column, Outcome, count_answer
from shipway.gateway.counters import Counters
from shipway.gateway.telemetry import PATIENCE, SOURCE, Telemetry
from shipway.wire.counters import MAGIC
from shipway.wire.tallies import Taken

TAKEN = Taken(control="c")


class World:
    """Gateways of one machine, and what control adds up of their reports."""

    def __init__(self, directory):
        self.directory = directory
        self.known = {}
        self.gateways = []

    def gateway(self, name):
        counters = Counters(self.directory, name)
        made = counters, Telemetry(counters, self.directory, name)
        self.gateways.append(made)
        return made

    def end(self, gateway):
        """As its process would, by whatever end."""
        counters, telemetry = gateway
        self.gateways.remove(gateway)
        telemetry.close()
        counters.close()

    def hear(self, gateway, *, taken=TAKEN):
        """Takes in what a gateway has to say; the report."""
        counters, telemetry = gateway
        counters.look()
        report = telemetry.report()
        if report is not None and taken is not None:
            for endpoint, version, tally in report.rows:
                self.known[report.source, endpoint, version] = tally
            telemetry.note_taken(report, taken)
        return report

    def failures(self):
        return sum(tally.get("failed", 0) for tally in self.known.values())


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path / "counters")
    yield made
    for gateway in list(made.gateways):
        made.end(gateway)


def fail(gateway, times=1, endpoint="e"):
    row = gateway[0].row(endpoint, f"{endpoint}:1")
    for _ in range(times):
        count_answer(row.values, Outcome.FAILED, 0.001)


def test_one_speaks_for_all_and_the_next_one_goes_on(world):
    one, other = world.gateway("one"), world.gateway("other")
    world.hear(one)
    fail(one, 3)
    fail(other, 4)
    assert world.hear(one) is not None
    assert world.hear(other) is None
    assert world.failures() == 7
    fail(one, 5)
    world.end(one)
    assert world.hear(other) is not None
    assert world.failures() == 12
    again = world.gateway("one")
    fail(again, 1)
    assert world.hear(again) is None
    world.hear(other)
    world.hear(other)
    assert world.failures() == 13
    assert len({source for source, _, _ in world.known}) == 1


def test_counts_of_a_machine_whose_gateways_all_ended_are_told_by_the_next(world):
    only = world.gateway("g")
    fail(only, 3)
    world.hear(only)
    fail(only, 2)
    world.end(only)
    world.hear(world.gateway("g"))
    assert world.failures() == 5


def test_only_news_is_told_until_another_control_asks(world):
    only = world.gateway("g")
    fail(only, 1, "a")
    fail(only, 1, "b")
    world.hear(only)
    assert len(world.hear(only).rows) == 2  # the first answer said which control it is
    fail(only, 1, "b")
    assert [row[0] for row in world.hear(only).rows] == ["b"]
    assert world.hear(only).rows == ()
    world.hear(only, taken=Taken(control="another"))
    assert {row[0] for row in world.hear(only).rows} == {"a", "b"}


def test_report_that_was_lost_is_told_again(world):
    only = world.gateway("g")
    world.hear(only)
    world.hear(only)
    fail(only, 2)
    lost = world.hear(only, taken=None)
    assert world.hear(only).rows == lost.rows
    assert world.failures() == 2


def test_requests_inside_are_no_counts(world):
    only = world.gateway("g")
    only[0].row("e").values[int(Column.IN_FLIGHT)] = 5.0
    assert world.hear(only).rows == ()


def test_what_was_counted_before_there_was_anybody_to_tell_is_no_news(world):
    old = world.gateway("g")
    fail(old, 100)
    world.end(old)
    new = world.gateway("g")
    fail(new, 3)
    world.hear(new)
    assert world.failures() == 3
    fail(new, 1)
    world.hear(new)
    assert world.failures() == 4


def test_counts_that_are_gone_from_the_disk_are_given_up_after_a_while(world):
    old = world.gateway("g")
    fail(old, 100)
    world.hear(old)
    world.end(old)
    new = world.gateway("g")
    first = world.hear(new).source
    (world.directory / "past.bin").write_bytes(b"")
    fail(new, 7)
    for _ in range(PATIENCE):
        new[1].note_refused()  # as control does, which knows of 100
    fail(new, 2)
    assert world.hear(new).source != first
    assert world.failures() == 102
    world.end(new)
    world.hear(world.gateway("g"))
    assert world.failures() == 102


def test_damaged_name_of_the_source_costs_no_new_count(world):
    old = world.gateway("g")
    fail(old, 3)
    world.hear(old)
    world.end(old)
    (world.directory / SOURCE).write_bytes(b"{")
    new = world.gateway("g")
    fail(new, 2)
    world.hear(new)
    assert world.failures() == 5


def test_gateway_that_cannot_share_its_counters_tells_its_own(world, tmp_path):
    shared = world.gateway("shared")
    fail(shared, 3)
    shutil.rmtree(world.directory)
    world.directory.write_bytes(MAGIC)  # no directory: no file can be made in it
    alone = world.gateway("alone")
    fail(alone, 4)
    report = world.hear(alone)
    assert world.failures() == 4
    assert [one.gateway for one in report.processes] == ["alone"]
