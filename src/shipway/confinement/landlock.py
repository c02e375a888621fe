"""Landlock: which files a process may reach, and no TCP, foreign signals or foreign memory.

Numbers and structures are those of include/uapi/linux/landlock.h. A process in a Landlock domain
may not trace or read the memory and the environment of a process outside of it, without any rule.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterable

from shipway.confinement.calls import (
    LANDLOCK_ADD_RULE,
    LANDLOCK_CREATE_RULESET,
    LANDLOCK_RESTRICT_SELF,
    syscall,
)

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_AND_MAKE = sum(1 << bit for bit in range(4, 13))
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_NET = 0b11
_SCOPE = 0b11
_VERSION_FLAG = 1
_PATH_BENEATH = 1

_READ = _EXECUTE | _READ_FILE | _READ_DIR
_USE = _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_OWN = _WRITE_FILE | _READ_FILE | _READ_DIR | _REMOVE_AND_MAKE | _REFER | _TRUNCATE
_OF_A_FILE = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV

ABI_TCP = 4
"""From this ABI on TCP can be forbidden."""

ABI_SIGNALS = 6
"""From this ABI on, signals and abstract Unix sockets stay inside the domain."""


def abi() -> int:
    """The Landlock ABI of this kernel; 0 when it has none, or has it turned off."""
    try:
        return syscall(LANDLOCK_CREATE_RULESET, None, 0, _VERSION_FLAG)
    except OSError:
        return 0


def files_handled(abi_version: int) -> int:
    """The file-system rights that this ABI knows; all of them are then denied unless granted."""
    newer = {2: _REFER, 3: _TRUNCATE, 5: _IOCTL_DEV}
    known = _READ | _WRITE_FILE | _REMOVE_AND_MAKE
    return known | sum(right for since, right in newer.items() if abi_version >= since)


def restrict(
    abi_version: int, *, read: Iterable[str], use: Iterable[str], own: Iterable[str], network: bool
) -> None:
    """Confines this thread, and what it starts, for good. Paths that do not exist are passed over.

    `read`: read, list and execute beneath. `use`: read and write these devices. `own`: everything but
    execute beneath. `no_new_privs` must be set.

    Raises:
        OSError: the kernel refuses.
    """
    handled = files_handled(abi_version)
    ruleset = syscall(LANDLOCK_CREATE_RULESET, *_attributes(abi_version, handled, network), 0)
    try:
        for paths, rights in ((read, _READ), (use, _USE), (own, _OWN)):
            for path in paths:
                _allow(ruleset, path, rights & handled)
        syscall(LANDLOCK_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _attributes(abi_version: int, handled: int, network: bool) -> tuple[bytes, int]:  # noqa: FBT001
    fields = [handled]
    if abi_version >= ABI_TCP:
        fields.append(0 if network else _NET)
    if abi_version >= ABI_SIGNALS:
        fields.append(_SCOPE)
    data = struct.pack(f"={len(fields)}Q", *fields)
    return data, len(data)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    try:
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            rights &= _OF_A_FILE
        rule = struct.pack("=Qi", rights, place)
        syscall(LANDLOCK_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0)
    finally:
        os.close(place)
