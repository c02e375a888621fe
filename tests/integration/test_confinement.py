"""Processes confined for real, each layer alone, and where a kernel has only some of them."""

import asyncio
import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from shipway.backends.confinement import Confinements
from shipway.backends.groups import ProcessGroups
from shipway.backends.port import ReplicaOrder
from shipway.backends.process import ProcessBackend
from shipway.backends.reach import readable
from shipway.confinement import landlock
from shipway.confinement.order import Order
from shipway.confinement.probing import probed
from shipway.core.errors import IsolationFailed
from shipway.core.isolation import Kernel, Sandbox, Strictness
from shipway.core.replicas import ReplicaState
from shipway.core.versions import VersionRef
from shipway.testing.live import INHERIT

SOURCE = Path(landlock.__file__).parents[2]
START = f"""
import errno, os, sys
sys.path.insert(0, {str(SOURCE)!r})
from shipway.confinement.confining import confine
from shipway.confinement.order import Order
confine(Order.from_json(sys.argv[1]))
def outcome(attempt):
    try:
        attempt()
    except OSError as exc:
        print(errno.errorcode[exc.errno])
    else:
        print("done")
"""
PYTHON = readable(
    Path(sys.executable), SOURCE, state_dir=Path("/nowhere"), libraries="", network=False,
    all_of_proc=False,
)  # fmt: skip


@pytest.fixture
def order(tmp_path):
    """A confinement that does nothing yet."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return Order(
        landlock_abi=0, seccomp=False, mounts=False, hides_processes=False, network=False,
        read=PYTHON, use=["/dev/null"], scratch=str(scratch), memory_bytes=0, processes=0,
        open_files=0, file_bytes=0, group="",
    )  # fmt: skip


def said(order, code, *, prefix=(), check=True, **options):
    command = [*prefix, sys.executable, "-S", "-c", START + code, order.to_json()]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, **options
    )
    assert done.returncode == 0 or not check, done.stderr
    return done.stdout.split() if check else done


def reading(path):
    return f"outcome(lambda: open({str(path)!r}).read())\n"


@contextmanager
def sleeping(order):
    """Another process of this user, as little privileged as the confined one."""
    code = START + "print(flush=True); __import__('time').sleep(600)"
    command = [sys.executable, "-S", "-c", code, order.to_json()]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.kill()


def test_landlock_alone_hides_files_and_other_processes(order, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("x")
    with sleeping(order) as other:
        code = "".join(
            reading(path)
            for path in (secret, f"/proc/{other}/environ", "/proc/self/environ", "/dev/null")
        )
        assert said(order, code) == ["done"] * 4
        confined = order._replace(landlock_abi=landlock.abi())
        assert said(confined, code) == ["EACCES", "EACCES", "done", "done"]
        # Not for want of a rule alone: it may not trace what is outside of its domain.
        confined = confined._replace(read=[*PYTHON, "/proc"])
        assert said(confined, code) == ["EACCES", "EACCES", "done", "done"]


@pytest.mark.parametrize("abi", range(1, 8))
def test_every_older_landlock_is_applied_as_it_is(order, tmp_path, abi):
    """As on the kernels that have no newer one: the structures and rights are those of that ABI."""
    if abi > landlock.abi():
        pytest.skip(f"this kernel's ABI is {landlock.abi()}")
    secret = tmp_path / "secret"
    secret.write_text("x")
    confined = order._replace(landlock_abi=abi)
    code = reading(secret) + "outcome(lambda: open('own', 'w').write('x'))\n"
    assert said(confined, code) == ["EACCES", "done"]


SIGNALS = f"""
import signal
signal.signal(signal.SIGUSR1, lambda *_: None)
outcome(lambda: os.kill({os.getpid()}, 0))
outcome(lambda: os.kill(os.getpid(), signal.SIGUSR1))
outcome(lambda: signal.raise_signal(signal.SIGUSR1))
outcome(lambda: signal.pidfd_send_signal(os.pidfd_open({os.getpid()}), 0))
"""


def test_the_filter_stops_signals_where_landlock_does_not(order):
    assert said(order, SIGNALS) == ["done"] * 4
    for abi in (0, 5):
        confined = order._replace(landlock_abi=abi, seccomp=True)
        assert said(confined, SIGNALS) == ["EPERM", "done", "done", "EPERM"]


CHILDREN = """
import signal
child = os.fork()
if child == 0:
    signal.pause()
