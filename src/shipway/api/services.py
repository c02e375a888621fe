"""What the routes stand on, handed to `create_app` by the bootstrap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any

from fastapi import Depends, Request

from shipway.api.uploads import UploadLimits
from shipway.control.access import Access
from shipway.control.audit import AuditLog
from shipway.control.registry import Registry
from shipway.store.staging import Staging


def _no_replicas(endpoint: str, version: str) -> Sequence[Any]:
    del endpoint, version
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The use cases behind the API. `now` is the clock of the process.

    `endpoints`, `reconciler`, `environments`, `promotions` and `trust` are what the modules of their
    names, `api.status` and `api.internal` call; `telemetry` is for `api.internal`, `measures` (of the past)
    and `top` for `api.metrics`, and `exposition` gives the page of `/metrics`;
    `alerts`, `silences` and `channels` are for `api.alerts`; `predictions` and `queries` for `api.internal` and `api.predictions`;
    `monitors` for `api.monitors`; `performances` for `api.performance`; `seals` and `pruning` are for `api.audit`, `costs` for `api.costs`. `replicas_of` gives the running copies of a version
    (`churn:2`) behind an endpoint, by the endpoint's name.
    """

    registry: Registry
    audit: AuditLog
    staging: Staging
    now: Callable[[], datetime]
    access: Access
    endpoints: Any = None
    reconciler: Any = None
    rollouts: Any = None
    environments: Any = None
    promotions: Any = None
    evaluations: Any = None
    monitors: Any = None
    seals: Any = None
    pruning: Any = None
    trust: Any = None
    costs: Any = None
    telemetry: Any = None
    measures: Any = None
    top: Any = None
    exposition: Any = None
    alerts: Any = None
    silences: Any = None
    channels: Any = None
    predictions: Any = None
    queries: Any = None
    performances: Any = None
    replicas_of: Callable[[str, str], Sequence[Any]] = _no_replicas
    upload_limits: UploadLimits = field(default_factory=UploadLimits)


def services_of(request: Request) -> Services:
    """The services of the app that got the request."""
    services = request.app.state.services
    assert isinstance(services, Services)
    return services


UsesServices = Annotated[Services, Depends(services_of)]
