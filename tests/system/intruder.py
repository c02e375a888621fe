"""A model that tries what no model may; also run as a plain script, where nothing stops it.

`PLACES` is written in front of it: what there is to reach, by name. Every attempt gives 0 when it
worked, else the kernel's errno.
"""

import ctypes
import errno
import json
import mmap
import os
import signal
import socket
import stat
import struct
import sys
import tempfile
import time

PLACES = globals().get("PLACES", {})
SYSCALL = ctypes.CDLL(None, use_errno=True).syscall
IO_URING_SETUP, PROCESS_VM_READV, PTRACE, UNSHARE, PRLIMIT = 425, 310, 101, 272, 302
PTRACE_SEIZE, PTRACE_INTERRUPT, CLONE_FS = 0x4206, 0x4207, 0x200
MB = 1024 * 1024


def call(number, *arguments):
    if SYSCALL(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def read(name):
    def attempt():
        with open(PLACES[name], "rb") as stream:
            stream.read(16)

    return attempt


def listing(name):
    return lambda: os.listdir(PLACES[name])


def write(directory):
    def attempt():
        path = os.path.join(PLACES[directory], "left-behind")
        with open(path, "w") as stream:
            stream.write("x")
        os.unlink(path)

    return attempt


def of_process(pid, name):
    def attempt():
        with open(f"/proc/{PLACES[pid]}/{name}", "rb") as stream:
            stream.read(0)

    return attempt


def tcp(name):
    def attempt():
        with socket.socket(socket.AF_INET) as sock:
            sock.connect(("127.0.0.1", PLACES[name]))

    return attempt


def udp():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", ("127.0.0.1", 9))


def netlink():
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close()


def neighbour_socket():
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(PLACES["neighbour_socket"])


def neighbour_datagram():
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    left.close()
    right.close()


def door_as_client():
    """With the socket on which this replica listens, to another's."""
    for number in range(3, 64):
        try:
            is_socket = stat.S_ISSOCK(os.fstat(number).st_mode)
        except OSError:
            continue
        if is_socket:
            with socket.socket(fileno=os.dup(number)) as sock:
                if sock.family == socket.AF_UNIX and sock.getsockname():
                    sock.connect(PLACES["neighbour_socket"])
                    return
    raise OSError(errno.ENOENT, "it does not listen")


def signal_to(name):
    return lambda: os.kill(PLACES[name], 0)


def signal_by_handle():
    handle = os.pidfd_open(PLACES["victim"])
    try:
        signal.pidfd_send_signal(handle, 0)
    finally:
        os.close(handle)


def read_memory():
    call(PROCESS_VM_READV, PLACES["victim"], None, 0, None, 0, 0)


def trace():
    call(PTRACE, PTRACE_SEIZE, PLACES["victim"], 0, 0)


def limit_others():
    limits = ctypes.create_string_buffer(struct.pack("=QQ", 4096, 4096))
    call(PRLIMIT, PLACES["victim"], 7, limits, None)


def own_namespace():
    call(UNSHARE, CLONE_FS)


def ring():
    call(IO_URING_SETUP, 0, None)


def session():
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
        except OSError as exc:
            os._exit(exc.errno)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        raise OSError(code, os.strerror(code))


def change_mode():
    os.chmod(PLACES["database"], 0o644)


def others_shared_memory():
    with open("/dev/shm/" + PLACES["shared_memory"], "rb"):
        pass


def many_files():
    found = []
    try:
        while len(found) < 1000:
            found.append(os.open("/dev/null", os.O_RDONLY))
    finally:
        for one in found:
            os.close(one)


def much_memory():
    mmap.mmap(-1, 1500 * MB, mmap.MAP_PRIVATE).close()


def much_memory_in_python():
    bytearray(1500 * MB)


def many_processes():
    children = []
    try:
        while len(children) < 200:
            child = os.fork()
            if child == 0:
                time.sleep(60)
                os._exit(0)
            children.append(child)
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def large_file():
    with tempfile.TemporaryFile() as stream:
        os.ftruncate(stream.fileno(), 300 * MB)


ATTEMPTS = {
    "read the control database": read("database"),
    "read a key": read("key"),
    "read the server's log": read("log"),
    "read another model's bundle": read("neighbour_bundle"),
    "list another replica's directory": listing("neighbour_scratch"),
    "list the home directory": listing("home"),
    "read the variables of control": of_process("control", "environ"),
    "read the memory of control": of_process("control", "mem"),
    "read the command line of control": of_process("control", "cmdline"),
    "write where temporary files are": write("tmp"),
    "write into its own bundle": write("own_bundle"),
    "write among the packages": write("packages"),
    "change the database's mode": change_mode,
    "open others' shared memory": others_shared_memory,
    "connect to control": tcp("control_port"),
    "connect to the gateway": tcp("gateway_port"),
    "connect to a listener on loopback": tcp("listener_port"),
    "send a datagram": udp,
    "ask the kernel by netlink": netlink,
    "connect to another replica": neighbour_socket,
    "make datagram sockets": neighbour_datagram,
    "connect with its own socket": door_as_client,
    "signal control": signal_to("control"),
    "signal a process of the user": signal_to("victim"),
    "signal by a handle": signal_by_handle,
    "read another's memory": read_memory,
    "trace a process": trace,
    "set another's limits": limit_others,
    "leave its namespaces": own_namespace,
    "make an io_uring": ring,
    "leave its process group": session,
    "open many files": many_files,
    "map much memory": much_memory,
    "allocate much memory": much_memory_in_python,
    "start many processes": many_processes,
    "write a large file": large_file,
}


def outcome(name):
    try:
        ATTEMPTS[name]()
    except OSError as exc:
        return exc.errno
    except MemoryError:
        return errno.ENOMEM
    return 0


def outcomes(names=tuple(ATTEMPTS)):
    return {name: outcome(name) for name in names}


AT_IMPORT = outcomes() if PLACES and __name__ != "__main__" else {}


class Model:
    def predict(self, inputs):
        """By number: an attempt now, or from 1000 on what it gave at import; -1: does it still work."""
        names = list(ATTEMPTS)
        given = [int(x) for x in inputs["x"]]
        return {
            "y": [AT_IMPORT[names[x - 1000]] if x >= 1000 else outcome(names[x]) for x in given]
        }


if __name__ == "__main__":
    json.dump(outcomes(), sys.stdout)
