"""What the gateways said last: evidence in memory, gone when they fall silent."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from shipway.core.reconcile import GatewayEvidence, VariantEvidence
from shipway.wire.snapshot import GatewayReport

STALE_S = 5.0
"""A gateway that has not reported for so long counts as gone."""


class SeenGateway(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway's last report, and when it came."""

    report: GatewayReport
    seen_at: datetime


class Gateways:
    """The live gateways. Used from one event loop; `live` may be read from any thread."""

    def __init__(self, *, started_at: datetime) -> None:
        self._settled_at = started_at + timedelta(seconds=STALE_S)
        self._seen: dict[str, SeenGateway] = {}

    def note(self, report: GatewayReport, now: datetime) -> bool:
        """Takes a report in; whether it says anything new."""
        before = self._seen.get(report.gateway)
        self._seen = {
            **{seen.report.gateway: seen for seen in self.live(now)},
            report.gateway: SeenGateway(report=report, seen_at=now),
        }
        return before is None or _essence(before.report) != _essence(report)

    def live(self, now: datetime) -> tuple[SeenGateway, ...]:
        """The gateways that reported lately, by id."""
        oldest = now - timedelta(seconds=STALE_S)
        return tuple(seen for _, seen in sorted(self._seen.items()) if seen.seen_at > oldest)

    def evidence(self, now: datetime) -> tuple[GatewayEvidence, ...]:
        """The live gateways' words, as the plan reads them."""
        return tuple(_evidence(seen.report) for seen in self.live(now))

    def is_settled(self, now: datetime) -> bool:
        """Whether every live gateway has had time to report since control started."""
        return now >= self._settled_at


def _evidence(report: GatewayReport) -> GatewayEvidence:
    variants = {
        (variant.endpoint, variant.variant): VariantEvidence(
            ready=variant.ready,
            in_flight=variant.in_flight,
            weight_pct=variant.weight_pct,
            error=variant.error,
        )
        for variant in report.variants
    }
    return GatewayEvidence(id=report.gateway, revision=report.revision, variants=variants)


def _essence(report: GatewayReport) -> object:
    return (
        report.revision,
        [
            (v.endpoint, v.variant, v.ready, v.in_flight > 0, v.weight_pct, v.error)
            for v in report.variants
        ],
    )
