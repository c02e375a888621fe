"""The certificate authority of a state directory, as commands use it."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from shipway.core.errors import InvalidSpec
from shipway.settings import read_settings
from shipway.tls import authority
from shipway.tls.authority import Issued, Role
from shipway.tls.files import Pair, tls_directory

LOOPBACK = ("localhost", "127.0.0.1", "::1")


def create_here(state_dir: Path | None) -> Path:
    """Makes the CA of a state directory; see `tls.authority.create`."""
    return authority.create(_home(state_dir), now=_now())


def issue_here(
    state_dir: Path | None,
    name: str,
    *,
    role: str,
    hosts: Sequence[str],
    days: int,
    out: Path | None,
) -> Issued:
    """Issues a certificate; with `out` a whole `tls` directory for another machine.

    Raises:
        InvalidSpec: there is no such role, or a name or a host cannot be in a certificate.
        CertificateUnusable: there is no CA, or it cannot be used any more.
    """
    if role not in [*Role]:
        raise InvalidSpec(
            f"There is no role `{role}`.", next_step=f"Use one of: {', '.join(Role)}."
        )
    kind, home = Role(role), _home(state_dir)
    file = name if out is None else "client" if kind is Role.CLIENT else "server"
    target = home if out is None else out.absolute()
    made = authority.issue(
        home,
        name,
        role=kind,
        hosts=hosts or _own_hosts(kind, out),
        lifetime=timedelta(days=days),
        pair=Pair(target / f"{file}.crt", target / f"{file}.key"),
        now=_now(),
    )
    if out is not None:
        shutil.copyfile(home / "ca.crt", target / "ca.crt")
    return made


def issued_here(state_dir: Path | None) -> list[Issued]:
    """What the CA of a state directory has issued."""
    return authority.issued_in(_home(state_dir))


def _own_hosts(role: Role, out: Path | None) -> tuple[str, ...]:
    """The names of this machine, for a server here; callers have none."""
    if role is Role.CLIENT:
        return ()
    if out is not None:
        raise InvalidSpec(
            "The certificate of another machine's server needs that machine's names.",
            next_step="Add `--host NAME` for each name and address by which it is called.",
        )
    return (socket.gethostname(), *LOOPBACK)


def _home(state_dir: Path | None) -> Path:
    return tls_directory(read_settings(state_dir=state_dir).state_dir)


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - the command line owns its clock
