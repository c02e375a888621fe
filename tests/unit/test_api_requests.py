"""What control's API tells of its own requests."""

import httpx
import pytest

from shipway.api.requests import Requests, Tracing
from shipway.api.rules import PREFIX
from shipway.core.sampling import Sampler

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


async def failing(scope, receive, send):
    await send({"type": "http.response.start", "status": 503, "headers": []})
    await send({"type": "http.response.body", "body": b"it is away"})


@pytest.mark.parametrize("parent", ["", f"00-{TRACE}-00f067aa0ba902b7-00"])
async def test_the_line_of_a_failure_names_the_trace_of_its_span(parent, caplog):
    kept = []
    tracing = Tracing(keep=kept.append, sampler=Sampler(share=0.0), service="s", instance="i")
    transport = httpx.ASGITransport(Requests(failing, tracing))
    async with httpx.AsyncClient(transport=transport, base_url="http://control") as client:
        headers = {"traceparent": parent} if parent else {}
        assert (await client.get(f"{PREFIX}/endpoints", headers=headers)).status_code == 503
    (record,) = [one for one in caplog.records if one.name == "shipway.engines.failures"]
    (span,) = kept
    assert record.trace_id == span.trace_id.hex()
    assert not parent or record.trace_id == TRACE


async def test_without_a_collector_a_failure_has_no_trace_of_its_own(caplog):
    transport = httpx.ASGITransport(Requests(failing))
    async with httpx.AsyncClient(transport=transport, base_url="http://control") as client:
        await client.get(f"{PREFIX}/endpoints")
    (record,) = [one for one in caplog.records if one.name == "shipway.engines.failures"]
    assert record.trace_id == ""
