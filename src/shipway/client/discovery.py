"""Finding the server and its key: an argument, the environment, the state directory, or the defaults."""

from __future__ import annotations

from pathlib import Path

import msgspec

from shipway.tls.files import TlsFiles

DEFAULT_CONTROL_ADDRESS = "127.0.0.1:8090"


class Addresses(msgspec.Struct, frozen=True, kw_only=True):
    """Base URLs, and the key to present. `gateway_url` is None when control must be asked for it.

    `key_file` is where the key was found; None when it was given. `tls` is what the client shows and trusts;
    `pins` are the certificates of this machine's own server, by its URLs.
    """

    control_url: str
    gateway_url: str | None = None
    key: str = ""
    key_file: Path | None = None
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
    server: str | None,
    *,
    state_dir: Path | None = None,
    gateway: str | None = None,
    key: str | None = None,
) -> Addresses:
    """Where to find the server, and the key for it; see `Client` for the order in which it looks."""
    from shipway.settings import read_settings
    from shipway.tls.files import tls_files

    settings = read_settings(state_dir=state_dir)
    directory, tls = settings.state_dir, tls_files(settings)
    record = up_record(directory)
    local_url = _plain(default_control_url(tls) if record is None else record.control_url)
    if server is not None:
        control_url = _plain(server)
    elif state_dir is None and settings.control_url:
        control_url = _plain(settings.control_url)
    else:
        control_url = local_url
        gateway = gateway or (None if record is None else record.gateway_url)
    found = Addresses(
        control_url=control_url,
        gateway_url=_plain_or_none(gateway),
        tls=tls,
        pins=record.pins if record is not None else {},
    )
    given = key if key is not None else settings.api_key
    if given is not None:
        return msgspec.structs.replace(found, key=given)
    # The key of this machine's server is for nobody else.
    is_local = control_url in (local_url, _recorded_control(directory))
    return _with_local_key(found, directory / "keys" / "admin.key") if is_local else found


def _with_local_key(found: Addresses, path: Path) -> Addresses:
    try:
        return msgspec.structs.replace(
            found, key=path.read_text().strip(), key_file=path.absolute()
        )
    except OSError:
        return found


def _recorded_control(state_dir: Path) -> str:
    """Where a control that runs alone on the state directory is; empty when none does."""
    try:
        found = (state_dir / "run" / "control.json").read_bytes()
        return _plain(msgspec.json.decode(found, type=_ControlRecord).url)
    except (OSError, msgspec.MsgspecError):
        return ""


class _ControlRecord(msgspec.Struct):
    url: str


def default_control_url(tls: TlsFiles) -> str:
    """Where a control of this machine is, started alone with these files."""
    return f"{'http' if tls.server is None else 'https'}://{DEFAULT_CONTROL_ADDRESS}"


def _plain(url: str) -> str:
    return (url if "://" in url else f"http://{url}").rstrip("/")


def _plain_or_none(url: str | None) -> str | None:
    return None if url is None else _plain(url)