outcome(lambda: os.kill(child, signal.SIGKILL))
"""


def test_a_process_may_end_its_own_children(order):
    confined = order._replace(landlock_abi=landlock.abi(), seccomp=True)
    assert said(confined, CHILDREN) == ["done"]


def test_the_filter_alone_stops_the_network(order):
    code = "import socket\n" + "".join(
        f"outcome(lambda: socket.socket({family}).close())\n"
        for family in ("socket.AF_INET", "socket.AF_INET6", "socket.AF_UNIX")
    )
    assert said(order, code) == ["done"] * 3
    assert said(order._replace(seccomp=True), code) == ["EPERM"] * 3
    declared = order._replace(seccomp=True, network=True)
    assert said(declared, code) == ["done", "done", "EPERM"]


def test_landlock_stops_tcp_where_the_filter_is_missing(order):
    """A second wall, from ABI 4 on."""
    code = """
import socket
with socket.socket() as s:
    outcome(lambda: s.connect(("127.0.0.1", 9)))
"""
    assert said(order, code) == ["ECONNREFUSED"]
    assert said(order._replace(landlock_abi=landlock.abi()), code) == ["EACCES"]


def test_private_mounts_keep_modes_and_shared_memory(order, tmp_path):
    file = tmp_path / "file"
    file.write_text("x")
    code = f"""
import tempfile
outcome(lambda: os.chmod({str(file)!r}, 0o600))
outcome(lambda: open("/dev/shm/own", "w").write("x"))
print(os.listdir("/dev/shm"))
print(len([name for name in os.listdir("/proc") if name.isdigit()]) > 1)
"""
    confined = order._replace(mounts=True, memory_bytes=2**30)
    assert said(confined, code) == ["EROFS", "done", "['own']", "True"]
    hidden = confined._replace(
        hides_processes=True, landlock_abi=landlock.abi(), read=[*PYTHON, "/proc"]
    )
    assert said(hidden, code)[-1] == "False"
    assert not Path("/dev/shm/own").exists()


def test_no_privilege_is_left_or_comes_back_with_another_program(order):
    code = """
