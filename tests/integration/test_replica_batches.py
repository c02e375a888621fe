"""What a replica runs together, over its real stream: by the complaints about others' batching."""

import asyncio
import threading
import time
from contextlib import asynccontextmanager

import numpy as np
import pytest

from shipway.core.batching import Bounds
from shipway.core.errors import DeadlineExceeded, ModelFailed
from shipway.replica.door import listening_at
from shipway.replica.model import STRIKES, Job, Model
from shipway.replica.server import serve
from shipway.replica.worker import Worker
from shipway.wire.frames import (
    FrameReader,
    Kind,
    decode_failure,
    decode_tensors,
    encode_plain,
    encode_tensors,
)
from shipway.wire.link import connect

PLUG = -1.0


class Doubler:
    """Doubles, and notes each call. While it is plugged, a request for PLUG holds it."""

    def __init__(self, answer=lambda inputs: {"y": inputs["x"] * 2}):
        self.calls = []
        self.threads = set()
        self.released = threading.Event()
        self.plugged = threading.Event()
        self._answer = answer

    def run(self, inputs):
        x = inputs["x"]
        if len(x) and x.ravel()[0] == PLUG:
            self.plugged.set()
            assert self.released.wait(10)
            return {"y": x}
        self.calls.append(x.copy())
        self.threads.add(threading.get_ident())
        return self._answer(inputs)

    @property
    def sizes(self):
        return [len(call) for call in self.calls]


@asynccontextmanager
async def replica_of(tmp_path, model, *, max_rows=64, on_loop=False):
    bounds = Bounds(max_rows=max_rows, max_delay_s=0.005)
    worker = Worker(model, replica_id="r", bounds=bounds, stackable=True, on_loop=on_loop)
    path, stopping = tmp_path / "r.sock", asyncio.Event()
    serving = asyncio.create_task(serve(worker, listening_at(f"unix:{path}"), stopping))
    while not path.exists():  # noqa: ASYNC110 - a socket tells nobody
        await asyncio.sleep(0.01)
    link = await connect(f"unix:{path}")
    try:
        yield link
    finally:
        model.released.set()
        stopping.set()
        link.close()
        await serving


async def together(link, model, *requests):
    """The answers to requests that wait while the model is busy with another one."""
    plug = asyncio.create_task(link.infer({"x": np.array([PLUG])}, timeout_s=10))
    await asyncio.to_thread(model.plugged.wait)
    asked = [asyncio.create_task(link.infer({"x": request}, timeout_s=10)) for request in requests]
    await asyncio.sleep(0)
    await link.ping(timeout_s=5)  # on the same stream: what was sent before is in the queue
    model.released.set()
    await plug
    return await asyncio.gather(*asked, return_exceptions=True)


async def test_mlserver_1306_each_of_a_batch_gets_its_own_answer_and_only_that(tmp_path):
    model = Doubler()
    async with replica_of(tmp_path, model) as link:
        answers = await together(link, model, *(np.array([float(n)]) for n in range(3)))
    assert [answer["y"].tolist() for answer in answers] == [[0.0], [2.0], [4.0]]
    assert model.sizes == [3]


async def test_mlserver_1911_text_in_a_batch_is_answered_to_each(tmp_path):
    model = Doubler(lambda inputs: {"y": np.char.upper(inputs["x"].astype(str)).astype(object)})
    texts = [np.array([[text]], dtype=object) for text in ("a", "b", "ü" * 40)]
    async with replica_of(tmp_path, model) as link:
        answers = await together(link, model, *texts)
    assert [answer["y"].tolist() for answer in answers] == [[["A"]], [["B"]], [["Ü" * 40]]]
    assert model.sizes == [3]


@pytest.mark.parametrize(
    "answer",
    [
        lambda inputs: {"y": inputs["x"][:1]},
        lambda inputs: {"y": np.repeat(inputs["x"], 2)},
        lambda inputs: {"y": inputs["x"], "total": inputs["x"].sum()},
    ],
)
async def test_mlserver_903_answer_of_another_size_than_the_batch_reaches_whom_it_is_for(
    tmp_path, answer
):
    model = Doubler(answer)
    async with replica_of(tmp_path, model) as link:
        requests = [np.array([float(n), n + 0.5]) for n in range(3)]
        answers = await together(link, model, *requests)
    for request, given in zip(requests, answers, strict=True):
        for name, wanted in answer({"x": request}).items():
            np.testing.assert_array_equal(given[name], wanted)


async def test_model_that_never_follows_the_rows_is_given_no_more_batches(tmp_path):
    model = Doubler(lambda inputs: {"y": inputs["x"][:1]})
    async with replica_of(tmp_path, model, max_rows=2) as link:
        for _ in range(STRIKES + 2):
            model.calls.clear()
            model.released.clear()
            model.plugged.clear()
            await together(link, model, np.array([1.0]), np.array([2.0]))
        assert model.sizes == [1, 1]
        model.calls.clear()
        answer = await link.infer({"x": np.arange(5.0)}, timeout_s=5)
    assert answer["y"].tolist() == [0.0]
    assert model.sizes == [5]


