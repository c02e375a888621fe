"""What control does again and again: it fails now and then, and control goes on."""

import asyncio
from inspect import signature
from types import SimpleNamespace

import pytest

from shipway.bootstrap import chores
from shipway.core.errors import StoreUnavailable

LOOPS = (
    chores.sweep_for_ever,
    chores.sign_for_ever,
    chores.prune_for_ever,
    chores.compact_for_ever,
    chores.expire_for_ever,
    chores.charge_for_ever,
    chores.examine_for_ever,
    chores.learn_for_ever,
    chores.bound_logs_for_ever,
)
FAULTS = (StoreUnavailable("it is away"), OSError(24, "Too many open files"), KeyError("ours"))


class Broken:
    """Stands for all that a chore works with: whatever is done to it fails."""

    def __init__(self, fault):
        self.fault = fault

    def __getattr__(self, name):
        return self

    def __call__(self, *args, **kwargs):
        raise self.fault

    def __truediv__(self, name):
        raise self.fault


def test_feedback_of_rollouts_is_measured_for_a_tenth_of_the_time_at_most(monkeypatch):
    pauses, now = [], 0.0

    class Slow:
        def learn(self):
            nonlocal now
            now += 1.0 if len(pauses) == 1 else 30.0

    async def wait(seconds):
        pauses.append(seconds)
        if len(pauses) > 2:
            raise asyncio.CancelledError

    async def run():
        with pytest.raises(asyncio.CancelledError):
            await chores.learn_for_ever(Slow())

    inert = SimpleNamespace(sleep=wait, to_thread=asyncio.to_thread)
    monkeypatch.setattr(chores, "asyncio", inert)
    monkeypatch.setattr(chores, "monotonic", lambda: now)
    asyncio.run(run())
    assert pauses == [60, 60, 300]


@pytest.mark.parametrize("loop", LOOPS, ids=lambda loop: loop.__name__)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_no_chore_ends_control(loop, fault, monkeypatch, caplog):
    waits = 0

    async def wait(seconds):
        nonlocal waits
        waits += 1
        if waits > 4:
            raise asyncio.CancelledError

    async def run():
        given = [Broken(fault)] * len(signature(loop).parameters)
        with pytest.raises(asyncio.CancelledError):
            await loop(*given)

    inert = SimpleNamespace(sleep=wait, to_thread=asyncio.to_thread)
    monkeypatch.setattr(chores, "asyncio", inert)
    asyncio.run(run())
    assert len(caplog.records) > 1, "it went on, and said so each time"
    said = [f"{one.getMessage()} {one.exc_text or ''}" for one in caplog.records]
    assert all(str(fault) in words for words in said)
