"""What can be enforced where, and what the filter of system calls answers."""

import errno
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipway.cli.endpoints import show_endpoint
from shipway.client.answers import Endpoint, Replica, Variant
from shipway.confinement import filtering
from shipway.confinement.landlock import files_handled
from shipway.confinement.numbering import ARCHITECTURES, NUMBERS
from shipway.core.endpoints import Phase
from shipway.core.errors import InvalidSpec
from shipway.core.isolation import Boundary, Kernel, Sandbox, in_words, isolation_on
from shipway.wire.specs import spec_of

MODERN = Kernel(machine="x86_64", landlock_abi=7, filters_calls=True, has_groups=True)
EVERYTHING, NETWORK = set(Boundary), {Boundary.NETWORK}
NO_LANDLOCK = {Boundary.FILES, Boundary.PROCESSES}
NO_FILTER = {Boundary.NETWORK, Boundary.SYSTEM_CALLS, Boundary.PROCESSES}
KERNELS = {
    "everything is there": ({}, set()),
    "no Landlock": ({"landlock_abi": 0}, NO_LANDLOCK),
    "Landlock that lets signals through, and the filter instead": ({"landlock_abi": 5}, set()),
    "neither for signals": (
        {"landlock_abi": 5, "filters_calls": False},
        NO_FILTER | {Boundary.SIGNALS},
    ),
    "no filter": ({"filters_calls": False}, NO_FILTER),
    "no private mounts": ({"mounts_refused": "no"}, {Boundary.FILE_MODES}),
    "neither for shared memory": (
        {"mounts_refused": "no", "landlock_abi": 0},
        NO_LANDLOCK | {Boundary.FILE_MODES, Boundary.SHARED_MEMORY},
    ),
    "root without groups": ({"has_groups": False, "is_root": True}, {Boundary.PROCESS_COUNT}),
    "a user without groups, in a namespace": ({"has_groups": False}, set()),
    "a user with neither": (
        {"has_groups": False, "mounts_refused": "no"},
        {Boundary.PROCESS_COUNT, Boundary.FILE_MODES},
    ),
    "nothing": (
        {"landlock_abi": 0, "filters_calls": False, "mounts_refused": "no", "has_groups": False},
        EVERYTHING - {Boundary.MEMORY, Boundary.PRIVILEGES, Boundary.OPEN_FILES},
    ),
}


@pytest.mark.parametrize("name", KERNELS)
def test_what_a_kernel_cannot_enforce_is_said_with_its_reason(name):
    lacks, missing = KERNELS[name]
    kernel = Kernel(
        machine="x86_64",
        **{"landlock_abi": 7, "filters_calls": True, "has_groups": True} | lacks,
    )
    isolation = isolation_on(kernel, Sandbox())
    assert {one.boundary for one in isolation.missing} == missing
    assert all(one.reason for one in isolation.missing)
    assert set(isolation.enforced) == EVERYTHING - missing
    assert isolation.is_complete == (not missing)
    assert all(boundary.value in in_words(isolation) for boundary in missing)


def test_a_declared_network_is_neither_enforced_nor_missing():
    for kernel in (MODERN, Kernel(machine="riscv64")):
        isolation = isolation_on(kernel, Sandbox(network=True))
        assert Boundary.NETWORK not in isolation.enforced
        assert Boundary.NETWORK not in {one.boundary for one in isolation.missing}


def verdict(program, *, audit, number, arguments):
    """What the kernel makes of a call: the classic BPF machine, for the instructions that occur."""
    data = struct.pack("=iIQ6Q", number, audit, 0, *arguments)
    lines = list(struct.iter_unpack("=HBBI", program))
    at = held = 0
    while True:
        code, if_true, if_false, value = lines[at]
        at += 1
        match code:
            case 0x20:
                (held,) = struct.unpack_from("=I", data, value)
            case 0x54:
                held &= value
            case 0x15:
                at += if_true if held == value else if_false
            case 0x35:
                at += if_true if held >= value else if_false
            case 0x06:
                return value


