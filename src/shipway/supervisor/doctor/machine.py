"""What the machine offers: ports, room on its disks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from shipway.core.errors import PortTaken
from shipway.core.health import (
    Diagnosis,
    Holder,
    PortFacts,
    disk_diagnosis,
    port_diagnosis,
)
from shipway.settings import Settings
from shipway.store.disks import disk_facts
from shipway.supervisor.ports import Place, bound
from shipway.supervisor.records import Running


def port_diagnoses(settings: Settings, server: Running | None) -> Iterator[Diagnosis]:
    """Whether the ports of the settings are free, or this server's."""
    ours = _ports_of(server) if server is not None else set()
    wanted = (
        ("gateway", settings.gateway_port, "--port"),
        ("gRPC", settings.chosen_grpc_port, "--grpc-port"),
        ("control", settings.control_port, "--control-port"),
    )
    for name, port, flag in wanted:
        if port:
            place = Place(host=settings.host, port=port, flag=flag)
            holder = Holder.OURS if port in ours else _holder_of(place)
            if server is None or holder is Holder.OURS:
                yield port_diagnosis(PortFacts(name=name, port=port, flag=flag, holder=holder))


def _ports_of(server: Running) -> set[int]:
    addresses = (server.control_url, server.gateway_url, server.grpc_address)
    return {int(address.rpartition(":")[2]) for address in addresses if address}


def _holder_of(place: Place) -> Holder:
    try:
        bound(place, shared=False).close()
    except PortTaken:
        return Holder.ANOTHER
    return Holder.NOBODY


def disk_diagnoses(settings: Settings, artifacts: Path | None) -> Iterator[Diagnosis]:
    """Whether there is room where state and artifacts are; one line for each disk."""
    seen = set()
    places = (("The state directory", settings.state_dir), ("The artifact store", artifacts))
    for purpose, path in places:
        if path is None:
            continue
        there = _nearest(path.absolute())
        if there.stat().st_dev not in seen:
            seen.add(there.stat().st_dev)
            yield disk_diagnosis(disk_facts(purpose, there))


def _nearest(path: Path) -> Path:
    """The path, or the nearest directory above it that is there."""
    return next(part for part in (path, *path.parents) if part.exists())
