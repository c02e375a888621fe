"""Counter files in one directory: who is alive, what the ended ones left, what is not ours."""

import os
import resource
import shutil
import threading
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from shipway.core.endpoints import Limits
from shipway.core.errors import QueueFull
from shipway.core.telemetry import COLUMNS, Column, Outcome, Totals, count_answer
from shipway.gateway.counters import SEGMENT_BYTES, Counters
from shipway.gateway.metrics import page
from shipway.gateway.neighbours import PAST, REMEMBERED
from shipway.gateway.routes import RouteTable
from shipway.wire.counters import BLOCK_BYTES, parsed_past
from shipway.wire.snapshot import OPEN, Route, Snapshot

NAME = ("e", "m:1")


@contextmanager
def gateway(directory, name="g"):
    counters = Counters(directory, name)
    try:
        yield counters
    finally:
        counters.close()


def count(counters, times=1):
    for _ in range(times):
        count_answer(counters.row(*NAME).values, Outcome.OK, 0.5)


def ok(counters):
    return Totals.of(counters.sums().get(NAME, [0.0] * COLUMNS)).ok


def files(directory):
    return sorted(path.name for path in directory.glob("*.bin"))


def test_each_gateway_sees_the_others_requests_as_they_come_and_go(tmp_path):
    with gateway(tmp_path) as one, gateway(tmp_path) as two:
        row = two.row("e")
        one.look()
        (seen,) = one.others_inside("e")
        row.values[Column.IN_FLIGHT] = 3.0
        assert seen[Column.IN_FLIGHT] == 3.0
        assert one.others_inside("other") == ()
        assert (one.gateways, two.gateways) == (2, 2)


def test_ended_gateway_leaves_its_counts_and_no_request_inside(tmp_path):
    with gateway(tmp_path) as one:
        with gateway(tmp_path) as two:
            count(two, 3)
            two.row("e").values[Column.IN_FLIGHT] = 3.0
            one.look()
        one.look()
        assert one.gateways == 1
        assert one.others_inside("e") == ()
        assert ok(one) == 3
        assert one.sums()[("e", "")][Column.IN_FLIGHT] == 0
    with gateway(tmp_path) as three:
        assert ok(three) == 3
        assert len(files(tmp_path)) == 2


def test_fold_that_was_cut_short_counts_nothing_twice(tmp_path):
    with gateway(tmp_path) as one:
        count(one, 5)
        (name,) = files(tmp_path)
        shutil.copy(tmp_path / name, tmp_path / "copy")
    with gateway(tmp_path) as two:
        assert name not in files(tmp_path)
        (tmp_path / "copy").rename(tmp_path / name)
        assert ok(two) == 5
    with gateway(tmp_path) as three:
        assert ok(three) == 5
        assert name not in files(tmp_path)


def test_sums_never_go_backwards_while_gateways_come_and_end(tmp_path):
    seen, stopping = [], threading.Event()
    with gateway(tmp_path, "reader") as reader:

        def read():
            while not stopping.is_set():
                seen.append(ok(reader))

        thread = threading.Thread(target=read)
        thread.start()
        for number in range(40):
            with gateway(tmp_path, f"g{number}") as one:
                count(one, 2)
        stopping.set()
        thread.join()
        assert seen == sorted(seen)
        assert ok(reader) == 80


def test_past_forgets_the_names_of_files_long_gone(tmp_path):
    for number in range(REMEMBERED + 10):
        with gateway(tmp_path, f"g{number}") as one:
            count(one)
    with gateway(tmp_path) as last:
        assert ok(last) == REMEMBERED + 10
    assert len(parsed_past((tmp_path / PAST).read_bytes()).folded) == REMEMBERED


def test_foreign_and_truncated_files_are_left_alone(tmp_path):
    strangers = {"a.bin": b"", "b.bin": b"x" * 5000, "c.txt": b"SHIPCNT1", PAST: b"\xc1"}
    for name, content in strangers.items():
        (tmp_path / name).write_bytes(content)
    with gateway(tmp_path) as one:
        count(one)
        one.look()
        assert ok(one) == 1
        assert one.gateways == 1
        assert {"a.bin", "b.bin"} < set(files(tmp_path))


