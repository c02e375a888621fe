"""Starts a gateway process."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec
import uvloop

from shipway.core.errors import ShipwayError
from shipway.core.failures import LastWord
from shipway.core.sampling import Sampler
from shipway.core.telemetry import Column
from shipway.engines.logs import log_to_stderr
from shipway.gateway.app import Gateway
from shipway.gateway.counters import LOOK_EVERY_S, Counters, Row
from shipway.gateway.doorkeeper import Doorkeeper
from shipway.gateway.feedback import FeedbackDoor
from shipway.gateway.follow import LAST_GOOD, Follower
from shipway.gateway.fronts import Dialect, Front
from shipway.gateway.grpc.server import serve as serve_grpc
from shipway.gateway.grpc.service import Services
from shipway.gateway.http import serve
from shipway.gateway.keys import redaction_key
from shipway.gateway.ledger import Ledger, MachineLedger
from shipway.gateway.pulse import Pulse
from shipway.gateway.routes import RouteTable
from shipway.gateway.serving import Serving
from shipway.gateway.spool import Spool
from shipway.gateway.stages import GATEWAY, Stages
from shipway.gateway.telemetry import Telemetry
from shipway.gateway.tls import GatewayTls
from shipway.gateway.traces import Trace
from shipway.gateway.tracing import TracedServing
from shipway.gateway.uploads import Uploads
from shipway.gateway.valkey import ValkeyStore
from shipway.gateway.valkey_ledger import ValkeyLedger
from shipway.otlp.options import chosen_sampler, options_of
from shipway.otlp.sending import Sending
from shipway.tls.files import add_arguments, files_in
from shipway.wire.kept import kept_snapshot

EXIT_FAILED = 3
"""The gateway could not start; the reason is one JSON line on stderr."""

EXIT_PORT_TAKEN = 5
DEFAULT_GRPC_PORT = 8081
LOAD_LIMIT_S = 20.0
"""A gateway that starts from its last good snapshot waits so long for models before it listens."""

DRAIN_S = 10
"""A stopping gateway answers what it has accepted for so long."""


class Options(argparse.Namespace):
    """The command line of a gateway process."""

    state_dir: Path
    control_url: str
    environment: str
    host: str
    port: int
    grpc_port: int | None
    id: str
    dialect: str | None
    endpoint: str
    predict_path: str
    health_paths: list[str]
    control_cert: Path | None
    platform_checks_callers: bool
    api_key: str

    @property
    def may_open(self) -> bool:
        """Whether everybody may be let in where control has access control off."""
        is_wanted = os.environ.get("SHIPWAY_ANYONE_ON_THE_NETWORK", "").lower() in ("1", "true")
        return is_wanted or self.host.startswith("127.") or self.host in ("::1", "localhost")

    def credential(self) -> str:
        """The key for control: `SHIPWAY_API_KEY`, else the one in the state directory, which may come."""
        if self.api_key:
            return self.api_key
        with suppress(OSError):
            return (self.state_dir / "keys" / "gateway.key").read_text().strip()
        return ""

    @property
    def front(self) -> Front | None:
        """The single-model dialect to answer beside the ordinary routes; None for none."""
        if self.dialect is None:
            return None
        return Front(
            dialect=Dialect(self.dialect),
            endpoint=self.endpoint,
            predict_path=self.predict_path,
            health_paths=tuple(self.health_paths),
            is_trusted=self.platform_checks_callers,
        )


def main(  # noqa: PLR0915 - the steps of a start
    arguments: Sequence[str] | None = None,
    *,
    cache_url: str | None = None,
    limits_url: str | None = None,
    api_key: str | None = None,
) -> int:
    """Runs one gateway until SIGTERM; gives the exit code.

    `cache_url` is of the Valkey that keeps the answers of endpoints with a cache, `SHIPWAY_CACHE_URL`
    when None; `limits_url` is of the one that counts what is used of limits, `api_key` what the gateway
    presents to control. They are no options: everybody on the machine can read a command line.
    """
    parser = argparse.ArgumentParser(prog="shipway gateway", description=__doc__)
    parser.add_argument(
        "--state-dir", type=Path, required=True, help="where the last good config is"
    )
    parser.add_argument("--control-url", required=True, help="where control listens")
    parser.add_argument(
        "--environment", default="dev", help="which environment's endpoints to serve"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to bind")
    parser.add_argument("--port", type=int, default=8080, help="port to bind; 0 takes a free one")
    parser.add_argument(
        "--grpc-port",
        type=int,
        help=f"port to bind for gRPC, {DEFAULT_GRPC_PORT} by default; a free one for 0 or with --port 0",
    )
    parser.add_argument("--id", default=f"gateway-{os.getpid()}", help="name of this gateway")
    add_arguments(parser)
    parser.add_argument(
        "--control-cert", type=Path, help="the certificate that this machine's own control shows"
    )
    _add_front(parser)
    options = parser.parse_args(arguments, namespace=Options())
    log_to_stderr()
    options.api_key = api_key or os.environ.get("SHIPWAY_API_KEY", "")
    grpc_port = options.grpc_port
    if grpc_port is None:
        grpc_port = DEFAULT_GRPC_PORT if options.port else 0
    try:
        tls = GatewayTls(files_in(options), control_cert=options.control_cert)
    except ShipwayError as exc:
        return _failed(exc)
    listening: list[socket.socket] = []
    for port, flag in ((options.port, "--port"), (grpc_port, "--grpc-port")):
        # A platform's port is not shared: half of its requests would reach a gateway without the front.
        shared = options.dialect is None or flag == "--grpc-port"
        try:
            listening.append(bound(options.host, port, shared=shared))
        except OSError as exc:
            failure = {
                "error": "port_taken",
                "message": f"The gateway cannot listen on {options.host}:{port}: {exc.strerror}.",
                "next_step": f"Stop the other program, or choose another port with `{flag}`.",
            }
            sys.stderr.write(json.dumps(failure) + "\n")
            return EXIT_PORT_TAKEN
    if cache_url is None:
        cache_url = os.environ.get("SHIPWAY_CACHE_URL", "")
    if limits_url is None:
        limits_url = os.environ.get("SHIPWAY_LIMITS_URL", "")
    try:
        uvloop.run(_serve(options, tls, *listening, cache_url=cache_url, limits_url=limits_url))
    except ShipwayError as exc:
        return _failed(exc)
    return 0


def _failed(error: ShipwayError) -> int:
    """Says why the gateway does not start; gives the exit code."""
    sys.stderr.write(msgspec.json.encode(LastWord.of(error)).decode() + "\n")
    return EXIT_FAILED


def _add_front(parser: argparse.ArgumentParser) -> None:
    """What `shipway gateway --as` passes on: see `gateway.fronts`."""
    parser.add_argument("--as", dest="dialect", choices=[*Dialect], help="a single-model dialect")
    parser.add_argument("--endpoint", default="", help="the endpoint that it answers for")
    parser.add_argument("--predict-path", default="", help="where its predictions are")
    parser.add_argument(
        "--platform-checks-callers",
        action="store_true",
        help="ask no key where predictions of the dialect are: what is in front has checked the caller",
    )
    parser.add_argument("--health-paths", nargs="*", default=[], help="where its health is")


def bound(host: str, port: int, *, shared: bool = True) -> socket.socket:
    """A socket bound to the address, which several gateways may share (SO_REUSEPORT).

    Raises:
        OSError: the address is taken by somebody else, or is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.bind((host, port))
    except OSError:
        listening.close()
        raise
    return listening


