"""What a gateway makes of control's answers to segments and counts."""

import asyncio

import httpx
import msgspec
import pytest

from shipway.gateway.follow import Follower
from shipway.gateway.uploads import Delivery
from shipway.wire.tallies import Taken, TelemetryReport


class Answers(Follower):
    """A follower whose control answers with a status, or is away for 0."""

    def _connected(self):
        return httpx.AsyncClient(
            base_url="http://control", transport=httpx.MockTransport(self.answer)
        )

    status = 204

    def answer(self, request):
        if not self.status:
            raise httpx.ConnectError("away")
        return httpx.Response(self.status, content=msgspec.msgpack.encode(Taken(control="c")))


class Silent:
    """Counts with nothing in them."""

    def report(self):
        return TelemetryReport(gateway="g", source="s", rows=())

    def note_taken(self, report, taken):
        pass


@pytest.fixture
async def follower(tmp_path):
    made = Answers(
        None, gateway="g", address="", environment="dev", control_url="", state_dir=tmp_path,
        credential=str, changed=asyncio.Event(), telemetry=Silent(),
    )  # fmt: skip
    yield made
    await made._http.aclose()


@pytest.mark.parametrize(
    ("status", "delivery"),
    [(204, "taken"), (400, "refused"), (413, "refused"), (422, "refused"), (401, "later"),
     (429, "later"), (500, "fault"), (507, "fault"), (502, "later"), (503, "later"), (504, "later"),
     (0, "later")],
)  # fmt: skip
async def test_what_an_answer_means_for_a_segment(follower, status, delivery):
    follower.status = status
    assert await follower.deliver(b"") is Delivery(delivery)


async def test_the_first_segment_of_a_run_that_waits_is_told_of(follower, capfd):
    for status in (503, 503, 0, 204, 401, 401):
        follower.status = status
        await follower.deliver(b"")
    lines = capfd.readouterr().err.splitlines()
    assert [line.partition(": ")[2].partition(".")[0] for line in lines] == [
        "it answers 503", "it answers 401",
    ]  # fmt: skip


async def test_that_control_refuses_the_counts_is_told_once_for_each_status(follower, capfd):
    for status in (400, 400, 500, 400, 500, 200, 500):
        follower.status = status
        await follower._tell_once()
    assert [line.split()[2] for line in capfd.readouterr().err.splitlines()] == [
        "400",
        "500",
        "500",
    ]
