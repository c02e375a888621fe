"""The C library's calls that Python does not have, with errors as OSError."""

from __future__ import annotations

import ctypes
import os

_LIBC = ctypes.CDLL(None, use_errno=True)

# The same on every architecture, see asm-generic/unistd.h.
LANDLOCK_CREATE_RULESET, LANDLOCK_ADD_RULE, LANDLOCK_RESTRICT_SELF = 444, 445, 446
MOUNT_SETATTR = 442


def syscall(number: int, *arguments: int | bytes | None) -> int:
    """The result of a system call without a wrapper.

    Raises:
        OSError: it failed.
    """
    return _checked(_LIBC.syscall(ctypes.c_long(number), *map(_argument, arguments)))


def prctl(option: int, *arguments: int | bytes | None) -> int:
    """The result of an operation on this process.

    Raises:
        OSError: it failed.
    """
    padded = [*arguments, *[0] * (4 - len(arguments))]
    return _checked(_LIBC.prctl(option, *map(_argument, padded)))


def unshare(flags: int) -> None:
    """Moves this process into namespaces of its own.

    Raises:
        OSError: it is not allowed.
    """
    _checked(_LIBC.unshare(flags))


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """Attaches a file system, or changes how one is attached.

    Raises:
        OSError: it failed.
    """
    words = (os.fsencode(word) for word in (source, target, kind))
    _checked(_LIBC.mount(*words, ctypes.c_ulong(flags), data.encode()))


def capset(header: bytes, data: bytes) -> None:
    """Sets the capabilities of this process.

    Raises:
        OSError: it failed.
    """
    _checked(_LIBC.capset(header, data))


def address_of(buffer: ctypes.Array[ctypes.c_char]) -> int:
    """Where a buffer is, for structures that point to it. The caller keeps the buffer."""
    return ctypes.addressof(buffer)


def buffer_of(data: bytes) -> ctypes.Array[ctypes.c_char]:
    """A buffer with these bytes."""
    return ctypes.create_string_buffer(data, len(data))


def _argument(value: int | bytes | None) -> object:
    return ctypes.c_ulong(value) if isinstance(value, int) else value


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