def test_rows_beyond_the_first_segment_are_shared_too(tmp_path):
    with gateway(tmp_path) as one, gateway(tmp_path) as two:
        for number in range(2 * SEGMENT_BYTES // BLOCK_BYTES):
            two.row(f"e{number}").values[Column.IN_FLIGHT] = 1.0
            one.look()
        inside = [one.others_inside(f"e{n}")[0] for n in range(2 * SEGMENT_BYTES // BLOCK_BYTES)]
        assert all(row[Column.IN_FLIGHT] == 1 for row in inside)


def test_full_disk_costs_sight_and_nothing_else(tmp_path, capfd):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SEGMENT_BYTES, hard))
    try:
        with gateway(tmp_path) as one:
            for number in range(SEGMENT_BYTES // BLOCK_BYTES + 1):
                count_answer(one.row(f"e{number}").values, Outcome.OK, 0.1)
            assert sum(sum(row[Column.FIRST_BUCKET :]) for row in one.sums().values()) == 129
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        with gateway(tmp_path, "no-room") as two:
            count(two)
            assert ok(two) == 1
            assert two.sums()[NAME][Column.IN_FLIGHT] == 0
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    said = capfd.readouterr().err
    assert said.count("The counters of some versions are not shared") == 1
    assert said.count("The counters are not shared") == 1
    assert not list(tmp_path.glob(".no-room*"))


def test_without_a_directory_a_gateway_counts_for_itself():
    alone = Counters()
    count(alone)
    assert (ok(alone), alone.gateways, alone.others_inside("e")) == (1, 1, ())
    assert len(alone.row("e").values) == COLUMNS


def test_past_that_cannot_be_read_now_is_not_replaced(tmp_path, monkeypatch):
    with gateway(tmp_path) as one:
        count(one, 5)
    with gateway(tmp_path) as two:
        count(two, 2)
    read_bytes = Path.read_bytes

    def too_many_files(path):
        if path.name == PAST:
            raise OSError(24, "Too many open files")
        return read_bytes(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", too_many_files)
        with gateway(tmp_path):
            pass
    with gateway(tmp_path) as three:
        assert ok(three) == 7


@contextmanager
def tables(directory, number, *, max_queue):
    """As many gateways with the same endpoint, which all know each other."""
    snapshot = Snapshot.of(
        (Route(name="e", limits=Limits(max_queue=max_queue), variants=()),), OPEN
    )
    made = []
    with ExitStack() as stack:
        for i in range(number):
            counters = stack.enter_context(gateway(directory, f"g{i}"))
            made.append(RouteTable(lambda: None, counters=counters))
            made[-1].apply(snapshot)
        for table in made:
            table.counters.look()
            table.see_others()
        yield made


def enter(table):
    """Lets a request in that waits."""
    route = table.route("e")
    route.admit()
    route.gate.show()


def test_limit_holds_over_64_gateways(tmp_path):
    with tables(tmp_path, 64, max_queue=100) as made:
        inside = []
        for table in made * 3:
            with suppress(QueueFull):
                enter(table)
                inside.append(table)
        assert len(inside) == 100
        inside[0].route("e").leave()
        enter(made[-1])
        with pytest.raises(QueueFull, match="100 requests"):
            enter(made[7])


def test_race_goes_over_the_limit_by_one_for_each_other_gateway_and_never_more(tmp_path):
    with tables(tmp_path, 8, max_queue=10) as made:
        for _ in range(9):
            enter(made[0])
        # All eight look before any of them shows what it let in: the worst that can happen.
        routes = [table.route("e") for table in made]
        for route in routes:
            route.admit()
        for route in routes:
            route.gate.show()
        assert routes[0].gate.inside() == 10 + 8 - 1
        for table in made:
            with pytest.raises(QueueFull):
                enter(table)


def test_what_was_inside_an_ended_gateway_refuses_nobody(tmp_path):
    with tables(tmp_path, 2, max_queue=4) as (one, two):
        for _ in range(4):
            enter(two)
        two.counters.close()
        enter(one)  # without a look in between
        assert one.route("e").gate.inside() == 1


def test_page_says_what_was_shed_and_what_each_gateway_takes(tmp_path):
    with tables(tmp_path, 2, max_queue=4) as (one, two):
        count_answer(two.counters.row("e").values, Outcome.SHED, 0.0)
        lines = page(one).decode().splitlines()
        assert 'shipway_requests_total{endpoint="e",version="",outcome="shed"} 1' in lines
        assert one.counters.processes() == {"g0": os.getpid(), "g1": os.getpid()}
        for name in ("cpu_seconds_total", "resident_memory_bytes"):
            for i in range(2):
                (line,) = (
                    x for x in lines if x.startswith(f'shipway_gateway_{name}{{gateway="g{i}"')
                )
                assert float(line.rpartition(" ")[2]) > 0
