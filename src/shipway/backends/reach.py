"""What of a machine a confined replica may read: its interpreter, the system's libraries, its bundle."""

from __future__ import annotations

import os
import site
import sys
from collections.abc import Iterator
from pathlib import Path

SYSTEM = (
    "/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/nix/store",
    "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives",
    "/etc/localtime", "/etc/timezone", "/etc/locale.alias", "/etc/passwd", "/etc/group",
    "/etc/nsswitch.conf", "/etc/mime.types", "/etc/OpenCL",
    "/sys/devices", "/sys/class", "/sys/bus", "/sys/module", "/sys/fs/cgroup", "/sys/kernel/mm",
)  # fmt: skip
"""The system's own files, without secrets."""

OF_PROC = (
    "/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/loadavg", "/proc/uptime",
    "/proc/version", "/proc/filesystems", "/proc/vmstat", "/proc/sys", "/proc/driver",
)  # fmt: skip
"""What a process sees of `/proc` where that has others' processes too: itself, and the machine."""

FOR_THE_NETWORK = (
    "/etc/hosts", "/etc/resolv.conf", "/run/systemd/resolve", "/etc/host.conf", "/etc/gai.conf",
    "/etc/services", "/etc/protocols", "/etc/ssl/certs", "/etc/ssl/openssl.cnf",
    "/etc/ca-certificates", "/etc/pki/tls", "/etc/pki/ca-trust",
)  # fmt: skip
"""What resolves names and verifies certificates."""

DEVICES = (
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/kfd",
    "/dev/dri",
)
"""Devices to read and write: none holds anything. Nvidia's are found by name."""

_SHIPWAY = Path(__file__).parents[1]


def devices() -> list[str]:
    """Every device that a model may use, those for computing included."""
    return [*DEVICES, *(str(path) for path in sorted(Path("/dev").glob("nvidia*")))]


def readable(
    python: Path,
    bundle_dir: Path,
    *,
    state_dir: Path,
    libraries: str,
    network: bool,
    all_of_proc: bool,
) -> list[str]:
    """What a replica may read with this interpreter and bundle.

    Of the state directory that is the bundle, and the interpreter's own environment where that is in
    it; wherever else a directory holds the state, all beside it. `libraries` is LD_LIBRARY_PATH.
    """
    of_the_machine = [
        *SYSTEM,
        *(("/proc",) if all_of_proc else OF_PROC),
        *(FOR_THE_NETWORK if network else ()),
        *(str(path) for path in _interpreter(python)),
        *(entry for entry in libraries.split(os.pathsep) if entry.startswith("/")),
    ]
    state = state_dir.resolve()
    reach = [part for one in of_the_machine for part in _around(Path(one), state)]
    inside = [path for path in (*_environment(python), _SHIPWAY, bundle_dir) if path != state]
    return list(dict.fromkeys(str(path) for path in (*reach, *inside)))


def _environment(python: Path) -> tuple[Path, ...]:
    """The virtual environment of an interpreter; nothing where it is in none."""
    directory = python.parent.parent
    return (directory,) if (directory / "pyvenv.cfg").is_file() else ()


def _interpreter(python: Path) -> Iterator[Path]:
    """Where the standard library is, and for the running interpreter where its packages are."""
    yield python.resolve().parent.parent
    for environment in _environment(python):
        for line in (environment / "pyvenv.cfg").read_text().splitlines():
            name, _, value = line.partition("=")
            if name.strip() == "home":
                yield Path(value.strip()).parent
    if python == Path(sys.executable):
        yield from (Path(sys.base_prefix), Path(sys.prefix), *_running_packages())


def _running_packages() -> Iterator[Path]:
    """The directories that our own interpreter imports packages from, editable ones included.

    Not `sys.path`, to which whoever started us may have added anything. And of no other interpreter:
    what is installed in a model's environment must not decide what the model may read.
    """
    users = [site.getusersitepackages()] if site.ENABLE_USER_SITE else []
    for directory in map(Path, (*site.getsitepackages(), *users)):
        yield directory
        for path in sorted(directory.glob("*.pth")):
            lines = path.read_text(errors="replace").splitlines()
            places = [directory / line.strip() for line in lines if not line.startswith("import")]
            yield from (place for place in places if place.is_dir())


def _around(path: Path, hidden: Path) -> Iterator[Path]:
    """The path; where it holds what is hidden, everything in it that does not."""
    place = path.resolve()
    if place == Path("/") or place.is_relative_to(hidden):
        return
    if not hidden.is_relative_to(place):
        yield path
    elif place.is_dir():
        for entry in sorted(place.iterdir()):
            yield from _around(entry, hidden)
