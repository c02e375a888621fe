"""What the gateways said last: evidence in memory, gone when they fall silent."""

from __future__ import annotations

from datetime import datetime

import msgspec

from shipway.core.observed import GatewayEvidence, VariantEvidence
from shipway.wire.snapshot import GatewayReport

STALE_S = 5.0
"""A gateway that has not reported for so long counts as gone."""


class SeenGateway(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway's last report, and when it came: for people, and in steady seconds."""

    report: GatewayReport
    seen_at: datetime
    heard_s: float


class Gateways:
    """The live gateways. Used from one event loop; `live` may be read from any thread.

    Silence is measured in the seconds of a steady clock, which nobody sets: a corrected wall clock
    must neither silence a live gateway nor keep a dead one.
    """

    def __init__(self, *, started_s: float) -> None:
        self._settled_s = started_s + STALE_S
        self._seen: dict[str, SeenGateway] = {}

    def note(self, report: GatewayReport, now: datetime, *, steady_s: float) -> bool:
        """Takes a report in; whether it says anything new."""
        before = self._seen.get(report.gateway)
        self._seen = {
            **{seen.report.gateway: seen for seen in self.live(steady_s)},
            report.gateway: SeenGateway(report=report, seen_at=now, heard_s=steady_s),
        }
        return before is None or _essence(before.report) != _essence(report)

    def live(self, steady_s: float) -> tuple[SeenGateway, ...]:
        """The gateways that reported lately, by id."""
        oldest = steady_s - STALE_S
        return tuple(seen for _, seen in sorted(self._seen.items()) if seen.heard_s > oldest)

    def evidence(self, steady_s: float) -> tuple[GatewayEvidence, ...]:
        """The live gateways' words, as the plan reads them."""
        return tuple(_evidence(seen) for seen in self.live(steady_s))

    def is_settled(self, steady_s: float) -> bool:
        """Whether every live gateway has had time to report since control started."""
        return steady_s >= self._settled_s


def _evidence(seen: SeenGateway) -> GatewayEvidence:
    report = seen.report
    variants = {
        (variant.endpoint, variant.variant): VariantEvidence(
            ready=variant.ready,
            in_flight=variant.in_flight,
            held=variant.held,
            load=variant.load,
            asked_s=seen.heard_s - variant.idle_s,
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
            (v.endpoint, v.variant, v.ready, v.in_flight > 0, v.held > 0, v.weight_pct, v.error)
            for v in report.variants
        ],
    )