async def test_bentoml_3710_no_call_exceeds_the_size_however_many_wait(tmp_path):
    model = Doubler()
    async with replica_of(tmp_path, model, max_rows=5) as link:
        answers = await together(link, model, *(np.array([float(n)]) for n in range(23)))
    assert [answer["y"].tolist() for answer in answers] == [[2.0 * n] for n in range(23)]
    assert max(model.sizes) <= 5
    assert sum(model.sizes) == 23


async def test_bentoml_3859_rows_inside_a_request_count(tmp_path):
    model = Doubler()
    requests = [np.arange(rows, dtype=float) + 100 * rows for rows in (3, 3, 4, 1, 2, 0, 5)]
    async with replica_of(tmp_path, model, max_rows=5) as link:
        answers = await together(link, model, *requests)
    for request, answer in zip(requests, answers, strict=True):
        np.testing.assert_array_equal(answer["y"], request * 2)
    assert max(model.sizes) <= 5
    assert sum(model.sizes) == 18


@pytest.mark.parametrize("kind", [float, str])
async def test_request_larger_than_a_call_is_run_in_several_and_answered_as_one(tmp_path, kind):
    model = Doubler(
        lambda inputs: {"y": inputs["x"] + inputs["x"], "row": np.arange(len(inputs["x"]))}
    )
    large = np.arange(23).astype(kind).astype(object if kind is str else float)
    small = np.array([7]).astype(kind).astype(object if kind is str else float)
    async with replica_of(tmp_path, model, max_rows=5) as link:
        answers = await together(link, model, large, small)
    assert answers[0]["y"].tolist() == (large + large).tolist()
    assert answers[1]["y"].tolist() == (small + small).tolist()
    assert max(model.sizes) <= 5
    # The small one did not wait for all of the large one.
    assert any(7 in call.astype(float) and len(call) == 1 for call in model.calls[:3])


async def test_large_request_whose_part_fails_fails_once_and_the_next_is_answered(tmp_path):
    def answer(inputs):
        if (inputs["x"] == 13).any():
            raise ValueError
        return {"y": inputs["x"]}

    model = Doubler(answer)
    async with replica_of(tmp_path, model, max_rows=5) as link:
        answers = await together(link, model, np.arange(23.0), np.array([1.0]))
    assert isinstance(answers[0], ModelFailed)
    assert answers[1]["y"].tolist() == [1.0]


async def test_other_shapes_and_dtypes_run_apart_and_none_waits_for_ever(tmp_path):
    model = Doubler()
    requests = [
        np.ones((1, 2)), np.ones((1, 3)), np.ones((1, 2), "f4"), np.ones((2, 2)), np.ones((1, 3)),
    ]  # fmt: skip
    async with replica_of(tmp_path, model) as link:
        answers = await together(link, model, *requests)
    assert [answer["y"].dtype for answer in answers] == [request.dtype for request in requests]
    assert [answer["y"].shape for answer in answers] == [request.shape for request in requests]
    assert sorted(model.sizes) == [1, 2, 3]


async def test_cancelled_request_is_never_run_and_the_others_are(tmp_path):
    model = Doubler()
    async with replica_of(tmp_path, model) as link:
        plug = asyncio.create_task(link.infer({"x": np.array([PLUG])}, timeout_s=10))
        await asyncio.to_thread(model.plugged.wait)
        asked = [
            asyncio.create_task(link.infer({"x": np.array([float(n)])}, timeout_s=10))
            for n in range(3)
        ]
        await asyncio.sleep(0)
        await link.ping(timeout_s=5)
        asked[1].cancel()
        await asyncio.sleep(0)
        assert (await link.ping(timeout_s=5)).queued == 2
        model.released.set()
        await plug
        answers = await asyncio.gather(asked[0], asked[2])
    assert [answer["y"].tolist() for answer in answers] == [[0.0], [4.0]]
    assert [call.tolist() for call in model.calls] == [[0.0, 2.0]]


async def test_deadline_in_the_queue_is_answered_while_the_model_is_busy(tmp_path):
    model = Doubler()
    async with replica_of(tmp_path, model) as link:
        plug = asyncio.create_task(link.infer({"x": np.array([PLUG])}, timeout_s=10))
        await asyncio.to_thread(model.plugged.wait)
        reader, writer = await asyncio.open_unix_connection(tmp_path / "r.sock")
        inputs = {"x": np.array([1.0])}
        for stream, timeout_ms in ((1, 20), (2, 0)):
            writer.writelines(encode_tensors(Kind.INFER, stream, inputs, timeout_ms=timeout_ms))
        frames = FrameReader()
        async with asyncio.timeout(5):
            (frame,) = frames.feed(await reader.read(2**16))
        assert (frame.kind, frame.stream) == (Kind.FAIL, 1)
        assert isinstance(decode_failure(frame.body), DeadlineExceeded)
        model.released.set()
        await plug
        async with asyncio.timeout(5):
            (frame,) = frames.feed(await reader.read(2**16))
        assert (frame.kind, frame.stream) == (Kind.RESULT, 2)
        writer.close()
        await writer.wait_closed()
    assert model.sizes == [1]


