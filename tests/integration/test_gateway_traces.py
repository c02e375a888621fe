"""What the trace of a request says, whichever way it took in the gateway."""

import asyncio
import logging
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from shipway.core.endpoints import Fallback, Limits
from shipway.core.errors import ModelFailed, NoReadyReplica
from shipway.core.rates import RateLimit
from shipway.core.sampling import Sampler
from shipway.gateway.app import Gateway
from shipway.gateway.grpc.call import Metadata
from shipway.gateway.grpc.service import Services
from shipway.gateway.stages import Stages
from shipway.gateway.traces import MOST_CALLS, TRACE, own_header
from shipway.gateway.tracing import TracedServing
from shipway.testing.live import SIGNATURE

sys.path.insert(0, str(Path(__file__).parent))
from trial_world import DOORS, ID_PLACES, IDS, Hangs, Raises, trial_world, with_id

STAGES = ["request", "authenticate", "admit", "route", "decode", "validate"]


@asynccontextmanager
async def traced(directory, *, share=1.0, heeds_callers=True, logs_access=False, **options):
    """A rollout whose requests are traced, and the traces that were kept."""
    kept = []
    async with trial_world(directory, **options) as world:
        serving = TracedServing(
            world.table,
            sampler=Sampler(share=share, heeds_callers=heeds_callers),
            keep=kept.append,
            logs_access=logs_access,
        )
        world.gateway = Gateway(world.table, serving)
        world.services = Services(world.table, serving)
        yield world, kept


class RaisingEngine:
    """An engine whose model raises."""

    def run(self, inputs):
        raise ValueError("on purpose")


class Identifies(Raises):
    """A runner that asks for the trace of each request, as one of replicas does."""

    def __init__(self):
        super().__init__(None)
        self.headers = []

    def run_now(self, inputs):
        self.headers.append(own_header())
        return {"y": inputs["x"]}


def spans_of(trace):
    return list(Stages(instance="g").spans_of(trace))


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("weight", "version", "role"), [(0, "1", "primary"), (100, "2", "candidate")]
)
async def test_request_says_which_version_answered_in_which_role(
    tmp_path, door, weight, version, role
):
    async with traced(tmp_path, weight=weight) as (world, kept):
        assert (await world.ask(2.0, door=door))[0] == 200
        (trace,) = kept
        said = spans_of(trace)[0].attributes
        assert (said["shipway.version"], said["shipway.role"]) == (version, role)
        assert [span.name for span in spans_of(trace)] == [*STAGES, "encode", "infer"]


async def test_rescued_request_is_answered_and_says_whom_it_was_rescued_from(tmp_path):
    async with traced(tmp_path, weight=100) as (world, kept):
        world.put(2, Raises(ModelFailed("on purpose"), late=True))
        await world.ask(2.0)
        (trace,) = kept
        said = spans_of(trace)[0].attributes
        assert (said["shipway.rescued"], said["shipway.role"]) == ("2", "primary")
        assert "error.type" not in said


async def test_fallback_is_named(tmp_path):
    async with traced(tmp_path, weight=0, fallback=Fallback(answer={"y": 7.0})) as (world, kept):
        world.put(1, Raises(NoReadyReplica("on purpose")))
        assert (await world.ask(2.0))[0] == 200
        assert spans_of(kept[0])[0].attributes["shipway.fallback"] == "answer"


async def test_copy_for_a_candidate_is_not_of_its_request(tmp_path):
    async with traced(tmp_path, weight=0, mirror_pct=100) as (world, kept):
        await world.ask(2.0)
        async with asyncio.timeout(5):
            while not world.seen.candidate.answered:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.01)
        (trace,) = kept
        assert len(trace.calls) == 1
        assert TRACE.get() is None


async def test_caller_that_leaves_ends_its_trace(tmp_path):
    async with traced(tmp_path, weight=100, logs_access=True) as (world, kept):
        world.put(2, Hangs())
        task = world.send(2.0)
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        (trace,) = kept
        assert spans_of(trace)[0].attributes["http.response.status_code"] == 499
        assert spans_of(trace)[0].error == ""


async def test_requests_at_once_do_not_mix_their_traces(tmp_path):
    async with traced(tmp_path, weight=50) as (world, kept):
        await asyncio.gather(
            *(world.ask(float(n + 1), headers={"x-request-id": f"r{n}"}) for n in range(30))
        )
        assert {trace.request_id for trace in kept} == {f"r{n}" for n in range(30)}
        assert all(len(trace.calls) == 1 for trace in kept)
        assert len({trace.trace_id for trace in kept}) == 30


async def test_unknown_endpoint_is_refused_in_the_stage_that_it_came_to(tmp_path):
    async with traced(tmp_path) as (world, kept):
        world.gateway.handle(request := world_request("/v2/models/none/infer"))
        assert request.body == b"{}"
        (trace,) = kept
        names = {span.name: span.error for span in spans_of(trace)}
        assert names.keys() == {"request", "authenticate"}
        assert names["request"] == ""
        assert names["authenticate"] == "endpoint_not_found"


def world_request(path):
    from shipway.gateway.http import Request

    request = Request("POST", path.encode(), {})
    request.body = b"{}"
    return request


