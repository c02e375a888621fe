"""Which certificate files a process uses: those that the settings name, else the state directory's."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from shipway.core.errors import CertificateUnusable

if TYPE_CHECKING:  # gateways do without pydantic
    from shipway.settings import Settings

DIRECTORY = "tls"
"""Below the state directory."""


class Pair(msgspec.Struct, frozen=True):
    """A certificate, with those that vouch for it behind it, and its key. Both are PEM."""

    cert: Path
    key: Path


class TlsFiles(msgspec.Struct, frozen=True, kw_only=True):
    """The files of one process; None for what it has not.

    `cert` and `key` are what its servers show, `client_cert` and `client_key` what it shows when it
    calls. `ca` is whom it trusts when it calls (None: whom the system trusts), `client_ca` who vouches
    for its own callers (None: they are not asked).
    """

    cert: Path | None = None
    key: Path | None = None
    ca: Path | None = None
    client_ca: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None

    @property
    def server(self) -> Pair | None:
        """What servers show; None when they speak without TLS."""
        return None if self.cert is None or self.key is None else Pair(self.cert, self.key)

    @property
    def client(self) -> Pair | None:
        """What is shown to servers that ask."""
        if self.client_cert is None or self.client_key is None:
            return None
        return Pair(self.client_cert, self.client_key)

    def as_arguments(self) -> list[str]:
        """The command line from which another process gets these very files."""
        named = msgspec.structs.asdict(self).items()
        return [part for name, path in named if path for part in (_option(name), str(path))]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options that `TlsFiles.as_arguments` writes."""
    for name in TlsFiles.__struct_fields__:
        parser.add_argument(_option(name), type=Path, help="TLS; see `shipway.tls.files`")


def files_in(options: argparse.Namespace) -> TlsFiles:
    """The files that those options name."""
    return TlsFiles(
        **{name: getattr(options, f"tls_{name}") for name in TlsFiles.__struct_fields__}
    )


def _option(name: str) -> str:
    return f"--tls-{name.replace('_', '-')}"


def tls_directory(state_dir: Path) -> Path:
    """Where a state directory keeps its certificates."""
    return state_dir.absolute() / DIRECTORY


def tls_files(settings: Settings) -> TlsFiles:
    """The files that these settings mean. Only their names: nothing is read but the directory.

    Raises:
        CertificateUnusable: a certificate is named without its key, or a key without its certificate.
    """
    home = tls_directory(settings.state_dir)
    server, client = _kept(home, "server"), _kept(home, "client")
    if settings.tls_cert is not None or settings.tls_key is not None:
        server = _named(settings.tls_cert, settings.tls_key)
    own_ca = home / "ca.crt" if (home / "ca.crt").exists() else None
    return TlsFiles(
        cert=server.cert if server else None,
        key=server.key if server else None,
        ca=_absolute(settings.tls_ca) or own_ca,
        client_ca=_absolute(settings.tls_client_ca) or own_ca,
        client_cert=client.cert if client else None,
        client_key=client.key if client else None,
    )


def _kept(home: Path, name: str) -> Pair | None:
    """A pair of the state directory. Half of one counts: whoever loads it says what is missing."""
    pair = Pair(home / f"{name}.crt", home / f"{name}.key")
    return pair if pair.cert.exists() or pair.key.exists() else None


def _named(cert: Path | None, key: Path | None) -> Pair:
    if cert is None or key is None:
        missing = "SHIPWAY_TLS_CERT" if cert is None else "SHIPWAY_TLS_KEY"
        raise CertificateUnusable(
            f"A certificate and its key go together, and `{missing}` is not set.",
            next_step="Set both, or neither.",
        )
    return Pair(cert.absolute(), key.absolute())


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else path.absolute()