async def test_gateway_that_goes_away_takes_its_requests_along(tmp_path):
    model = Doubler()
    async with replica_of(tmp_path, model) as link:
        plug = asyncio.create_task(link.infer({"x": np.array([PLUG])}, timeout_s=10))
        await asyncio.to_thread(model.plugged.wait)
        reader, writer = await asyncio.open_unix_connection(tmp_path / "r.sock")
        writer.writelines(encode_tensors(Kind.INFER, 1, {"x": np.array([1.0])}))
        writer.write(encode_plain(Kind.PING, 2))
        await reader.read(2**16)
        assert (await link.ping(timeout_s=5)).queued == 1
        writer.close()
        await writer.wait_closed()
        async with asyncio.timeout(5):
            while (await link.ping(timeout_s=5)).queued:
                pass
        model.released.set()
        await plug
    assert model.sizes == []


async def test_short_calls_run_on_the_loop_once_they_are_known_to_be_short(tmp_path):
    model = Doubler()
    async with replica_of(tmp_path, model, on_loop=True) as link:
        for n in range(20):
            assert (await link.infer({"x": np.array([float(n)])}, timeout_s=5))["y"] == [2 * n]
    assert threading.get_ident() in model.threads
    assert len(model.threads) == 2  # the first was not known


async def test_many_at_once_are_all_answered_with_their_own(tmp_path):
    model = Doubler()
    async with replica_of(tmp_path, model) as link:
        model.released.set()
        asked = (link.infer({"x": np.full((1, 3), float(n))}, timeout_s=20) for n in range(2000))
        answers = await asyncio.gather(*asked)
        pong = await link.ping(timeout_s=5)
    assert all((answer["y"] == 2 * n).all() for n, answer in enumerate(answers))
    assert max(model.sizes) <= 64
    assert pong.queued == 0
    assert pong.call_rows > 1
    assert pong.call_s > 0


async def test_each_call_is_reported_once_and_each_request_knows_its_batch(tmp_path):
    told = []
    model = Doubler()
    async with replica_of(tmp_path, model, max_rows=4) as link:

        async def ask(value, *, count=1):
            inputs = {"x": np.full(count, float(value))}
            await link.infer(inputs, timeout_s=10, on_times=told.append)

        plug = asyncio.create_task(link.infer({"x": np.array([PLUG])}, timeout_s=10))
        await asyncio.to_thread(model.plugged.wait)
        asked = [asyncio.create_task(ask(n)) for n in range(3)]
        asked.append(asyncio.create_task(ask(9, count=6)))
        await asyncio.sleep(0)
        await link.ping(timeout_s=5)
        model.released.set()
        await asyncio.gather(plug, *asked)
    assert len(told) == 4
    assert sum(times.batches for times in told) == len(model.sizes)
    assert sum(times.batch_rows for times in told) == sum(model.sizes) == 9
    assert {times.call_rows for times in told} <= set(model.sizes)
    assert all(times.queue_s > 0 for times in told)


async def test_queue_time_is_what_was_not_spent_in_the_model(tmp_path):
    told = []

    def slow(inputs):
        time.sleep(0.03)
        return {"y": inputs["x"]}

    async with replica_of(tmp_path, Doubler(slow)) as link:
        began = time.monotonic()
        await link.infer({"x": np.array([1.0])}, timeout_s=10, on_times=told.append)
        whole_s = time.monotonic() - began
    (times,) = told
    assert times.run_s >= 0.03
    assert times.queue_s + times.run_s <= whole_s


async def test_failed_request_says_where_its_time_went_too(tmp_path):
    told = []

    def broken(inputs):
        raise ValueError("no")

    async with replica_of(tmp_path, Doubler(broken)) as link:
        with pytest.raises(ModelFailed):
            await link.infer({"x": np.array([1.0])}, timeout_s=10, on_times=told.append)
    assert [(times.call_rows, times.batches) for times in told] == [(1, 1)]


class Ear:
    """A peer that only listens."""

    def send(self, data):
        """See Peer."""

    def answered(self, stream):
        """See Peer."""


def test_answers_of_one_batch_leave_in_one_write_per_gateway():
    ears, jobs = (Ear(), Ear()), []
    for stream in range(6):
        job = Job(ears[stream % 2], stream, {"x": np.array([float(stream)])}, expires_at=9e9)
        job.key = (("x", "<f8", ()),)
        jobs.append(job)
    writes = Model(Doubler()).run(jobs)
    assert [peer for peer, _ in writes] == list(ears)
    for peer, data in writes:
        frames = list(FrameReader().feed(data))
        assert [frame.stream for frame in frames] == [ears.index(peer) + n for n in (0, 2, 4)]
        for frame in frames:
            assert decode_tensors(frame.body)[0]["y"] == [2.0 * frame.stream]