async def test_access_log_has_a_line_for_each_request_and_nothing_of_its_values(tmp_path, caplog):
    caplog.set_level(logging.INFO, "shipway.access")
    async with traced(tmp_path, share=0, logs_access=True) as (world, kept):
        await world.ask(31337.5, headers={"x-request-id": "one"})
        await world.ask("no number", headers={"x-request-id": "two"})
        assert kept == []
    one, two = [record for record in caplog.records if record.name == "shipway.access"]
    assert (one.request_id, one.status, one.version) == ("one", 200, "1")
    assert (two.request_id, two.status, two.error) == ("two", 422, "invalid_input")
    assert "31337" not in caplog.text
    assert "no number" not in caplog.text


async def test_access_log_names_no_trace_that_is_not_kept(tmp_path, caplog):
    caplog.set_level(logging.INFO, "shipway.access")
    async with traced(tmp_path, share=0, logs_access=True) as (world, kept):
        world.put(1, runner := Identifies())
        await world.ask(2.0)
        await world.ask(2.0, headers={"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-00"})
        assert kept == []
    assert all(len(header) == 55 for header in runner.headers)
    assert [record.trace_id for record in caplog.records] == ["", "ab" * 16]


@pytest.mark.parametrize("door", DOORS)
async def test_spans_of_a_refused_value_say_what_was_wrong_and_never_the_value(tmp_path, door):
    most = replace(SIGNATURE.inputs[0], maximum=9.0, declared=("maximum",))
    bounded = replace(SIGNATURE, inputs=(most,))
    async with traced(tmp_path, signatures={1: bounded}) as (world, kept):
        await world.ask(31337.5, door=door)
        (trace,) = kept
        assert "31337.5" in trace.error.message
        spans = spans_of(trace)
        assert "invalid_input" in [span.error for span in spans]
        assert "31337" not in str(spans)


@pytest.mark.parametrize(("request_id", "is_one"), IDS.values(), ids=IDS)
async def test_a_trace_has_the_id_of_the_prediction_log(tmp_path, request_id, is_one):
    async with traced(tmp_path) as (world, kept):
        for door, place in ID_PLACES:
            await world.ask(2.0, **with_id(door, place, request_id))
        wanted = request_id if is_one else ""
        assert [trace.request_id for trace in kept] == [wanted] * len(ID_PLACES)
        said = spans_of(kept[0])[0].attributes.get("shipway.request_id", "")
        assert said == wanted


async def test_the_id_of_a_dialect_goes_before_the_header_in_a_trace_too(tmp_path):
    async with traced(tmp_path) as (world, kept):
        for door in ("rest", "grpc"):
            await world.ask(2.0, door=door, headers={"x-request-id": "header"}, id="body")
        assert [trace.request_id for trace in kept] == ["body"] * 2


@pytest.mark.parametrize(("door", "place"), ID_PLACES)
async def test_a_failure_tells_any_id_once_and_as_an_answer_does(tmp_path, door, place):
    async with traced(tmp_path, rollout=None) as (world, _):
        world.put(1, Raises(ModelFailed("on purpose")))
        answer = world.send(2.0, **with_id(door, place, "ü" * 200))
        answer = await answer if isinstance(answer, asyncio.Future) else answer
        told = b"%C3%BC" * 200
        if door == "grpc":
            answer = world.services.failed(Metadata(), answer)
            assert answer.trailers.count(b"x-request-id") == 1
            assert told in answer.trailers
            return
        answer = world.gateway.failed(world_request("/"), answer)
        assert [value for name, value in answer.headers if name == b"x-request-id"] == [told]


@pytest.mark.parametrize(
    ("share", "heeds_callers", "flag", "is_kept"),
    [(1.0, True, "00", False), (1.0, False, "00", True), (0.0, True, "01", True), (0.0, False, "01", False)],
)  # fmt: skip
async def test_a_callers_decision_counts_where_the_sampler_heeds_it(
    tmp_path, share, heeds_callers, flag, is_kept
):
    async with traced(tmp_path, share=share, heeds_callers=heeds_callers) as (world, kept):
        await world.ask(2.0, headers={"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-{flag}"})
        assert [trace.trace_id.hex() for trace in kept] == ["ab" * 16] * is_kept


@pytest.mark.parametrize("door", DOORS)
async def test_the_line_of_a_failure_names_its_trace(tmp_path, door, caplog):
    rate = Limits(rate=RateLimit(per_s=100))  # answers tell what is left of it
    async with traced(tmp_path, share=0, rollout=None, limits=rate) as (world, kept):
        world.put(1, Raises(ModelFailed("on purpose")))
        answer = world.send(2.0, door=door)
        answer = await answer if isinstance(answer, asyncio.Future) else answer
        if door == "grpc":
            world.services.failed(Metadata(), answer)
        else:
            world.gateway.failed(world_request("/"), answer)
        (record,) = [one for one in caplog.records if one.name == "shipway.engines.failures"]
        assert len(record.trace_id) == 32
        assert record.trace_id == kept[0].trace_id.hex()


async def test_what_a_model_in_the_gateway_raised_names_its_trace(tmp_path, capfd):
    async with traced(tmp_path, share=0, rollout=None) as (world, kept):
        world.route.variant("1").runner._engine = RaisingEngine()
        assert (await world.ask(2.0))[0] == 500
        said = capfd.readouterr().err
        assert "on purpose" in said
        assert f"(trace {kept[0].trace_id.hex()})" in said


async def test_trace_notes_a_bounded_number_of_calls(tmp_path):
    async with traced(tmp_path) as (world, kept):
        await world.ask(2.0)
        trace = kept[0]
        trace.is_over = False
        assert sum(trace.begin_call("r") is not None for _ in range(50)) == MOST_CALLS - 1
