"""A mount namespace of its own: everything read-only but private memory and a private directory.

Landlock does not see chmod, chown and the like; on a read-only mount they fail.
"""

from __future__ import annotations

import os
import struct

from shipway.confinement.calls import MOUNT_SETATTR, mount, syscall, unshare

_NEW_MOUNTS, _NEW_USER = 0x00020000, 0x10000000
_BIND, _RECURSIVE, _SLAVE, _NO_SUID, _NO_DEVICES, _NO_EXECUTION = 4096, 16384, 1 << 19, 2, 4, 8
_ATTR_READ_ONLY, _AT_RECURSIVE = 1, 0x8000
SHARED_MEMORY = "/dev/shm"
_AT_FDCWD = -100


def make_private(scratch: str, *, shared_memory_bytes: int, hides_processes: bool) -> None:
    """Moves this process into such a namespace; where it is not allowed to, with a user namespace.

    In a user namespace every process and file keeps its owner. With `hides_processes` its `/proc` has
    only the processes that it may trace: with Landlock, those that it has started.

    Raises:
        OSError: the kernel or a policy of the machine does not allow it.
    """
    _leave()
    mount("none", "/", "", _RECURSIVE | _SLAVE)
    size = f"size={shared_memory_bytes},mode=1777"
    mount(scratch, scratch, "", _BIND)
    mount("tmpfs", SHARED_MEMORY, "tmpfs", _NO_SUID | _NO_DEVICES, size)
    if hides_processes:
        flags = _NO_SUID | _NO_DEVICES | _NO_EXECUTION
        mount("proc", "/proc", "proc", flags, "hidepid=ptraceable")
    _set_read_only("/", flags=_AT_RECURSIVE)
    for place in (scratch, SHARED_MEMORY):
        _set_writable(place)


def _leave() -> None:
    try:
        unshare(_NEW_MOUNTS)
    except PermissionError:
        user, group = os.getuid(), os.getgid()
        unshare(_NEW_USER | _NEW_MOUNTS)
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{user} {user} 1"),
            ("gid_map", f"{group} {group} 1"),
        ):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as stream:
                stream.write(text)


def _set_read_only(path: str, *, flags: int) -> None:
    _set_attributes(path, flags, struct.pack("=4Q", _ATTR_READ_ONLY, 0, 0, 0))


def _set_writable(path: str) -> None:
    _set_attributes(path, 0, struct.pack("=4Q", 0, _ATTR_READ_ONLY, 0, 0))


def _set_attributes(path: str, flags: int, attributes: bytes) -> None:
    size = len(attributes)
    syscall(MOUNT_SETATTR, _AT_FDCWD, os.fsencode(path), flags, attributes, size)
