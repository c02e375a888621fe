"""Certificates for tests: a CA in a directory, and pairs that it issued, good and bad."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from shipway.tls import authority
from shipway.tls.authority import Issued, Role
from shipway.tls.files import Pair, TlsFiles

LOOPBACK = ("localhost", "127.0.0.1")


class Authority:
    """A CA of its own in a directory, a month old, so that what it issued may have expired."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ca = authority.create(directory, now=_now() - timedelta(days=30))

    def pair(self, name: str) -> Pair:
        """The files of that name."""
        return Pair(self.directory / f"{name}.crt", self.directory / f"{name}.key")

    def issue(
        self,
        name: str,
        *,
        role: Role = Role.GATEWAY,
        hosts: tuple[str, ...] = LOOPBACK,
        lifetime: timedelta = timedelta(days=1),
        at: datetime | None = None,
    ) -> Issued:
        """Issues `NAME.crt` and `NAME.key`, as if it were `at`."""
        return authority.issue(
            self.directory,
            name,
            role=role,
            hosts=hosts,
            lifetime=lifetime,
            pair=self.pair(name),
            now=at or _now(),
        )

    def serving(self, name: str = "server", *, asks: bool = True) -> TlsFiles:
        """The files of a server that shows that pair, and asks callers for theirs."""
        pair = self.pair(name)
        return TlsFiles(cert=pair.cert, key=pair.key, client_ca=self.ca if asks else None)

    def calling(self, name: str | None = None) -> TlsFiles:
        """The files of a caller that trusts this CA, and shows that pair."""
        if name is None:
            return TlsFiles(ca=self.ca)
        pair = self.pair(name)
        return TlsFiles(ca=self.ca, client_cert=pair.cert, client_key=pair.key)


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - certificates are valid by the clock
