"""Config comes down, reports go up: how a gateway stays in step with control, or does without it."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import ssl
from collections.abc import Callable
from pathlib import Path

import httpx
import msgspec

from shipway.engines.incidents import log_unexpected
from shipway.engines.logs import say
from shipway.gateway.routes import RouteTable
from shipway.gateway.telemetry import TELL_EVERY_S, Telemetry
from shipway.gateway.uploads import Delivery
from shipway.tls.latest import LOOK_EVERY_S, Latest
from shipway.wire.kept import keep_snapshot
from shipway.wire.snapshot import GatewayReport, Snapshot
from shipway.wire.tallies import Taken

POLL_S = 20.0
REPORT_EVERY_S = 1.0
REPORT_TRIALS_EVERY_S = 0.5
"""While a rollout is under way: what decides it should not be old."""

DELIVER_S = 60.0
UNREADABLE = (400, 413, 422)
"""Answers to a segment that would be the same to a second attempt."""

AWAY = (502, 503, 504)
"""Answers of what stands in front of control, or of one that takes nothing now; others from 500 on are faults."""

RETRY_MIN_S = 0.05
RETRY_MAX_S = 0.25
LAST_GOOD = "snapshot.json"

_decoder = msgspec.msgpack.Decoder(Snapshot)


class Follower:
    """Keeps a route table in step with control."""

    def __init__(  # noqa: PLR0913 - a gateway's place in the world
        self,
        table: RouteTable,
        *,
        gateway: str,
        address: str,
        grpc_address: str = "",
        environment: str,
        control_url: str,
        tls: Latest[ssl.SSLContext] | None = None,
        state_dir: Path,
        credential: Callable[[], str],
        changed: asyncio.Event,
        telemetry: Telemetry,
    ) -> None:
        """`credential` gives the key to present to control, as it is now."""
        self._telemetry = telemetry
        self._table = table
        self._gateway = gateway
        self._instance = secrets.token_hex(8)
        self._address = address
        self._grpc_address = grpc_address
        self._environment = environment
        self._state_dir = state_dir
        self._changed = changed
        self._credential = credential
        self._control_url = control_url
        self._tls = tls
        self._http = self._connected()
        self._is_held_up = False
        self._told_statuses: set[int] = set()

    async def run(self) -> None:
        """Follows and reports until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow())
                group.create_task(self._report())
                group.create_task(self._tell())
                group.create_task(self._renew())
        finally:
            self._telemetry.close()
            await self._http.aclose()

    async def _follow(self) -> None:
        pause_s = RETRY_MIN_S
        while True:
            try:
                snapshot = await self._next_snapshot()
                if snapshot is not None and snapshot.revision != self._table.revision:
                    self._table.apply(snapshot)
                    await asyncio.to_thread(keep_snapshot, self._state_dir / LAST_GOOD, snapshot)
            except (httpx.HTTPError, msgspec.MsgspecError):
                pass
            except Exception as exc:  # noqa: BLE001 - the loop's outermost frame
                # What serves now serves on: a snapshot that cannot be applied must not end that.
                log_unexpected(exc)
            else:
                pause_s = RETRY_MIN_S
                continue
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, RETRY_MAX_S)

    def _connected(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self._control_url,
            timeout=5.0,
            trust_env=False,
            verify=True if self._tls is None else self._tls.value,
        )

    async def _renew(self) -> None:
        """Goes on with new certificates once there are some; calls under way end with the old."""
        while self._tls is not None:
            await asyncio.sleep(LOOK_EVERY_S)
            if self._tls.look():
                old, self._http = self._http, self._connected()
                try:
                    await asyncio.sleep(POLL_S)
                finally:
                    await old.aclose()

    async def _next_snapshot(self) -> Snapshot | None:
        answer = await self._http.get(
            "/internal/v1/snapshot",
            params={
                "environment": self._environment,
                "revision": self._table.revision,
                "wait_s": str(POLL_S),
            },
            headers=self._proof(),
            timeout=POLL_S + 10,
        )
        if answer.status_code == httpx.codes.NOT_MODIFIED:
            return None
        answer.raise_for_status()
        return _decoder.decode(answer.content)

    def _proof(self) -> dict[str, str]:
        key = self._credential()
        return {"authorization": f"Bearer {key}"} if key else {}

    async def _tell(self) -> None:
        """Tells control what the gateways of this machine have counted, again and again."""
        while True:
            try:
                await self._tell_once()
            except (httpx.HTTPError, msgspec.MsgspecError):
                pass  # the next report says it all
            except Exception as exc:  # noqa: BLE001 - the loop's outermost frame
                log_unexpected(exc)
            await asyncio.sleep(TELL_EVERY_S)

    async def _tell_once(self) -> None:
        report = await asyncio.to_thread(self._telemetry.report)
        if report is None:
            return
        answer = await self._http.post(
            f"/internal/v1/gateways/{self._gateway}/telemetry",
            content=msgspec.msgpack.encode(report),
            headers={"content-type": "application/msgpack", **self._proof()},
        )
        if answer.is_success:
            taken = msgspec.msgpack.decode(answer.content, type=Taken)
            self._telemetry.note_taken(report, taken)
            self._told_statuses.clear()
        elif answer.status_code == httpx.codes.CONFLICT:
            await asyncio.to_thread(self._telemetry.note_refused)
        elif answer.status_code not in self._told_statuses:
            self._told_statuses.add(answer.status_code)
            say(
                f"Control answers {answer.status_code} to this machine's counts. They are told again."
            )

    async def _is_taken(self, report: GatewayReport) -> bool:
        """Sends a report; whether control has taken it in."""
        try:
            answer = await self._http.post(
                f"/internal/v1/gateways/{self._gateway}/report",
                content=msgspec.msgpack.encode(report),
                headers={"content-type": "application/msgpack", **self._proof()},
            )
        except httpx.HTTPError:
            return False
        return answer.is_success

    async def deliver(self, segment: bytes) -> Delivery:
        """Sends a segment of the spool to control. Raises nothing."""
        try:
            answer = await self._http.post(
                "/internal/v1/segments",
                content=segment,
                headers={"content-type": "application/octet-stream", **self._proof()},
                timeout=DELIVER_S,
            )
        except (httpx.HTTPError, RuntimeError) as exc:
            # The latter of a client that was closed meanwhile.
            return self._held_up(type(exc).__name__)
        delivery = _delivery_of(answer)
        if delivery is Delivery.LATER:
            return self._held_up(f"it answers {answer.status_code}")
        self._is_held_up = False
        return delivery

    def _held_up(self, why: str) -> Delivery:
        """Says it of the first of a run of segments."""
        if not self._is_held_up:
            self._is_held_up = True
            say(f"Control takes no segments of the prediction log now: {why}. They wait on disk.")
        return Delivery.LATER

    async def _report(self) -> None:
        while True:
            self._changed.clear()
            self._table.sweep()
            trials = self._table.trials()
            door = self._table.door
            report = GatewayReport(
                gateway=self._gateway,
                revision=self._table.revision,
                variants=self._table.reports(),
                address=self._address,
                grpc_address=self._grpc_address,
                instance=self._instance,
                trials=trials,
                denials=door.denials(),
                used_keys=door.used(),
            )
            if not await self._is_taken(report):
                door.keep(report)
            with contextlib.suppress(TimeoutError):
                # Not `wait_for`: on Python 3.11 it loses a cancellation that meets the change.
                async with asyncio.timeout(REPORT_TRIALS_EVERY_S if trials else REPORT_EVERY_S):
                    await self._changed.wait()


def _delivery_of(answer: httpx.Response) -> Delivery:
    status = answer.status_code
    if answer.is_success:
        return Delivery.TAKEN
    if status in UNREADABLE:
        return Delivery.REFUSED
    return Delivery.FAULT if answer.is_server_error and status not in AWAY else Delivery.LATER
