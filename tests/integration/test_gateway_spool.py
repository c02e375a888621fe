"""The spool on a real disk: nothing acknowledged is lost, nothing written is damaged, nobody waits."""

import asyncio
import errno
import os
import resource
import sys
import threading
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shipway.core.captures import Feedback
from shipway.core.errors import PredictionUnrecorded
from shipway.core.spooling import SpoolBounds
from shipway.core.telemetry import Column
from shipway.gateway.counters import Row
from shipway.gateway.segments import OpenSegment, complete, locked, used_bytes
from shipway.gateway.spool import Spool
from shipway.gateway.spool_writer import SpoolWriter
from shipway.gateway.uploads import Delivery, Uploads
from shipway.wire.spool import feedback_payload, mended

sys.path.insert(0, str(Path(__file__).parent))
from segments import read_segment

FOREVER = SpoolBounds(segment_age_s=600)


def feedback(name):
    return Feedback(environment="dev", endpoint="e", at_us=1, request_id=name)


class Notes:
    """A source whose entries are names; `bad` ones cannot be encoded. `gate` holds its encoding up."""

    def __init__(self):
        self.row = Row()
        self.gate = threading.Event()
        self.gate.set()
        self.at_gate = threading.Event()

    is_slow = False

    def opening(self):
        return b""

    def payload(self, entry):
        self.at_gate.set()
        self.gate.wait(30)
        if entry.startswith("bad"):
            raise ValueError(entry)
        return feedback_payload(feedback(entry))

    def batch(self, entries):
        return None

    def counted(self, column):
        return int(self.row.values[column])


def names_in(directory):
    """What is found after a crash now, from all segments, in their order."""
    found = []
    for path in complete(directory):
        read = read_segment(path.read_bytes())
        assert read is not None
        found += [one.request_id for one in read.feedback]
    return found


@asynccontextmanager
async def spool_in(directory, bounds=FOREVER, gateway="g"):
    made = Spool(directory, gateway=gateway, bounds=bounds)
    try:
        yield made
    finally:
        await made.close()


