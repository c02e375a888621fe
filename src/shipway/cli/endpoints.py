"""Endpoints as people read them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import typer

from shipway.cli.output import age_of, show_table
from shipway.client.answers import Endpoint, RolloutLine, Status, Variant
from shipway.client.synchronous import Client
from shipway.core.endpoints import Phase
from shipway.core.errors import Forbidden, NotFound
from shipway.core.isolation import in_words

_LONGEST_EXAMPLE = 2000
_NO_ENDPOINT = "There is no endpoint. Make one with `shipway deploy MODEL:VERSION`."


def show_endpoints(endpoints: Sequence[Endpoint]) -> None:
    """One line per endpoint."""
    rows = [
        (
            endpoint.name,
            endpoint.environment,
            endpoint.phase.value,
            _replicas_of(endpoint),
            endpoint.active,
            endpoint.target,
            endpoint.previous,
            endpoint.url,
        )
        for endpoint in endpoints
    ]
    columns = ["endpoint", "environment", "phase", "replicas", "serves", "target", "previous"]
    show_table([*columns, "url"], rows, empty=_NO_ENDPOINT)
    for endpoint in endpoints:
        if endpoint.rollout is not None:
            typer.echo(rollout_hint(endpoint.name, endpoint.rollout))


def rollout_hint(endpoint: str, rollout: RolloutLine) -> str:
    """A rollout under way in a line, and how to follow it."""
    place = f"{rollout.phase.value} at `{rollout.step}` ({rollout.weight_pct} %)"
    return f"{endpoint}: rollout of {rollout.candidate}, {place}: shipway rollout watch {endpoint}"


def _replicas_of(endpoint: Endpoint) -> str:
    """How many serve, and within which bounds: `2 of 1..4`, `asleep (0..4)`, `inline`."""
    active = next((v for v in endpoint.variants if v.version == endpoint.active), None)
    if active is None:
        return "-"
    if active.placement == "inline":
        return "inline"
    scaling = endpoint.spec.scaling if endpoint.spec is not None else None
    bounds = f"{scaling.min_replicas}..{scaling.max_replicas}" if scaling else ""
    if active.asleep:
        return f"asleep ({bounds})" if bounds else "asleep"
    ready = sum(replica.state == "ready" for replica in active.replicas)
    return f"{ready} of {bounds or active.wanted}"


def show_endpoint(endpoint: Endpoint, client: Client) -> None:
    """One endpoint with its variants and replicas."""
    show_endpoints([endpoint])
    if endpoint.message and endpoint.phase is not Phase.RELEASING:
        typer.echo(f"\n{endpoint.message}")
    typer.echo("")
    show_variants([endpoint])
    _show_missing([endpoint])
    if endpoint.url:
        typer.echo(f"\nTry it: {curl_of(endpoint, client)}")


def show_variants(endpoints: Sequence[Endpoint]) -> None:
    """One line per replica, and one per variant that runs inside the gateways."""
    rows: list[tuple[object, ...]] = []
    for endpoint in endpoints:
        for variant in endpoint.variants:
            shared = (endpoint.name, variant.version, variant.role, f"{variant.weight_pct} %")
            for replica in variant.replicas:
                place = (replica.id, replica.state, replica.pid, replica.restarts)
                rows.append((*shared, *place, age_of(replica.started_at), replica.message))
            if not variant.replicas:
                rows.append((*shared, variant.placement, _state_of(variant), None, None, "-", ""))
    columns = ["endpoint", "version", "role", "#traffic", "replica", "state", "#pid", "#restarts"]
    show_table([*columns, "#age", "message"], rows, empty="Nothing runs.")


def _show_missing(endpoints: Sequence[Endpoint]) -> None:
    """What this machine does not keep replicas from; nothing where all of it is enforced."""
    for endpoint in endpoints:
        for words in sorted({in_words(replica.isolation) for replica in endpoint.replicas} - {""}):
            typer.echo(f"\nReplicas of {endpoint.name} are isolated in part: {words}.")


def _state_of(variant: Variant) -> str:
    if variant.asleep:
        return "asleep"
    return "ready" if variant.ready else "not ready"


def show_status(status: Status, client: Client) -> None:
    """The server, its gateways, and what runs."""
    typer.echo(f"Shipway {status.version}, control at {status.control_url}")
    for gateway in status.gateways:
        grpc = f", gRPC at {gateway.grpc_address}" if gateway.grpc_address else ""
        heard = age_of(gateway.seen_at)
        typer.echo(f"Gateway {gateway.id} at {gateway.address}{grpc}, heard {heard} ago")
    if status.memory.budget_mb is not None:
        typer.echo(f"Replicas hold {status.memory.used_mb:.0f} of {status.memory.budget_mb:.0f} MB")
    typer.echo("")
    show_endpoints(status.endpoints)
    for endpoint in status.endpoints:
        if endpoint.message and endpoint.phase is not Phase.RELEASING:
            typer.echo(f"{endpoint.name}: {endpoint.message}")
    if status.endpoints:
        typer.echo("")
        show_variants(status.endpoints)
        _show_missing(status.endpoints)
    first = next((endpoint for endpoint in status.endpoints if endpoint.url), None)
    if first is not None:
        typer.echo(f"\nTry it: {curl_of(first, client)}")


def curl_of(endpoint: Endpoint, client: Client) -> str:
    """A command line that asks an endpoint: for a prediction, or for what it takes."""
    body, proof = _example(endpoint, client), client.proof_in_shell
    curl = f'curl -s -H "{proof}"' if proof else "curl -s"
    if body is None or len(body) > _LONGEST_EXAMPLE:
        return f"{curl} {endpoint.url.removesuffix('/infer')}"
    return f"{curl} {endpoint.url} -d '{body}'"


def _example(endpoint: Endpoint, client: Client) -> str | None:
    """The first row of the sample, as a request."""
    try:
        raw = client.example(endpoint.active) if endpoint.active else None
    except (NotFound, Forbidden):
        return None
    if raw is None:
        return None
    request = msgspec.json.decode(raw)
    for tensor in request["inputs"]:
        rows, *inner = tensor["shape"]
        tensor["data"] = tensor["data"][: len(tensor["data"]) // max(1, rows)]
        tensor["shape"] = [1, *inner]
    text = msgspec.json.encode(request).decode()
    return None if "'" in text else text
