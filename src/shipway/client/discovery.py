"""Finding the server: an argument, the environment, the state directory, or the default port."""

from __future__ import annotations

from pathlib import Path

import msgspec

from shipway.tls.files import TlsFiles

DEFAULT_CONTROL_ADDRESS = "127.0.0.1:8090"


class Addresses(msgspec.Struct, frozen=True, kw_only=True):
    """Base URLs. `gateway_url` is None when control must be asked for it.

    `tls` is what the client shows and trusts; `pins` are the certificates of this machine's own server,
    by its URLs.
    """

    control_url: str
    gateway_url: str | None = None
    tls: TlsFiles = TlsFiles()
    pins: dict[str, str] = {}


class UpRecord(msgspec.Struct, frozen=True, kw_only=True):
    """`run/up.json`: what `shipway up` wrote about itself."""

    pid: int
    control_url: str
    gateway_url: str
    grpc_address: str = ""
    tls_cert: str = ""

    @property
    def pins(self) -> dict[str, str]:
        """See `Addresses`."""
        return (
            dict.fromkeys((self.control_url, self.gateway_url), self.tls_cert)
            if self.tls_cert
            else {}
        )


def up_record(state_dir: Path) -> UpRecord | None:
    """What a server wrote into its state directory; None when there is none, or it is damaged."""
    try:
        return msgspec.json.decode((state_dir / "run" / "up.json").read_bytes(), type=UpRecord)
    except (OSError, msgspec.MsgspecError):
        return None


def addresses(
    server: str | None, *, state_dir: Path | None = None, gateway: str | None = None
) -> Addresses:
    """Where to find the server; see `Client` for the order in which it looks."""
    from shipway.settings import read_settings
    from shipway.tls.files import tls_files

    settings = read_settings(state_dir=state_dir)
    tls = tls_files(settings)
    record = up_record(settings.state_dir)
    if server is None and state_dir is None:
        server = settings.control_url
    if server is None and record is not None:
        server, gateway = record.control_url, gateway or record.gateway_url
    return Addresses(
        control_url=_plain(server or default_control_url(tls)),
        gateway_url=_plain_or_none(gateway),
        tls=tls,
        pins=record.pins if record is not None else {},
    )


def default_control_url(tls: TlsFiles) -> str:
    """Where a control of this machine is, started alone with these files."""
    return f"{'http' if tls.server is None else 'https'}://{DEFAULT_CONTROL_ADDRESS}"


def _plain(url: str) -> str:
    return (url if "://" in url else f"http://{url}").rstrip("/")


def _plain_or_none(url: str | None) -> str | None:
    return None if url is None else _plain(url)
