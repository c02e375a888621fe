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
    assert all(str(fault) in caplog.text for _ in caplog.records)
