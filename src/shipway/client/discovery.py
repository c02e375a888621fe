"""Finding the server: an argument, the environment, the state directory, or the default port."""

from __future__ import annotations

from pathlib import Path

import msgspec

DEFAULT_CONTROL_URL = "http://127.0.0.1:8090"


class Addresses(msgspec.Struct, frozen=True, kw_only=True):
    """Base URLs. `gateway_url` is None when control must be asked for it."""

    control_url: str
    gateway_url: str | None = None


class UpRecord(msgspec.Struct, frozen=True, kw_only=True):
    """`run/up.json`: what `shipway up` wrote about itself."""

    pid: int
    control_url: str
    gateway_url: str
    grpc_address: str = ""


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

    if server is not None:
        return Addresses(control_url=_plain(server), gateway_url=_plain_or_none(gateway))
    settings = read_settings()
    if state_dir is None and settings.control_url:
        return Addresses(
            control_url=_plain(settings.control_url), gateway_url=_plain_or_none(gateway)
        )
    record = up_record(state_dir or settings.state_dir)
    if record is None:
        return Addresses(control_url=DEFAULT_CONTROL_URL, gateway_url=_plain_or_none(gateway))
    return Addresses(
        control_url=_plain(record.control_url), gateway_url=_plain(gateway or record.gateway_url)
    )


def _plain(url: str) -> str:
    return (url if "://" in url else f"http://{url}").rstrip("/")


def _plain_or_none(url: str | None) -> str | None:
    return None if url is None else _plain(url)