async def _serve(
    options: Options,
    tls: GatewayTls,
    listening: socket.socket,
    grpc: socket.socket,
    *,
    cache_url: str,
    limits_url: str,
) -> None:
    sampler = chosen_sampler(os.environ)
    changed = asyncio.Event()
    store = ValkeyStore(cache_url) if cache_url else None
    ledger = await _ledger(options, limits_url)
    spool = Spool(options.state_dir / "spool", gateway=options.id, environment=options.environment)
    table = _table(options, changed, store=store, ledger=ledger, spool=spool)
    sending = _sending(options.id, table.lost)
    await _prepared(table, options.state_dir)
    address, grpc_address = f"{tls.scheme}://{_address(listening)}", _address(grpc)
    follower = _follower(options, table, tls, changed, addresses=(address, grpc_address))
    record = options.state_dir / "run" / f"{options.id}.json"
    _write_record(record, address, grpc_address)
    stopping = _stopping()
    _freeze()
    uploads = Uploads(spool.directory, follower.deliver)
    following = asyncio.ensure_future(_in_step(follower, table, tls, uploads))
    # A gateway that hears nothing of control looks well and grows stale: it ends, and is started again.
    following.add_done_callback(lambda _: stopping.set())
    try:
        gateway, services = _doors(options, table, _serving(table, sending, sampler))
        await _serve_doors((gateway, listening), (services, grpc), stopping, tls)
        await spool.close()
        await uploads.send_last()
    finally:
        following.cancel()
        table.close()
        await _let_go(store, ledger, sending)
        record.unlink(missing_ok=True)


async def _let_go(store: ValkeyStore | None, ledger: Ledger, sending: Sending[Trace]) -> None:
    if store is not None:
        await store.close()
    await ledger.close()
    await asyncio.to_thread(sending.close)