ALLOWED, KILLED = 0x7FFF0000, 0x80000000
OWN = 4711
words = st.integers(0, 2**64 - 1)
arguments = st.lists(
    st.one_of(words, st.sampled_from([0, 1, 2, 5, 10, 16, 0x80001, OWN, 0x20000])),
    min_size=6, max_size=6,
)  # fmt: skip
machines = st.sampled_from(sorted(ARCHITECTURES))
rule_sets = st.builds(
    filtering.rules_of, network=st.booleans(), own_signals=st.sampled_from([None, OWN])
)


def expected(rules, machine, number, given_arguments):
    for rule in rules:
        if NUMBERS[rule.call][ARCHITECTURES[machine].column] == number:
            fits = [given_arguments[a.place] & a.mask in a.allowed for a in rule.arguments]
            return ALLOWED if fits and all(fits) else 0x50000 | rule.error
    return ALLOWED


@given(rule_sets, machines, st.data(), arguments)
def test_the_filter_answers_what_its_rules_say(rules, machine, data, given_arguments):
    architecture = ARCHITECTURES[machine]
    known = sorted(
        number for pair in NUMBERS.values() if (number := pair[architecture.column]) is not None
    )
    number = data.draw(st.one_of(st.sampled_from(known), st.integers(0, 600)))
    program = filtering.program_of(rules, architecture)
    found = verdict(program, audit=architecture.audit, number=number, arguments=given_arguments)
    assert found == expected(rules, machine, number, given_arguments)


def test_calls_of_another_architecture_end_the_process_and_those_of_x32_are_refused():
    architecture = ARCHITECTURES["x86_64"]
    program = filtering.program_of(
        filtering.rules_of(network=False, own_signals=None), architecture
    )
    zeros = [0] * 6
    i386 = 0x40000003
    assert verdict(program, audit=i386, number=1, arguments=zeros) == KILLED
    x32_socket = 0x40000000 + NUMBERS["socket"][0]
    found = verdict(program, audit=architecture.audit, number=x32_socket, arguments=zeros)
    assert found == 0x50000 | errno.EPERM


def test_no_rule_is_hidden_by_an_earlier_one():
    for network in (False, True):
        calls = [rule.call for rule in filtering.rules_of(network=network, own_signals=OWN)]
        assert len(calls) == len(set(calls))


def test_pairs_of_stream_sockets_stay_for_event_loops():
    (rule,) = [
        r for r in filtering.rules_of(network=False, own_signals=None) if r.call == "socketpair"
    ]
    flags = socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    kind = next(a for a in rule.arguments if a.place == 1)
    assert (socket.SOCK_STREAM | flags) & kind.mask in kind.allowed
    assert (socket.SOCK_DGRAM | flags) & kind.mask not in kind.allowed


def test_each_landlock_abi_denies_what_it_knows_of():
    assert [files_handled(abi).bit_length() for abi in (1, 2, 3, 4, 5, 7)] == [
        13,
        14,
        15,
        15,
        16,
        16,
    ]


@pytest.mark.parametrize(
    ("sandbox", "message"),
    [
        ({"netwrok": True}, "Did you mean `sandbox.network`"),
        ({"memory_mb": 1}, "sandbox.memory_mb"),
        ({"processes": 0}, "sandbox.processes"),
        ({"isolation": "off"}, "sandbox.isolation"),
    ],
)
def test_a_sandbox_that_makes_no_sense_is_refused(sandbox, message):
    with pytest.raises(InvalidSpec, match=message):
        spec_of({"name": "churn", "model": "churn:1", "sandbox": sandbox})


def test_people_are_shown_what_is_missing_once(capsys):
    missing = isolation_on(
        Kernel(machine="x86_64", landlock_abi=7, filters_calls=True, is_root=True), Sandbox()
    )
    replicas = tuple(Replica(id=name, isolation=missing) for name in "ab")
    variant = Variant(version="churn:1", replicas=replicas)
    show_endpoint(Endpoint(name="churn", phase=Phase.LIVE, variants=(variant,)), None)
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.count("Replicas of churn are isolated in part: process_count: limits on") == 1


def test_nothing_is_said_where_all_is_enforced(capsys):
    replica = Replica(id="a", isolation=isolation_on(MODERN, Sandbox()))
    variant = Variant(version="churn:1", replicas=(replica,))
    show_endpoint(Endpoint(name="churn", phase=Phase.LIVE, variants=(variant,)), None)
    assert "isolated" not in capsys.readouterr().out