@contextmanager
def files_of_at_most(size):
    """No file may grow past so many bytes: what a full disk answers to a write, but for its number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def until(claim, within_s=20.0):
    async with asyncio.timeout(within_s):
        while not claim():  # noqa: ASYNC110 - many kinds of claims
            await asyncio.sleep(0.005)


async def test_what_is_offered_is_written_and_counted(tmp_path):
    source = Notes()
    async with spool_in(tmp_path) as spool:
        for number in range(1000):
            spool.offer(source, f"n{number}", 10)
    assert names_in(tmp_path) == [f"n{number}" for number in range(1000)]
    assert source.counted(Column.CAPTURED) == 1000
    assert all(read_segment(path.read_bytes()).is_sealed for path in complete(tmp_path))


async def test_a_commit_is_done_when_it_is_in_the_file(tmp_path):
    source = Notes()
    async with spool_in(tmp_path) as spool:
        for number in range(20):
            await spool.commit(source, f"n{number}", 10)
            assert names_in(tmp_path)[-1] == f"n{number}"
        await spool.put_feedback(feedback("f"))
        assert names_in(tmp_path)[-1] == "f"


async def test_all_that_wait_at_once_share_a_flush(tmp_path, monkeypatch):
    flushes = []
    flush = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: flushes.append(fd) or flush(fd))
    source = Notes()
    async with spool_in(tmp_path) as spool:
        source.gate.clear()
        first = spool.commit(source, "first", 10)
        await asyncio.to_thread(source.at_gate.wait, 10)
        rest = [spool.commit(source, f"n{number}", 10) for number in range(50)]
        source.gate.set()
        await asyncio.gather(first, *rest)
    assert len(flushes) == 2
    assert len(names_in(tmp_path)) == 51


@settings(max_examples=60, deadline=None)
@given(
    groups=st.lists(st.integers(1, 5), min_size=1, max_size=6),
    lost=st.integers(0, 400),
    noise=st.binary(max_size=30),
)
def test_a_crash_at_any_byte_loses_nothing_acknowledged(tmp_path_factory, groups, lost, noise):
    directory = tmp_path_factory.mktemp("spool")
    source, writer, acknowledged, sizes = Notes(), SpoolWriter(directory, "g", FOREVER), [], []
    for number, size in enumerate(groups):
        names = [f"{number}-{place}" for place in range(size)]
        writer.write([(source, name, 10, None) for name in names], synced=True)
        acknowledged.append(names)
        sizes.append(complete(directory)[0].stat().st_size)
    (path,) = complete(directory)
    whole = path.read_bytes()
    # Power was lost somewhere behind what had been flushed: the rest is there in part, or is noise.
    flushed = max(1, len(groups) - 1)
    at = sizes[flushed - 1] + lost % (len(whole) - sizes[flushed - 1] + 1)
    path.write_bytes(whole[:at] + noise)
    found = [one.request_id for one in read_segment(mended(path.read_bytes())).feedback]
    certain = [name for names in acknowledged[:flushed] for name in names]
    assert found[: len(certain)] == certain
    assert set(found) <= {name for names in acknowledged for name in names}
    writer.seal()


async def test_a_full_disk_costs_what_does_not_fit_and_nothing_else(tmp_path):
    source = Notes()
    bounds = SpoolBounds(queue_items=50, segment_age_s=600)
    async with spool_in(tmp_path, bounds) as spool:
        await spool.commit(source, "before", 10)
        (path,) = complete(tmp_path)
        with files_of_at_most(path.stat().st_size + 20):
            with pytest.raises(PredictionUnrecorded, match="could not be recorded: File too large"):
                await spool.commit(source, "refused", 10)
            for number in range(80):
                spool.offer(source, f"n{number}", 10)
            with pytest.raises(PredictionUnrecorded):
                await spool.commit(source, "refused too", 10)
            assert source.counted(Column.LOST_DISK) == 30
            assert names_in(tmp_path) == ["before"]
            assert (
                path.read_bytes() == path.read_bytes()[: read_segment(path.read_bytes()).good_bytes]
            )
        await until(lambda: source.counted(Column.CAPTURED) == 51)
        await spool.commit(source, "after", 10)
    assert names_in(tmp_path) == ["before", *(f"n{number}" for number in range(50)), "after"]
    assert source.counted(Column.LOST_QUEUE) == 0


async def test_a_full_disk_at_the_end_is_counted_too(tmp_path):
    source = Notes()
    spool = Spool(tmp_path, gateway="g", bounds=FOREVER)
    with files_of_at_most(30):
        for number in range(7):
            spool.offer(source, f"n{number}", 10)
        await spool.close()
    assert source.counted(Column.LOST_DISK) == 7
    assert names_in(tmp_path) == []


async def test_what_could_not_be_flushed_is_refused_and_goes_into_another_segment(
    tmp_path, monkeypatch
):
    source = Notes()
    async with spool_in(tmp_path) as spool:
        await spool.commit(source, "before", 10)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", _fails)
            with pytest.raises(PredictionUnrecorded, match="Input/output error"):
                await spool.commit(source, "refused", 10)
        await spool.commit(source, "after", 10)
        assert sorted(names_in(tmp_path)) == ["after", "before"]
        assert len(complete(tmp_path)) == 2


def _fails(descriptor):
    raise OSError(errno.EIO, "Input/output error")


async def test_past_the_bound_of_the_queue_predictions_are_lost_and_counted(tmp_path):
    source = Notes()
    bounds = SpoolBounds(queue_items=10, queue_bytes=1000, segment_age_s=600)
    async with spool_in(tmp_path, bounds) as spool:
        source.gate.clear()
        spool.offer(source, "first", 10)
        await asyncio.to_thread(source.at_gate.wait, 10)
        for number in range(20):
            spool.offer(source, f"n{number}", 10)
        assert source.counted(Column.LOST_QUEUE) == 11
        with pytest.raises(PredictionUnrecorded, match="too much waits"):
            await spool.commit(source, "late", 10)
        source.gate.set()
        await until(lambda: source.counted(Column.CAPTURED) == 10)
        spool.offer(source, "large", 2000)
        assert source.counted(Column.LOST_QUEUE) == 12
        spool.offer(source, "fits", 900)
    assert names_in(tmp_path)[-1] == "fits"


async def test_an_entry_that_cannot_be_encoded_costs_itself_alone(tmp_path, capfd):
    source = Notes()
    async with spool_in(tmp_path) as spool:
        waiting = [spool.commit(source, name, 10) for name in ("a", "bad one", "b")]
        told = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(one) for one in told] == [type(None), PredictionUnrecorded, type(None)]
    assert names_in(tmp_path) == ["a", "b"]
    assert source.counted(Column.LOST_INVALID) == 1
    assert source.counted(Column.CAPTURED) == 2
    assert "ValueError: bad one" in capfd.readouterr().err


async def test_a_spool_that_has_all_of_its_share_waits_until_segments_are_sent(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("shipway.gateway.spool_writer.LOOK_SHARE", float("inf"))
    source = Notes()
    (tmp_path / "other.seg").write_bytes(bytes(2000))
    bounds = SpoolBounds(most_bytes=2000, segment_age_s=600)
    async with spool_in(tmp_path, bounds) as spool:
        with pytest.raises(PredictionUnrecorded, match="as much of the disk as it may"):
            await spool.commit(source, "a", 10)
        spool.offer(source, "b", 10)
        (tmp_path / "other.seg").unlink()
        await spool.commit(source, "c", 10)
        await until(lambda: source.counted(Column.CAPTURED) == 2)
    assert sorted(names_in(tmp_path)) == ["b", "c"]


async def test_nothing_is_written_where_others_need_the_rest_of_the_disk(tmp_path):
    source = Notes()
    bounds = SpoolBounds(reserve_ratio=1.0, reserve_bytes=1 << 62)
    async with spool_in(tmp_path / "spool", bounds) as spool:
        with pytest.raises(PredictionUnrecorded):
            await spool.commit(source, "a", 10)
    assert not (tmp_path / "spool").exists()


async def test_segments_are_sealed_by_age_and_by_size(tmp_path):
    source = Notes()
    async with spool_in(tmp_path, SpoolBounds(segment_age_s=0.05)) as spool:
        spool.offer(source, "a", 10)
        await until(
            lambda: [read_segment(p.read_bytes()).is_sealed for p in complete(tmp_path)] == [True]
        )
        await spool.commit(source, "b", 10)
    assert len(complete(tmp_path)) == 2
    async with spool_in(tmp_path / "other", SpoolBounds(segment_bytes=100)) as spool:
        await spool.commit(source, "c" * 100, 10)
        await spool.commit(source, "d", 10)
        assert len(complete(tmp_path / "other")) == 2


async def test_a_segment_that_would_be_too_long_for_control_is_sealed_first(tmp_path):
    source, bounds = Notes(), SpoolBounds(segment_age_s=600, longest_bytes=25_000)
    async with spool_in(tmp_path, bounds) as spool:
        for name in ("a", "b", "c"):
            await spool.commit(source, name * 10_000, 10)
    assert sorted(names_in(tmp_path)) == ["a" * 10_000, "b" * 10_000, "c" * 10_000]
    assert len(complete(tmp_path)) == 2
    assert all(path.stat().st_size < 25_000 for path in complete(tmp_path))


async def test_an_entry_that_is_too_long_for_any_segment_is_invalid(tmp_path):
    source, bounds = Notes(), SpoolBounds(segment_age_s=600, longest_bytes=400)
    async with spool_in(tmp_path, bounds) as spool:
        with pytest.raises(PredictionUnrecorded):
            await spool.commit(source, "a" * 400, 10)
        await spool.commit(source, "b", 10)
    assert names_in(tmp_path) == ["b"]
    assert source.counted(Column.LOST_INVALID) == 1


async def test_beside_a_large_entry_that_somebody_waits_for_nothing_else_is_written(tmp_path):
    source, bounds = Notes(), SpoolBounds(segment_age_s=600, segment_bytes=100)
    source.is_slow = True  # and so it is in the thread's queue at once
    async with spool_in(tmp_path, bounds) as spool:
        spool.offer(source, "offered", 10)
        await spool.commit(source, "large", 1000)
        assert names_in(tmp_path) == ["large"]
    assert sorted(names_in(tmp_path)) == ["large", "offered"]


class Control:
    """Takes segments, or answers what it is told to."""

    def __init__(self):
        self.taken, self.answer = [], Delivery.TAKEN

    async def deliver(self, data):
        await asyncio.sleep(0)
        if self.answer is Delivery.TAKEN:
            self.taken.append(read_segment(data))
        return self.answer

    @property
    def names(self):
        return [one.request_id for segment in self.taken for one in segment.feedback]


def test_looking_at_what_waits_takes_a_bounded_share_of_the_time(tmp_path, monkeypatch):
    looks, clock = [], [1000.0]

    def look(directory):
        looks.append(clock[0])
        clock[0] += 0.6  # as it takes at 100,000 segments
        return 0

    monkeypatch.setattr("shipway.gateway.spool_writer.used_bytes", look)
    for name in ("monotonic", "thread_time"):
        monkeypatch.setattr(f"shipway.gateway.spool_writer.{name}", lambda: clock[0])
    writer = SpoolWriter(tmp_path, "g", SpoolBounds(segment_age_s=600, most_bytes=300))
    lost = 0
    for _ in range(600):
        clock[0] += 0.1
        try:
            writer.write([(Notes(), "a", 10, None)], synced=False)
        except OSError:
            lost += 1
    writer.seal()
    assert lost  # where there is no room too
    assert len(looks) * 0.6 <= 0.05 * 60 + 2 * 0.6
    assert len(looks) > 3


def test_what_waits_is_counted_with_what_was_refused_and_without_drafts(tmp_path):
    for name in ("b.seg", "a.seg", "c.seg.refused", ".d.seg"):
        (tmp_path / name).write_bytes(b"123")
    os.utime(tmp_path / "b.seg", (1, 1))
    assert used_bytes(tmp_path) == 9
    assert complete(tmp_path) == [tmp_path / "b.seg", tmp_path / "a.seg"]
    missing = tmp_path / "missing"
    assert (used_bytes(missing), complete(missing)) == (0, [])


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def test_a_segment_that_cannot_be_sealed_lets_its_file_go_and_the_next_one_begins(
    tmp_path, monkeypatch
):
    before, writer = descriptors(), SpoolWriter(tmp_path, "g", FOREVER)
    writer.write([(Notes(), "a", 10, None)], synced=False)
    with monkeypatch.context() as patched:
        patched.setattr("shipway.gateway.segments.end_payload", lambda frames: frames / 0)
        with pytest.raises(ZeroDivisionError):
            writer.seal()
    assert descriptors() == before
    writer.write([(Notes(), "b", 10, None)], synced=False)
    writer.seal()
    assert sorted(names_in(tmp_path)) == ["a", "b"]
    assert descriptors() == before


def test_a_file_whose_end_fails_is_not_let_go_twice(tmp_path, monkeypatch):
    segment, real, closed = OpenSegment(tmp_path, "g"), os.close, []

    def close(descriptor):
        closed.append(descriptor)
        real(descriptor)
        raise OSError(errno.EIO, "on purpose")

    with monkeypatch.context() as patched:
        patched.setattr(os, "close", close)
        segment.seal()
        segment.close()
    assert len(closed) == 1


@pytest.mark.parametrize("fault", [OSError(errno.ENOSPC, "full"), MemoryError()], ids=repr)
def test_a_segment_that_cannot_be_made_leaves_nothing(tmp_path, monkeypatch, fault):
    def fail(*_):
        raise fault

    before = descriptors()
    monkeypatch.setattr("shipway.gateway.segments._write_at", fail)
    with pytest.raises(type(fault)):
        OpenSegment(tmp_path, "g")
    assert (descriptors(), os.listdir(tmp_path)) == (before, [])


async def test_a_segment_is_sent_when_its_gateway_has_let_it_go(tmp_path):
    source, control = Notes(), Control()
    async with spool_in(tmp_path) as spool:
        await spool.commit(source, "a", 10)
        assert await Uploads(tmp_path, control.deliver).send()
        assert control.names == []
    assert await Uploads(tmp_path, control.deliver).send()
    assert control.names == ["a"]
    assert all(segment.is_sealed for segment in control.taken)
    assert os.listdir(tmp_path) == []


async def test_segments_wait_while_control_is_away_and_are_set_aside_when_refused(tmp_path, capfd):
    source, control = Notes(), Control()
    for name in ("a", "b"):
        async with spool_in(tmp_path) as spool:
            await spool.commit(source, name, 10)
    uploads = Uploads(tmp_path, control.deliver)
    control.answer = Delivery.LATER
    assert not await uploads.send()
    assert sorted(names_in(tmp_path)) == ["a", "b"]
    control.answer = Delivery.REFUSED
    assert await uploads.send()
    assert complete(tmp_path) == []
    assert len(list(tmp_path.glob("*.refused"))) == 2
    assert "Control refused segment" in capfd.readouterr().err


async def test_a_segment_that_control_fails_at_holds_up_no_other_and_is_told_of_once(
    tmp_path, capfd
):
    source, control = Notes(), Control()
    for name in ("poison", "a", "b"):
        async with spool_in(tmp_path) as spool:
            await spool.commit(source, name, 10)
        if name == "poison":
            os.utime(*complete(tmp_path), (0, 0))  # the oldest

    async def deliver(data):
        if b"poison" in data:
            return Delivery.FAULT
        return await control.deliver(data)

    uploads = Uploads(tmp_path, deliver)
    assert [await uploads.send() for _ in range(3)] == [False] * 3
    assert sorted(control.names) == ["a", "b"]
    assert names_in(tmp_path) == ["poison"]
    assert capfd.readouterr().err.count("makes control fail") == 1


async def test_a_segment_that_cannot_be_read_is_told_of_once(tmp_path, capfd, monkeypatch):
    async with spool_in(tmp_path) as spool:
        await spool.commit(Notes(), "a", 10)
    uploads = Uploads(tmp_path, Control().deliver)
    monkeypatch.setattr("shipway.gateway.uploads._content", _fails)
    assert [await uploads.send() for _ in range(3)] == [True] * 3
    assert capfd.readouterr().err.count("cannot be read") == 1


async def test_a_fault_that_nobody_expected_ends_no_uploads_and_is_told_of_once(
    tmp_path, capfd, monkeypatch
):
    async with spool_in(tmp_path) as spool:
        await spool.commit(Notes(), "a", 10)
    control, faults = Control(), iter([KeyError("ours"), KeyError("ours")])
    sent = asyncio.Event()

    async def deliver(data):
        for fault in faults:
            raise fault
        delivery = await control.deliver(data)
        sent.set()
        return delivery

    monkeypatch.setattr("shipway.gateway.uploads.LOOK_EVERY_S", 0.01)
    monkeypatch.setattr("shipway.gateway.uploads.pause_s", lambda failures: 0.01 * failures)
    running = asyncio.create_task(Uploads(tmp_path, deliver).run())
    async with asyncio.timeout(10):
        await sent.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert control.names == ["a"]
    assert capfd.readouterr().err.count("KeyError: 'ours'") == 1


async def test_a_gateway_ends_in_order_whatever_sending_its_last_segments_raises(tmp_path, capfd):
    async with spool_in(tmp_path) as spool:
        await spool.commit(Notes(), "a", 10)

    async def deliver(data):
        raise KeyError("ours")

    await Uploads(tmp_path, deliver).send_last()
    assert names_in(tmp_path) == ["a"]
    assert "KeyError" in capfd.readouterr().err


async def test_the_torn_tail_of_a_killed_gateway_is_cut_and_what_has_nothing_is_removed(tmp_path):
    source, control = Notes(), Control()
    async with spool_in(tmp_path) as spool:
        await spool.commit(source, "whole", 10)
        await spool.commit(source, "torn", 10)
        (path,) = complete(tmp_path)
        data = path.read_bytes()
        path.rename(tmp_path / "aside")
        path.write_bytes(data[:-3])
    (tmp_path / "aside").unlink()
    (tmp_path / "empty.seg").write_bytes(b"SHIPSPL1" + bytes(16))
    (tmp_path / "other.seg").write_bytes(b"")
    assert await Uploads(tmp_path, control.deliver).send()
    assert control.names == ["whole"]
    assert control.taken[0].is_sealed
    assert os.listdir(tmp_path) == []


async def test_of_several_gateways_one_sends_a_segment(tmp_path):
    source, control = Notes(), Control()
    for number in range(8):
        async with spool_in(tmp_path, gateway=f"g{number}") as spool:
            await spool.commit(source, f"n{number}", 10)
    every = [Uploads(tmp_path, control.deliver) for _ in range(4)]
    await asyncio.gather(*(uploads.send() for uploads in every))
    assert sorted(control.names) == [f"n{number}" for number in range(8)]
    assert os.listdir(tmp_path) == []


async def test_a_segment_that_was_sent_while_one_waited_for_it_is_gone(tmp_path):
    async with spool_in(tmp_path) as spool:
        await spool.commit(Notes(), "a", 10)
    (path,) = complete(tmp_path)
    with locked(path) as first, locked(path) as second:
        assert first is not None
        assert second is None
    path.unlink()
    with locked(path) as third:
        assert third is None


async def test_a_caller_that_leaves_changes_nothing_for_the_others(tmp_path):
    source = Notes()
    async with spool_in(tmp_path) as spool:
        source.gate.clear()
        leaves, stays = (spool.commit(source, name, 10) for name in ("leaves", "stays"))
        leaves.cancel()
        source.gate.set()
        await stays
        assert names_in(tmp_path) == ["leaves", "stays"]
    with pytest.raises(PredictionUnrecorded):
        async with asyncio.timeout(10):
            await spool.commit(source, "late", 10)
