"""One load on one server: `wrk` for REST, `h2load` for gRPC. Both run on one thread."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

HERE = Path(__file__).resolve().parent
TOOLS = {"wrk": "wrk", "h2load": "nghttp2-client", "nghttp": "nghttp2-client"}
STREAMS = 8
"""gRPC calls in flight on one connection, as one client channel has."""

INFER = "/inference.GRPCInferenceService/ModelInfer"
_GRPC_HEADERS = ("-Hcontent-type: application/grpc", "-Hte: trailers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a load generator saw. `failures` are among `requests`."""

    rps: float
    p50_ms: float
    p99_ms: float
    requests: int
    failures: int


class LoadFailed(Exception):
    """The generator saw no answer at all."""


def missing_tools() -> list[str]:
    """Debian packages of the load generators that are not on the PATH."""
    return sorted({package for tool, package in TOOLS.items() if shutil.which(tool) is None})


def post(url: str, body: bytes, *, proof: str = "", timeout_s: float = 20.0) -> tuple[int, bytes]:
    """Status and body of one request on a connection of its own."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    try:
        headers = {"Content-Type": "application/json"}
        headers |= {"Authorization": proof} if proof else {}
        connection.request("POST", parts.path, body, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def call(port: int, body: Path, *, proof: str = "") -> bytes:
    """The framed answer to one gRPC call; empty when there is none."""
    command = ["nghttp", "--timeout=20", *_GRPC_HEADERS, *_proof(proof), "-d", str(body)]
    done = subprocess.run(
        [*command, f"http://127.0.0.1:{port}{INFER}"], capture_output=True, check=False
    )
    return done.stdout


def _proof(proof: str) -> tuple[str, ...]:
    return (f"-Hauthorization: {proof}",) if proof else ()


def rest(url: str, body: Path, *, connections: int, seconds: int, proof: str = "") -> Figures:
    """Closed loop over REST: each connection sends when it has its answer.

    Raises:
        LoadFailed: no answer came.
    """
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s"]
    done = subprocess.run(
        [*command, "-s", str(HERE / "wrk.lua"), url],
        env={**os.environ, "BENCH_BODY": str(body), "BENCH_PROOF": proof}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    line = next((line for line in done.stdout.splitlines() if line.startswith("JSON ")), None)
    figures = Figures(**json.loads(line[5:])) if line else None
    if figures is None or not figures.requests:
        raise LoadFailed(f"wrk on {url}: {done.stdout}{done.stderr}"[:400])
    return figures


def grpc(port: int, body: Path, *, in_flight: int, seconds: int, proof: str = "") -> Figures:
    """Closed loop over gRPC, `STREAMS` calls on each connection.

    A failed call has HTTP status 200 and no message, so failures are told by the bytes: every
    right answer is as long as the one that was checked.

    Raises:
        LoadFailed: no answer came.
    """
    answer_bytes = len(call(port, body, proof=proof))
    log = body.with_suffix(".h2load")
    log.unlink(missing_ok=True)
    command = ["h2load", "-t1", f"-c{max(1, in_flight // STREAMS)}", f"-m{min(in_flight, STREAMS)}"]
    command += [f"-D{seconds}", f"--log-file={log}", "-d", str(body)]
    done = subprocess.run(
        [*command, *_GRPC_HEADERS, *_proof(proof), f"http://127.0.0.1:{port}{INFER}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    rows = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    data = re.search(r"\((\d+)\) data", done.stdout)
    if not rows or data is None:
        raise LoadFailed(f"h2load on port {port}: {done.stdout}{done.stderr}"[:400])
    took_ms = np.array([int(row[2]) for row in rows]) / 1e3
    short = len(rows) - round(int(data.group(1)) / answer_bytes) if answer_bytes else len(rows)
    refused = sum(row[1] != "200" for row in rows)
    return Figures(
        rps=len(rows) / seconds,
        p50_ms=float(np.percentile(took_ms, 50)),
        p99_ms=float(np.percentile(took_ms, 99)),
        requests=len(rows),
        failures=max(refused, short if short > in_flight else 0),
    )
