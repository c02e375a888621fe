"""The machine that control is on, as signals: room on the state directory's disk, and certificates."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from shipway.core.alerts.installation import certificate_signals, disk_signal
from shipway.core.health import CertificateFacts
from shipway.core.signals import Signal
from shipway.store.disks import disk_facts
from shipway.tls.facts import certificate_facts
from shipway.tls.files import TlsFiles


class Installation:
    """What control and the gateways beside it stand on. Blocks."""

    def __init__(self, *, environment: str, state_dir: Path, tls: TlsFiles) -> None:
        self._environment = environment
        self._state_dir = state_dir
        self._tls = tls

    def signals(self, now: datetime) -> tuple[Signal, ...]:
        """What is to be said of it now, also of what is well."""
        disk = disk_facts("The state directory", self._state_dir)
        return (
            disk_signal(self._environment, disk, now),
            *certificate_signals(self._environment, dict(self._certificates()), now),
        )

    def _certificates(self) -> Iterator[tuple[str, CertificateFacts | None]]:
        """Those of the processes here, by what they are for: the same uses each time, so that alerts end."""
        tls = self._tls
        client_ca = None if tls.client_ca == tls.ca else tls.client_ca
        for use, cert, key in (
            ("server", tls.cert, tls.key),
            ("client", tls.client_cert, tls.client_key),
            ("ca", tls.ca, None),
            ("client-ca", client_ca, None),
        ):
            yield use, None if cert is None else certificate_facts(cert, key)
