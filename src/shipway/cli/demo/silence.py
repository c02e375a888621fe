"""The part of the demo in which nothing fails: somebody upstream changes a unit, and every answer is 200."""

from __future__ import annotations

from collections import Counter
from time import monotonic, sleep

import httpx
import typer

from shipway.cli.demo.models import Shift
from shipway.cli.demo.receiver import Receiver
from shipway.cli.demo.timeline import Timeline
from shipway.client.synchronous import Client
from shipway.wire.specs import spec_of

ENDPOINT = "screening"
MONITOR = "drift"
_LOGGED_S = 20.0
_TOLD_S = 30.0
_POLL_S = 0.1

SPEC = {
    "name": ENDPOINT,
    "capture": {},
    "monitors": [{"kind": MONITOR, "window": "1h", "severity": "critical"}],
    "alerts": {"actions": [{"when": MONITOR, "do": "rollback", "mode": "do"}]},
}
"""All that somebody declares: keep predictions, watch their inputs, and go back when they drift."""


def fail_silently(timeline: Timeline, client: Client, key: str, shift: Shift) -> None:
    """Serves, lets the unit of one input change, and waits for what follows."""
    for number in (1, 2):
        client.apply(spec_of({**SPEC, "model": f"tumours:{number}"}))
    with Receiver() as receiver, httpx.Client(base_url=client.gateway_url) as http:
        http.headers["authorization"] = f"Bearer {key}"
        client.add_channel("demo", url=receiver.url, is_default=True)
        statuses = _asked(http, shift.usual)
        _wait_until_logged(client, len(shift.usual))
        before = client.run_monitor(ENDPOINT, MONITOR)
        timeline.event(f"{ENDPOINT} watched", f"{len(shift.usual)} requests: {before.summary}")
        since = monotonic()
        statuses += _asked(http, shift.shifted)
        _wait_until_logged(client, len(shift.usual) + len(shift.shifted))
        after = client.run_monitor(ENDPOINT, MONITOR)
        typer.echo(f"         {after.summary}")
        told = receiver.wait_for(
            lambda item: item["endpoint"] == ENDPOINT and item["rule"] == MONITOR,
            timeout_s=_TOLD_S,
        )
        is_back = _is_back(client)
        timeline.event(
            f"{shift.column} came in another unit",
            f"found, told and undone in {monotonic() - since:.1f} s",
        )
    words = "" if told is None else f"{told['summary']} {told['subject']}"
    timeline.claim(
        "no alarm while nothing had changed", before.summary, met=_is_steady(before.verdict)
    )
    timeline.claim(
        f"a silent failure is found, and {shift.column} named in a webhook's message",
        words or "nobody was told",
        met=shift.column in words,
    )
    timeline.claim(
        "the version before is back, and every answer was a 200",
        f"{client.endpoint(ENDPOINT).active}, {dict(statuses)}",
        met=is_back and set(statuses) == {httpx.codes.OK},
    )


def _asked(http: httpx.Client, bodies: list[str]) -> Counter[int]:
    path = f"/v2/models/{ENDPOINT}/infer"
    json = {"content-type": "application/json"}
    return Counter(http.post(path, content=body, headers=json).status_code for body in bodies)


def _wait_until_logged(client: Client, rows: int) -> None:
    deadline = monotonic() + _LOGGED_S
    while monotonic() < deadline:
        if sum(one.rows for one in client.prediction_stats(ENDPOINT)) >= rows:
            return
        sleep(_POLL_S)


def _is_back(client: Client) -> bool:
    deadline = monotonic() + _TOLD_S
    while monotonic() < deadline:
        if client.endpoint(ENDPOINT).active == "tumours:1":
            return True
        sleep(_POLL_S)
    return False


def _is_steady(verdict: object) -> bool:
    return str(verdict) == "steady"
