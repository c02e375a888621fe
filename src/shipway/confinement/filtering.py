"""A seccomp filter: which system calls a process may make (seccomp(2), classic BPF).

The kernel caches which calls are allowed whatever their arguments, so these cost next to nothing.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from shipway.confinement.calls import address_of, buffer_of, prctl
from shipway.confinement.numbering import ARCHITECTURES, NUMBERS, Architecture

_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_LOAD, _AND, _JUMP_EQUAL, _JUMP_AT_LEAST, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16
_X32 = 0x40000000
_WORD = 0xFFFFFFFF
_PR_GET_SECCOMP, _PR_SET_SECCOMP, _MODE_FILTER = 21, 22, 2
_NEW_NAMESPACES = 0x7E020080
"""The CLONE_NEW… flags of clone(2)."""

REFUSED = [
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
    "process_madvise",
    "process_mrelease",
    "kcmp",
    "pidfd_getfd",
    "perf_event_open",
    "bpf",
    "userfaultfd",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    "unshare",
    "setns",
    "mount",
    "umount2",
    "pivot_root",
    "chroot",
    "move_mount",
    "open_tree",
    "fsopen",
    "fsconfig",
    "fsmount",
    "fspick",
    "mount_setattr",
    "add_key",
    "request_key",
    "keyctl",
    "shmget",
    "shmat",
    "shmctl",
    "semget",
    "semop",
    "semtimedop",
    "semctl",
    "msgget",
    "msgsnd",
    "msgrcv",
    "msgctl",
    "mq_open",
    "mq_unlink",
    "open_by_handle_at",
    "fanotify_init",
    "setsid",
    "setpgid",
    "sched_setscheduler",
    "sched_setparam",
    "sched_setattr",
    "ioprio_set",
    "migrate_pages",
    "move_pages",
    "init_module",
    "finit_module",
    "delete_module",
    "kexec_load",
    "kexec_file_load",
    "reboot",
    "swapon",
    "swapoff",
    "acct",
    "quotactl",
    "syslog",
    "settimeofday",
    "clock_settime",
    "adjtimex",
    "clock_adjtime",
    "sethostname",
    "setdomainname",
    "iopl",
    "ioperm",
    "modify_ldt",
    "lookup_dcookie",
]
"""What no model needs: reaching into other processes, the kernel's riskier doors, and leaving the
process group, with which everything that a replica has started is ended."""


class Argument(NamedTuple):
    """What one argument, masked, must be for the call to be allowed."""

    place: int
    allowed: Sequence[int]
    mask: int = _WORD


class Rule(NamedTuple):
    """A call that is allowed when all these arguments are as they must be; never, when none is named."""

    call: str
    arguments: Sequence[Argument] = ()
    error: int = errno.EPERM


def is_available(machine: str) -> bool:
    """Whether this kernel filters system calls, and the numbers of this machine are known."""
    try:
        prctl(_PR_GET_SECCOMP)
    except OSError:
        return False
    return machine in ARCHITECTURES


def rules_of(*, network: bool, own_signals: int | None) -> list[Rule]:
    """The rules of a replica.

    Without `network` no socket can be made and none connected: what listens must be bound before.
    With it, only internet sockets, so that no other process's Unix socket can be reached either way.
    `own_signals` is the one process that may then be signalled, where Landlock does not see to it.
    """
    any_of_stream = Argument(1, (socket.SOCK_STREAM, socket.SOCK_SEQPACKET), 0xF)
    internet = (socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)
    rules = [Rule(name) for name in REFUSED]
    rules += [
        Rule("clone", (Argument(0, (0,), _NEW_NAMESPACES),)),
        Rule("clone3", error=errno.ENOSYS),  # its flags are out of sight; glibc then uses clone
        Rule("prlimit64", (Argument(0, (0,)),)),
        Rule("setpriority", (Argument(0, (0,)), Argument(1, (0,)))),
        # A datagram socket could send to any address, even as one of a pair.
        Rule("socketpair", (Argument(0, (socket.AF_UNIX,)), any_of_stream)),
    ]
    if network:
        rules.append(Rule("socket", (Argument(0, internet),)))
    else:
        rules += [Rule("socket"), Rule("connect")]
    return rules if own_signals is None else rules + _signals_to(own_signals)


def _signals_to(pid: int) -> list[Rule]:
    to_itself = (Argument(0, (pid,)),)
    return [
        Rule("kill", (Argument(0, (pid, 0)),)),  # 0: its group, which is its own
        Rule("tgkill", to_itself),
        Rule("rt_sigqueueinfo", to_itself),
        Rule("rt_tgsigqueueinfo", to_itself),
        Rule("tkill"),
        Rule("pidfd_send_signal"),
    ]


def install(rules: Iterable[Rule], machine: str) -> None:
    """Filters the calls of this thread, and of what it starts, for good.

    Raises:
        OSError: the kernel refuses.
    """
    program = program_of(rules, ARCHITECTURES[machine])
    code = buffer_of(program)
    header = struct.pack("@HxxxxxxQ", len(program) // 8, address_of(code))
    prctl(_PR_SET_SECCOMP, _MODE_FILTER, header)


def program_of(rules: Iterable[Rule], architecture: Architecture) -> bytes:
    """The filter's BPF instructions. Another architecture's calls end the process."""
    lines = [
        _line(_LOAD, _ARCHITECTURE_AT),
        _line(_JUMP_EQUAL, architecture.audit, skip_if_true=1),
        _line(_RETURN, _KILL),
        _line(_LOAD, _NUMBER_AT),
    ]
    if architecture.has_x32:
        lines += [
            _line(_JUMP_AT_LEAST, _X32, skip_if_false=1),
            _line(_RETURN, _ERRNO | errno.EPERM),
        ]
    for rule in rules:
        number = NUMBERS[rule.call][architecture.column]
        if number is not None:
            body = _body(rule)
            lines += [_line(_JUMP_EQUAL, number, skip_if_false=len(body)), *body]
    return b"".join([*lines, _line(_RETURN, _ALLOW)])


def _body(rule: Rule) -> list[bytes]:
    """What is done once the call is that one; every way through it ends with a return."""
    refusal = _line(_RETURN, _ERRNO | rule.error)
    if not rule.arguments:
        return [refusal]
    lines = []
    for argument in rule.arguments:
        lines.append(_line(_LOAD, _ARGUMENTS_AT + 8 * argument.place))
        if argument.mask != _WORD:
            lines.append(_line(_AND, argument.mask))
        for at, value in enumerate(argument.allowed):
            past_the_refusal = len(argument.allowed) - at
            lines.append(_line(_JUMP_EQUAL, value, skip_if_true=past_the_refusal))
        lines.append(refusal)
    return [*lines, _line(_RETURN, _ALLOW)]


def _line(code: int, value: int, *, skip_if_true: int = 0, skip_if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, skip_if_true, skip_if_false, value)
