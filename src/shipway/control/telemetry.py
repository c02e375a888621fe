"""What the gateways said that they have counted: the newest word of each source, until it is written."""

from __future__ import annotations

from collections.abc import Mapping
from secrets import token_hex
from threading import Lock

import msgspec

from shipway.core.errors import ConflictError, InvalidRequest
from shipway.core.tallies import Tally, grown, is_sound
from shipway.core.telemetry import Name
from shipway.wire.tallies import TelemetryReport

SILENT_S = 600.0
"""A source that has said nothing for so long is forgotten here; what it counted is in the database."""

_LONGEST = (63, 80)
"""Characters of an endpoint's name, and of a version, that the database has room for."""

Counts = dict[Name, dict[str, float]]


class GatewayUse(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway process takes now, and when that was heard, in steady seconds."""

    cpu_s: float
    memory_bytes: int
    heard_s: float


class Telemetry:
    """The reports of all sources. Thread-safe."""

    def __init__(self) -> None:
        self.instance = token_hex(8)
        self._lock = Lock()
        self._newest: dict[str, Counts] = {}
        self._heard: dict[str, float] = {}
        self._uses: dict[tuple[str, int], GatewayUse] = {}

    def note(self, report: TelemetryReport, *, steady_s: float) -> None:
        """Takes a report in. Each count is the largest that was heard: reports may come in any order.

        Raises:
            InvalidRequest: it holds no counts.
            ConflictError: the source has counted less than it said before.
        """
        _require_sound(report)
        with self._lock:
            source = report.source
            held = self._newest.setdefault(source, {})
            for endpoint, version, tally in report.rows:
                if grown(held.get((endpoint, version), {}), tally) is None:
                    raise _behind(source)
                held[endpoint, version] = tally
            self._heard[source] = steady_s
            for one in report.processes:
                self._uses[one.gateway, one.pid] = GatewayUse(
                    cpu_s=one.cpu_s, memory_bytes=one.memory_bytes, heard_s=steady_s
                )

    def newest(self) -> dict[str, Counts]:
        """What each source has counted since it began, as far as it was heard."""
        with self._lock:
            return {source: dict(counts) for source, counts in self._newest.items()}

    def uses(self) -> Mapping[tuple[str, int], GatewayUse]:
        """What the gateway processes take, by gateway and process number."""
        with self._lock:
            return dict(self._uses)

    def expect(self, source: str, name: Name, known: Tally) -> None:
        """Notes that so much is known of a source; what it says from now on must be as much."""
        with self._lock:
            held = self._newest.setdefault(source, {})
            if grown(known, held.get(name, {})) is None:
                held[name] = dict(known)

    def forget_silent(self, steady_s: float) -> None:
        """Drops what was written and is over."""
        oldest = steady_s - SILENT_S
        with self._lock:
            for source in [one for one, heard_s in self._heard.items() if heard_s < oldest]:
                del self._heard[source]
                self._newest.pop(source, None)
            self._uses = {k: use for k, use in self._uses.items() if use.heard_s >= oldest}


def _require_sound(report: TelemetryReport) -> None:
    for endpoint, version, tally in report.rows:
        is_short = len(endpoint) <= _LONGEST[0] and len(version) <= _LONGEST[1]
        if not is_short or not is_sound(tally):
            raise InvalidRequest(f"The counts of `{endpoint}` `{version}` are no counts.")
    if not 0 < len(report.source) <= _LONGEST[0]:
        raise InvalidRequest("The report names no source.")


def _behind(source: str) -> ConflictError:
    return ConflictError(
        f"Source `{source}` had counted more before.", next_step="Begin a source with another name."
    )
