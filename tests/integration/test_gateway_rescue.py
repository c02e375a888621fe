"""What callers get while a candidate fails: what the primary would have given, through every door."""

import asyncio
import sys
from math import inf
from pathlib import Path

import pytest

from shipway.core.endpoints import Fallback, Limits
from shipway.core.errors import (
    Bug,
    DeadlineExceeded,
    InvalidInput,
    ModelFailed,
    NoReadyReplica,
    QueueFull,
    ReplicaLost,
)
from shipway.core.signature import Field, Layout, Signature
from shipway.core.telemetry import Column, Outcome, answers
from shipway.core.tensors import DataType
from shipway.gateway.trials import ENOUGH, TOO_LONG_S

sys.path.insert(0, str(Path(__file__).parent))
from trial_world import DOORS, Hangs, Raises, settled, trial_world


def counts(account):
    return account.answered, account.failed, account.rejected, account.shed


NARROW = Signature(
    layout=Layout.COLUMNS,
    inputs=(Field(name="x", dtype=DataType.FP64, maximum=5, declared=("maximum",)),),
    outputs=(Field(name="y", dtype=DataType.FP64),),
)
RENAMED = Signature(
    layout=Layout.COLUMNS,
    inputs=(Field(name="z", dtype=DataType.FP64),),
    outputs=(Field(name="y", dtype=DataType.FP64),),
)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    ("exc", "counted"),
    [
        (ModelFailed("on purpose"), (0, 1, 0, 0)),
        (ReplicaLost("on purpose"), (0, 1, 0, 0)),
        (NoReadyReplica("on purpose"), (0, 1, 0, 0)),
        (DeadlineExceeded("on purpose"), (0, 1, 0, 0)),
        (Bug("on purpose"), (0, 1, 0, 0)),
        (InvalidInput("on purpose"), (0, 0, 1, 0)),
        (QueueFull("on purpose", retry_after_s=1), (0, 0, 0, 1)),
    ],
)
async def test_primary_answers_whatever_the_candidate_fails_with(
    tmp_path, door, late, exc, counted
):
    async with trial_world(tmp_path, weight=100) as world:
        world.put(2, Raises(exc, late=late))
        assert await world.ask(4, door=door) == (200, 12.0, "2")
        await settled()
        assert counts(world.seen.candidate) == counted
        assert counts(world.seen.primary) == (0, 0, 0, 0)
        rows = [world.route.variant(number).row.values for number in ("1", "2")]
        assert [answers(row, Outcome.OK) for row in rows] == [1, 0]
        assert sum(sum(row[: Column.IN_FLIGHT]) for row in rows) == 0


async def test_exception_that_is_no_error_of_ours_is_rescued_too(tmp_path, capfd):
    async with trial_world(tmp_path, weight=100) as world:
        world.put(2, Raises(RuntimeError("a secret"), late=True))
        assert await world.ask(4) == (200, 12.0, "2")
        assert world.seen.candidate.last_error == "bug: The gateway failed."


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("signature", [NARROW, RENAMED])
async def test_request_that_only_the_candidate_refuses_is_answered_and_counted(
    tmp_path, door, signature
):
    async with trial_world(tmp_path, weight=100, signatures={2: signature}) as world:
        assert await world.ask(7, door=door) == (200, 21.0, "2")
        assert counts(world.seen.candidate) == (0, 0, 1, 0)


@pytest.mark.parametrize("door", DOORS)
async def test_request_that_both_refuse_counts_for_neither(tmp_path, door):
    async with trial_world(tmp_path, weight=100) as world:
        status, _, said = await world.ask("a", door=door)
        assert status >= 400
        assert said == ""
        assert counts(world.seen.candidate) == counts(world.seen.primary) == (0, 0, 0, 0)
        world.put(2, Raises(ModelFailed("chokes on what is no number")))
        world.apply(weight=100, signatures={1: NARROW})
        world.route.trial.primary.conform = _refuse
        assert (await world.ask(7, door=door))[0] >= 400
        assert counts(world.seen.candidate) == (0, 0, 0, 0)


