"""What serving costs: resources at configured prices, and whose they were.

Every process that runs is paid for. A replica's cost is its version's own; what gateways and control
cost is shared, and apportioned by requests. So the parts always sum to the whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from math import fsum

import msgspec

HOUR_S = 3600.0
GB = 1e9
"""Bytes. Prices of clouds count memory in 10**9 or 2**30 bytes; here it is the former."""


class Prices(msgspec.Struct, frozen=True, kw_only=True):
    """What an hour of one core, of 10**9 bytes of memory, and of one GPU costs, in `currency`."""

    cpu_hour: float = 0.033
    memory_gb_hour: float = 0.0045
    gpu_hour: float = 2.5
    currency: str = "USD"


class Resources(msgspec.Struct, frozen=True, kw_only=True):
    """What processes used: seconds of a core, of 10**9 bytes of resident memory, of a GPU."""

    cpu_s: float = 0.0
    memory_gb_s: float = 0.0
    gpu_s: float = 0.0

    def __add__(self, other: Resources) -> Resources:
        return Resources(
            cpu_s=self.cpu_s + other.cpu_s,
            memory_gb_s=self.memory_gb_s + other.memory_gb_s,
            gpu_s=self.gpu_s + other.gpu_s,
        )

    def cost(self, prices: Prices) -> float:
        """What they cost, in the currency of the prices.

        >>> Resources(cpu_s=3600, memory_gb_s=7200).cost(Prices(cpu_hour=0.04, memory_gb_hour=0.005))
        0.05
        """
        used = (
            (self.cpu_s, prices.cpu_hour),
            (self.memory_gb_s, prices.memory_gb_hour),
            (self.gpu_s, prices.gpu_hour),
        )
        return fsum(seconds * price for seconds, price in used) / HOUR_S


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What one version behind an endpoint did in an hour, and what its replicas used.

    `tenants` are its requests by project: the endpoint's; `use_case` is the endpoint's tag.
    """

    endpoint: str
    version: str
    use_case: str = ""
    tenants: Mapping[str, int] = {}
    own: Resources = Resources()

    @property
    def requests(self) -> int:
        """The requests of all tenants."""
        return sum(self.tenants.values())


class Charge(msgspec.Struct, frozen=True, kw_only=True):
    """What one tenant's requests to one version cost in one hour.

    `own` is its part of the replicas' cost, `shared` of what gateways and control cost. The endpoint is
    empty for what nothing was asked of and nothing served: then nobody is to pay for the gateways.
    The tenant is empty for replicas that ran and were asked nothing.
    """

    hour: datetime
    endpoint: str
    version: str
    tenant: str
    use_case: str
    requests: int
    own: float
    shared: float
    currency: str

    @property
    def total(self) -> float:
        """Own and shared cost."""
        return self.own + self.shared


def charged(
    usages: Sequence[Usage], shared: Resources, prices: Prices, *, hour: datetime
) -> tuple[Charge, ...]:
    """The charges of an hour. Their totals sum to the cost of all that was used.

    Shared cost is apportioned by requests; where nothing was asked at all, equally over the versions.
    A version's own cost goes to its tenants by their requests.
    """
    pool = shared.cost(prices)
    asked = sum(one.requests for one in usages)
    charges: list[Charge] = []
    for one in usages:
        part = one.requests / asked if asked else 1 / len(usages)
        charges += _charges_of(one, pool * part, prices, hour)
    if not usages and pool > 0:
        nobody = Usage(endpoint="", version="")
        charges += _charges_of(nobody, pool, prices, hour)
    return tuple(charges)


def _charges_of(usage: Usage, shared: float, prices: Prices, hour: datetime) -> Iterable[Charge]:
    own, requests = usage.own.cost(prices), usage.requests
    tenants = {name: n for name, n in usage.tenants.items() if n} or {"": 0}
    for tenant, count in tenants.items():
        part = count / requests if requests else 1.0
        yield Charge(
            hour=hour,
            endpoint=usage.endpoint,
            version=usage.version,
            tenant=tenant,
            use_case=usage.use_case,
            requests=count,
            own=own * part,
            shared=shared * part,
            currency=prices.currency,
        )


GROUPS = ("endpoint", "version", "tenant", "use_case", "hour", "day")
"""What charges may be summed by."""


class CostRow(msgspec.Struct, frozen=True, kw_only=True):
    """A sum of charges. `per_1000` is the cost of a thousand requests, None where there were none."""

    group: tuple[str, ...]
    requests: int
    own: float
    shared: float
    total: float
    currency: str
    per_1000: float | None


class CostReport(msgspec.Struct, frozen=True, kw_only=True):
    """Costs between two times, summed by `by`. The present hour is in them as far as it has come."""

    since: datetime
    until: datetime
    by: tuple[str, ...]
    rows: tuple[CostRow, ...]
    prices: Prices


def summed(charges: Iterable[Charge], by: Sequence[str]) -> tuple[CostRow, ...]:
    """Sums of charges by some of `GROUPS`, dearest first; times in their own order where one is a group.

    Currencies are never added to each other: each has rows of its own.
    """
    parts: dict[tuple[str, ...], list[Charge]] = {}
    for one in charges:
        parts.setdefault((*(_group(one, name) for name in by), one.currency), []).append(one)
    rows = [_row(group, found) for group, found in parts.items()]
    if "hour" in by or "day" in by:
        return tuple(sorted(rows, key=lambda row: row.group))
    return tuple(sorted(rows, key=lambda row: (-row.total, row.group)))


def _group(charge: Charge, name: str) -> str:
    match name:
        case "hour":
            return charge.hour.strftime("%Y-%m-%dT%H:00Z")
        case "day":
            return charge.hour.strftime("%Y-%m-%d")
        case _:
            return str(getattr(charge, name))


def _row(group: tuple[str, ...], charges: Sequence[Charge]) -> CostRow:
    requests = sum(one.requests for one in charges)
    own, shared = fsum(one.own for one in charges), fsum(one.shared for one in charges)
    return CostRow(
        group=group[:-1],
        requests=requests,
        own=own,
        shared=shared,
        total=own + shared,
        currency=group[-1],
        per_1000=1000 * (own + shared) / requests if requests else None,
    )
