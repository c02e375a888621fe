"""What the machine's gateways have counted, told to control by one of them.

The counts of all gateways of a machine, ended ones included, only grow (`gateway.counters`): whoever
holds the lock speaks for all, and when it is killed, the next one says the same and more. The machine's
name among the sources, and what it had counted before it got that name, are in
`<state>/run/counters/source.json`.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from shipway.core.tallies import grown, tally_of
from shipway.core.telemetry import Name
from shipway.gateway.counters import Counters
from shipway.wire.processes import use_of
from shipway.wire.tallies import ProcessReport, Taken, TelemetryReport

TELL_EVERY_S = 2.0
"""So old are the counts that control has; a fifth of its finest window."""

PATIENCE = 15
"""So many reports in a row must lack counts until they are given up: a file may be unreadable for a while."""

SOURCE = "source.json"
LOCK = "source.lock"

_Tallies = dict[Name, dict[str, float]]


class _Source(msgspec.Struct, frozen=True, kw_only=True):
    """A name, and the counts from before there was one. They are no news to anybody."""

    id: str
    before: tuple[tuple[str, str, dict[str, float]], ...] = ()


class Telemetry:
    """What this gateway has to tell. All methods but the constructor may run in any one thread."""

    def __init__(self, counters: Counters, directory: Path, gateway: str) -> None:
        """`directory` is that of the counters."""
        self._counters = counters
        self._directory = directory
        self._gateway = gateway
        self._lock = -1
        self._source: _Source | None = None
        self._before: _Tallies = {}
        self._told: _Tallies = {}
        self._control = ""
        self._setbacks = 0

    def report(self) -> TelemetryReport | None:
        """What control does not know yet.

        None while another gateway speaks for this machine, or counts are missing that there were.
        """
        if not self._may_speak():
            return None
        counted = self._counted()
        source = self._source or self._opened(counted)
        tallies = _since(self._before, counted)
        if tallies is None:
            self.note_refused()
            return None
        news = {name: tally for name, tally in tallies.items() if tally != self._told.get(name)}
        return TelemetryReport(
            gateway=self._gateway,
            source=source.id,
            rows=tuple((*name, tally) for name, tally in news.items()),
            processes=tuple(self._processes()),
        )

    def note_taken(self, report: TelemetryReport, taken: Taken) -> None:
        """Notes that control has what the report says. Another control is told everything next time."""
        self._setbacks = 0
        if taken.control != self._control:
            self._control, self._told = taken.control, {}
            return
        if self._source is not None and report.source == self._source.id:
            self._told |= {(endpoint, version): tally for endpoint, version, tally in report.rows}

    def note_refused(self) -> None:
        """Notes that counts are missing here that there were; begins anew where they stay away.

        What is left then cannot be told from news, and is left out.
        """
        self._setbacks += 1
        if self._setbacks >= PATIENCE:
            self._begun(self._counted())

    def close(self) -> None:
        """Lets another gateway speak; idempotent."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _may_speak(self) -> bool:
        if self._lock >= 0 or not self._counters.is_shared:
            return True
        try:
            descriptor = os.open(self._directory / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._lock = descriptor
        return True

    def _counted(self) -> _Tallies:
        counters = self._counters
        rows = counters.sums() if counters.is_shared else counters.own()
        tallies = {name: tally_of(row) for name, row in rows.items()}
        return {name: tally for name, tally in tallies.items() if tally}

    def _opened(self, counted: _Tallies) -> _Source:
        """The machine's source, made when there is none."""
        if not self._counters.is_shared:
            return self._kept(_Source(id=secrets.token_hex(8)))
        try:
            data = (self._directory / SOURCE).read_bytes()
            return self._kept(msgspec.json.decode(data, type=_Source))
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return self._begun(self._past(counted))

    def _past(self, counted: _Tallies) -> _Tallies:
        """What was counted before this gateway: of a machine that told nobody until now."""
        own = {name: tally_of(row) for name, row in self._counters.own().items()}
        return _since(own, counted) or {}

    def _begun(self, before: _Tallies) -> _Source:
        """A new source that knows nothing of what was counted until now."""
        rows = tuple((*name, tally) for name, tally in before.items())
        source = self._kept(_Source(id=secrets.token_hex(8), before=rows))
        if self._counters.is_shared:
            temporary = self._directory / f".{SOURCE}"
            with suppress(OSError):
                temporary.write_bytes(msgspec.json.encode(source))
                temporary.replace(self._directory / SOURCE)
        return source

    def _kept(self, source: _Source) -> _Source:
        self._source, self._told, self._setbacks = source, {}, 0
        self._before = {(endpoint, version): tally for endpoint, version, tally in source.before}
        return source

    def _processes(self) -> list[ProcessReport]:
        shared = self._counters.processes()
        pids = shared if self._counters.is_shared else {self._gateway: os.getpid()}
        found = ((gateway, pid, use_of(pid)) for gateway, pid in sorted(pids.items()))
        return [
            ProcessReport(gateway=gateway, pid=pid, cpu_s=use.cpu_s, memory_bytes=use.memory_bytes)
            for gateway, pid, use in found
            if use is not None
        ]


def _since(before: Mapping[Name, Mapping[str, float]], counted: _Tallies) -> _Tallies | None:
    """What was counted beyond `before`; None when some of that is missing."""
    if not before:
        return counted
    tallies: _Tallies = {}
    for name in before.keys() | counted.keys():
        tally = grown(before.get(name, {}), counted.get(name, {}))
        if tally is None:
            return None
        if tally:
            tallies[name] = tally
    return tallies
