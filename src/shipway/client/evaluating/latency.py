"""How fast a version answers one row, asked by several callers at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from itertools import cycle, islice
from ssl import SSLContext, create_default_context
from threading import Barrier, Thread
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from shipway.client.exchange import Call
from shipway.core.errors import ReplicaLost
from shipway.core.evaluations import LatencyProfile

WARM_UP_S = 1.0
MEASURED_S = 5.0
_TIMEOUT_S = 60.0


def latency_profile(
    gateway_url: str,
    requests: Sequence[Call[Any]],
    *,
    tls: Callable[[], SSLContext] = create_default_context,
    callers: int,
    measured_s: float = MEASURED_S,
    on_progress: Callable[[str, int, int], None] = lambda step, done, total: None,
) -> LatencyProfile:
    """The latencies of callers that each ask again when answered, the first second left out.

    Blocks for some seconds. The callers are threads of this process, so that what they wait for each
    other counts too.

    Raises:
        ReplicaLost: a request was not answered with 200.
    """
    on_progress("load", 0, 0)
    barrier = Barrier(callers)
    callers_made = [
        _Caller(connection, requests, offset=index, barrier=barrier, measured_s=measured_s)
        for index, connection in enumerate(_connections(gateway_url, callers, tls))
    ]
    for caller in callers_made:
        caller.start()
    for caller in callers_made:
        caller.join()
    faults = [caller.fault for caller in callers_made if caller.fault]
    if faults:
        raise ReplicaLost(
            f"Under the load of {callers} callers a request failed: {faults[0]}.",
            next_step="Use fewer callers.",
        )
    latencies_ms = np.concatenate([caller.latencies_ms for caller in callers_made])
    if not latencies_ms.size:
        raise ReplicaLost(
            f"Under the load of {callers} callers no request was answered in {measured_s:g} s.",
            next_step="Use fewer callers.",
        )
    p50, p95, p99 = (float(value) for value in np.quantile(latencies_ms, [0.5, 0.95, 0.99]))
    return LatencyProfile(
        callers=callers,
        requests=int(latencies_ms.size),
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        per_s=latencies_ms.size / measured_s,
    )


def _connections(
    gateway_url: str, number: int, tls: Callable[[], SSLContext]
) -> list[HTTPConnection]:
    place = urlsplit(gateway_url)
    host, port = place.hostname or "", place.port
    if place.scheme != "https":
        return [HTTPConnection(host, port, timeout=_TIMEOUT_S) for _ in range(number)]
    context = tls()
    return [HTTPSConnection(host, port, timeout=_TIMEOUT_S, context=context) for _ in range(number)]


class _Caller(Thread):
    """One caller, on a connection of its own. `fault` says why it ended early."""

    def __init__(
        self,
        connection: HTTPConnection,
        requests: Sequence[Call[Any]],
        *,
        offset: int,
        barrier: Barrier,
        measured_s: float,
    ) -> None:
        super().__init__(daemon=True)
        self.latencies_ms: list[float] = []
        self.fault = ""
        self._requests = islice(cycle(requests), offset, None)
        self._barrier = barrier
        self._measured_s = measured_s
        self._connection = connection

    def run(self) -> None:
        """Called by the thread."""
        try:
            self._barrier.wait()
            self._ask()
        except (OSError, HTTPException) as exc:
            self.fault = str(exc) or type(exc).__name__
        finally:
            self._connection.close()

    def _ask(self) -> None:
        begun = perf_counter()
        measured_from, end = begun + WARM_UP_S, begun + WARM_UP_S + self._measured_s
        for request in self._requests:
            sent = perf_counter()
            if sent >= end:
                return
            self._connection.request(
                request.method, request.path, body=_bytes_of(request), headers=dict(request.headers)
            )
            answer = self._connection.getresponse()
            body = answer.read()
            if answer.status != 200:
                self.fault = f"{answer.status} {body[:200].decode(errors='replace')}"
                return
            answered = perf_counter()
            if measured_from <= answered <= end:
                self.latencies_ms.append((answered - sent) * 1000)


def _bytes_of(request: Call[Any]) -> bytes:
    assert isinstance(request.body, bytes)
    return request.body
