"""Waiting until the server answers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from shipway.core.errors import CertificateUnusable
from shipway.supervisor.records import Running
from shipway.tls.contexts import pinned_context
from shipway.tls.files import TlsFiles

POLL_S = 0.05
_TIMEOUT_S = 2.0


class _Gateway(msgspec.Struct):
    revision: str = ""


class _Status(msgspec.Struct):
    gateways: list[_Gateway] = []


async def until_ready(server: Running, *, gateways: int, key: str) -> None:
    """Returns once control answers and that many gateways hold its config."""
    while not await _is_ready(server, gateways, key):  # noqa: ASYNC110 - another process is asked
        await asyncio.sleep(POLL_S)


async def _is_ready(server: Running, gateways: int, key: str) -> bool:
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            body = await _get(server, "/api/v1/status", key)
        status = msgspec.json.decode(body, type=_Status)
    except (OSError, TimeoutError, msgspec.MsgspecError, CertificateUnusable):
        return False
    return sum(bool(gateway.revision) for gateway in status.gateways) >= gateways


async def _get(server: Running, path: str, key: str) -> bytes:
    """The body of one answer. HTTP/1.0, so that it is neither chunked nor kept open."""
    host, _, port = server.control_url.partition("://")[2].rpartition(":")
    tls = pinned_context(Path(server.tls_cert), TlsFiles()) if server.tls_cert else None
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port), ssl=tls)
    try:
        proof = f"Authorization: Bearer {key}\r\n" if key else ""
        writer.write(f"GET {path} HTTP/1.0\r\nHost: {host}\r\n{proof}\r\n".encode())
        await writer.drain()
        answer = await reader.read()
    finally:
        writer.close()
    return answer.partition(b"\r\n\r\n")[2]