def _refuse(inputs):
    raise InvalidInput("on purpose")


async def test_caller_is_told_the_primarys_error_when_both_fail(tmp_path):
    async with trial_world(tmp_path, weight=100) as world:
        world.put(1, Raises(ModelFailed("the primary")))
        world.put(2, Raises(ReplicaLost("the candidate")))
        assert (await world.ask(4))[0] == 500
        assert (world.seen.candidate.failed, world.seen.primary.failed) == (1, 0)
        await settled()
        assert world.route.variant("1").row.values[Outcome.FAILED] == 1
        assert sum(world.route.variant("2").row.values) == 0


async def test_fallback_of_the_endpoint_comes_after_the_rescue(tmp_path):
    static = Fallback(answer={"y": [-1.0]})
    async with trial_world(tmp_path, weight=100, fallback=static) as world:
        world.put(2, Raises(ReplicaLost("the candidate")))
        assert await world.ask(4) == (200, 12.0, "2")
        world.put(1, Raises(ModelFailed("the primary")))
        assert await world.ask(4) == (200, -1.0, "")


async def test_candidate_that_hangs_gets_half_of_the_deadline(tmp_path):
    async with trial_world(tmp_path, weight=100, limits=Limits(deadline_ms=400)) as world:
        hangs = Hangs()
        world.put(2, hangs)
        assert await world.ask(4) == (200, 12.0, "2")
        assert hangs.timeouts == [pytest.approx(0.2, abs=0.01)]
        assert await world.ask(4, headers={"x-request-timeout-ms": "100"}) == (200, 12.0, "2")
        assert hangs.timeouts[1] == pytest.approx(0.05, abs=0.01)
        assert world.seen.candidate.failed == 2


async def test_candidate_that_hangs_gets_far_less_once_the_primary_is_known_to_be_fast(tmp_path):
    async with trial_world(tmp_path, weight=0) as world:
        for _ in range(ENOUGH):
            await world.ask(4)
        world.table.sweep()
        assert world.route.trial.patience_s == TOO_LONG_S
        world.apply(weight=100, epoch=2)
        hangs = Hangs()
        world.put(2, hangs)
        waiting = world.send(4)
        await settled()
        assert hangs.timeouts == [TOO_LONG_S]
        waiting.cancel()
        world.apply(weight=100, rollout="another")
        assert world.route.trial.patience_s == inf


async def test_candidate_that_hangs_does_not_fill_the_queue(tmp_path):
    async with trial_world(tmp_path, weight=100, limits=Limits(max_queue=4)) as world:
        world.put(2, Hangs())
        waiting = [world.send(4) for _ in range(2)]
        await settled()
        for _ in range(3):
            assert await world.ask(4) == (200, 12.0, "")
        assert world.seen.candidate.shed == 3
        for task in waiting:
            task.cancel()


async def test_caller_who_leaves_counts_nothing(tmp_path):
    async with trial_world(tmp_path, weight=100) as world:
        hangs = Hangs()
        world.put(2, hangs)
        before = world.send(4)
        before.cancel()
        inside = world.send(4)
        await settled()
        inside.cancel()
        await asyncio.wait([before, inside])
        await settled()
        assert (hangs.inside, counts(world.seen.candidate)) == (0, (0, 0, 0, 0))


async def test_primary_that_fails_is_not_rescued_and_counts(tmp_path):
    async with trial_world(tmp_path, weight=0) as world:
        world.put(1, Raises(ModelFailed("on purpose"), late=True))
        assert (await world.ask(4))[0] == 500
        assert counts(world.seen.primary) == (0, 1, 0, 0)


async def test_version_that_is_asked_for_by_number_is_neither_rescued_nor_counted(tmp_path):
    async with trial_world(tmp_path, weight=100) as world:
        world.put(2, Raises(ModelFailed("on purpose")))
        assert (await world.ask(4, number=2))[0] == 500
        assert await world.ask(4, number=1) == (200, 12.0, "")
        assert (await world.ask(4, number=2, door="grpc"))[0] == 500
        assert counts(world.seen.candidate) == counts(world.seen.primary) == (0, 0, 0, 0)