def _follower(
    options: Options,
    table: RouteTable,
    tls: GatewayTls,
    changed: asyncio.Event,
    *,
    addresses: tuple[str, str],
) -> Follower:
    """What keeps the table in step with control; `addresses` are those of HTTP and of gRPC."""
    return Follower(
        table,
        gateway=options.id,
        address=addresses[0],
        grpc_address=addresses[1],
        environment=options.environment,
        control_url=options.control_url,
        tls=tls.calling,
        state_dir=options.state_dir,
        credential=options.credential,
        changed=changed,
        telemetry=Telemetry(table.counters, _counters_dir(options), options.id),
    )


def _counters_dir(options: Options) -> Path:
    return options.state_dir / "run" / "counters"


def _doors(options: Options, table: RouteTable, serving: Serving) -> tuple[Gateway, Services]:
    """What answers over HTTP and over gRPC."""
    feedback = FeedbackDoor(table, table.spool, environment=options.environment)
    gateway = Gateway(table, serving, options.front, feedback=feedback)
    return gateway, Services(table, serving)


def _table(
    options: Options,
    changed: asyncio.Event,
    *,
    store: ValkeyStore | None,
    ledger: Ledger,
    spool: Spool,
) -> RouteTable:
    return RouteTable(
        changed.set,
        shared_cache=store,
        pulse=Pulse.started(),
        counters=Counters(_counters_dir(options), options.id),
        ledger=ledger,
        door=Doorkeeper(may_open=options.may_open),
        redaction_key=partial(redaction_key, options.state_dir),
        spool=spool,
    )


def _freeze() -> None:
    """What start-up made stays; walking it again would cost every few hundred requests."""
    gc.collect()
    gc.freeze()


def _sending(gateway: str, row: Row) -> Sending[Trace]:
    """What tells a collector of traces and logs; what it does not take is counted in the row."""

    def count(dropped: int) -> None:
        row.values[Column.UNSENT] = float(dropped)

    stages = Stages(instance=gateway, service=options_of(os.environ).service)
    return Sending(
        os.environ, service=GATEWAY, instance=gateway, spans_of=stages.spans_of, on_drop=count
    )


def _serving(table: RouteTable, sending: Sending[Trace], sampler: Sampler) -> Serving:
    """The serving that notes what is told, or the plain one where nothing is."""
    logs_access = os.environ.get("SHIPWAY_ACCESS_LOG", "").lower() in ("1", "true", "yes", "on")
    if sending.keep is None and not logs_access:
        return Serving(table)
    return TracedServing(table, sampler=sampler, keep=sending.keep, logs_access=logs_access)


async def _ledger(options: Options, limits_url: str) -> Ledger:
    """What counts the use of limits, connected where it shares its counts."""
    own = MachineLedger(options.state_dir / "run" / "limits")
    if not limits_url:
        return own
    shared = ValkeyLedger(limits_url, own, environment=options.environment)
    await shared.start()
    return shared


def _stopping() -> asyncio.Event:
    """Set by the signals that end a gateway."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    return stopping


async def _serve_doors(
    http: tuple[Gateway, socket.socket],
    grpc: tuple[Services, socket.socket],
    stopping: asyncio.Event,
    tls: GatewayTls,
) -> None:
    async with asyncio.TaskGroup() as doors:
        doors.create_task(serve(*http, stopping, drain_s=DRAIN_S, tls=tls.http))
        doors.create_task(serve_grpc(*grpc, stopping, drain_s=DRAIN_S, tls=tls.grpc))


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"{f'[{host}]' if ':' in host else host}:{port}"


async def _prepared(table: RouteTable, state_dir: Path) -> None:
    """Serves what was served last, and returns when that is loaded and other gateways know of it."""
    kept = kept_snapshot(state_dir / LAST_GOOD)
    if kept is not None:
        table.apply(kept)
    if table.counters.gateways > 1:
        await asyncio.sleep(2 * LOOK_EVERY_S)
    with suppress(TimeoutError):
        await asyncio.wait_for(table.loaded(), LOAD_LIMIT_S)


async def _in_step(
    follower: Follower, table: RouteTable, tls: GatewayTls, uploads: Uploads
) -> None:
    """Follows control, the other gateways of this machine and its own certificates, until cancelled."""
    async with asyncio.TaskGroup() as group:
        group.create_task(follower.run())
        group.create_task(table.counters.watch(table.see_others))
        group.create_task(table.ledger.keep())
        group.create_task(tls.watch())
        group.create_task(uploads.run())


def _write_record(record: Path, address: str, grpc_address: str) -> None:
    record.parent.mkdir(parents=True, exist_ok=True)
    temporary = record.with_suffix(".tmp")
    temporary.write_text(json.dumps({"pid": os.getpid(), "url": address, "grpc": grpc_address}))
    temporary.replace(record)