import subprocess
text = subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True).stdout
print(*[line.split()[1] for line in text.splitlines() if line.startswith(("Cap", "NoNewPrivs"))])
"""
    assert said(order, code) == ["0" * 16] * 5 + ["1"]


@pytest.mark.parametrize(("before", "after"), [(0, 500), (900, 900)])
def test_when_memory_is_gone_a_replica_goes_first(order, before, after):
    prefix = ["sh", "-c", f'echo {before} > /proc/self/oom_score_adj; exec "$@"', "sh"]
    drop = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"]  # to lower it takes a privilege
    code = "print(open('/proc/self/oom_score_adj').read())"
    assert said(order, code, prefix=[*prefix, *drop]) == [str(after)]


def test_inherited_descriptors_are_closed(order, tmp_path):
    with (tmp_path / "open").open("w") as stream:
        code = f"outcome(lambda: os.fstat({stream.fileno()}))\n"
        assert said(order, code, pass_fds=[stream.fileno()]) == ["EBADF"]


def test_a_step_that_fails_ends_the_process(order):
    done = said(order._replace(scratch="/nowhere"), "print('on')", check=False)
    assert done.returncode != 0
    assert "its directory: No such file or directory" in done.stderr
    assert "on" not in done.stdout.split()


def test_the_kernel_is_asked_without_changing_this_process():
    mounts = os.readlink("/proc/self/ns/mnt")
    answer = json.loads(json.dumps(probed()))
    assert answer["landlock_abi"] == landlock.abi()
    assert os.readlink("/proc/self/ns/mnt") == mounts


def test_what_holds_the_state_is_readable_around_it(tmp_path):
    state = tmp_path / "project" / ".shipway"
    state.mkdir(parents=True)
    (tmp_path / "project" / "package").mkdir()
    bundle = state / "artifacts" / "bundle"
    found = readable(
        Path(sys.executable), bundle, state_dir=state, libraries=str(tmp_path), network=False,
        all_of_proc=True,
    )  # fmt: skip
    assert str(tmp_path / "project" / "package") in found
    inside = [path for path in found if Path(path).is_relative_to(state)]
    assert inside == [str(bundle)]
    assert not [path for path in found if state.is_relative_to(path)]


def test_what_is_installed_for_a_model_does_not_decide_what_it_reads(tmp_path):
    packages = tmp_path / "env" / "lib" / "python3" / "site-packages"
    packages.mkdir(parents=True)
    (tmp_path / "env" / "bin").mkdir()
    (tmp_path / "env" / "pyvenv.cfg").write_text("home = /usr/bin\n")
    (tmp_path / "secrets").mkdir()
    (packages / "evil.pth").write_text(f"{tmp_path / 'secrets'}\n")
    found = readable(
        tmp_path / "env" / "bin" / "python", tmp_path / "bundle", state_dir=tmp_path / "state",
        libraries="", network=False, all_of_proc=True,
    )  # fmt: skip
    assert str(tmp_path / "env") in found
    assert str(tmp_path / "secrets") not in found


def order_for(tmp_path, **sandbox):
    return ReplicaOrder(
        id="m-1-0-a", endpoint="m", version=VersionRef("m", 1), slot=0, generation=1,
        max_batch_rows=8, max_batch_delay_ms=5.0, digest="sha256:0", bundle_dir=tmp_path,
        environment=INHERIT, sandbox=Sandbox(**sandbox),
    )  # fmt: skip


def test_what_is_required_and_cannot_be_had_is_refused(tmp_path):
    old = Kernel(machine="x86_64", filters_calls=True)
    confinements = Confinements(tmp_path, kernel=lambda: old)
    confinements.open(alive=())
    assert not confinements.isolation_of(Sandbox()).is_complete
    with pytest.raises(IsolationFailed, match=r"files: the kernel has no Landlock"):
        confinements.isolation_of(Sandbox(isolation=Strictness.REQUIRED))


async def test_a_replica_whose_isolation_is_required_exits_before_its_environment_is_built(
    tmp_path,
):
    built = []
    backend = ProcessBackend(
        tmp_path / "state",
        clock=lambda: None,
        interpreter=lambda *_, **__: built.append(1),
        kernel=lambda: Kernel(machine="x86_64", filters_calls=True),
    )
    await backend.open()
    try:
        backend.start(order_for(tmp_path, isolation=Strictness.REQUIRED))
        while (replica := backend.observe()[0]).state is not ReplicaState.EXITED:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    finally:
        await backend.close()
    assert replica.code == "isolation_failed"
    assert built == []


@pytest.fixture
def groups(tmp_path):
    made = ProcessGroups(tmp_path)
    if not made.is_available:
        pytest.skip("no control groups can be made here")
    return made


def test_a_group_bounds_processes_and_ends_with_what_is_in_it(groups, order):
    group = groups.make("m", 20)
    code = """
children = []
def bomb():
    while True:
        child = os.fork()
        if child == 0:
            os.close(1), os.close(2)
            __import__("signal").pause()
        children.append(child)
outcome(bomb)
print(10 < len(children) < 20)
"""
    assert said(order._replace(group=str(group)), code) == ["EAGAIN", "True"]
    assert (group / "cgroup.procs").read_text() != ""
    groups.drop("m")
    assert not group.exists()


def test_groups_and_directories_of_the_dead_are_removed(groups, tmp_path):
    group = groups.make("dead", 20)
    scratch = tmp_path / "run" / "scratch" / "dead"
    scratch.mkdir(parents=True)
    Confinements(tmp_path).open(alive={"alive"})
    assert not group.exists()
    assert not scratch.exists()
