"""Bytes of strangers end well: valid ones changed at random, a few seconds of them. `make fuzz` goes on."""

import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from seeds import SEEDS
from targets import TARGETS

EXAMPLES = 60
LONGEST_S = 5.0
ALL = {name: tuple(dict.fromkeys(make())) for name, make in SEEDS.items()}


def test_every_target_has_seeds():
    assert set(SEEDS) == set(TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_known_shapes_end_well_and_soon(name):
    for seed in ALL[name]:
        began = time.process_time()
        TARGETS[name](seed)
        assert time.process_time() - began < LONGEST_S, seed[:100]


@st.composite
def changed(draw, seeds):
    """A seed, or two cut together, with some of its bytes changed, repeated, left out or put in."""
    data = bytearray(draw(st.sampled_from(seeds)))
    if draw(st.integers(0, 3)) == 0:
        other = draw(st.sampled_from(seeds))
        data[draw(_place(data)) :] = other[draw(_place(other)) :]
    for _ in range(draw(st.integers(0, 6))):
        at = draw(_place(data))
        change = draw(st.sampled_from(("set", "put", "drop", "repeat")))
        if change == "set":
            data[at : at + 1] = bytes((draw(st.integers(0, 255)),))
        elif change == "put":
            data[at:at] = draw(st.binary(max_size=8) | st.sampled_from(TOKENS))
        elif change == "drop":
            del data[at : at + draw(st.integers(1, 16))]
        else:
            data[at:at] = data[at : at + 16] * draw(st.integers(1, 20))
    return bytes(data)


def _place(data):
    return st.integers(0, max(0, len(data) - 1))


TOKENS = (
    b"NaN", b"1e999", b"-0", b"9" * 400, b"\\ud800", b"null", b"[[", b"{}", b'"b64"', b"\xff", b"\0",
    b"\r\n", b"\n", b"\r\n\r\n", b"\xef\xbb\xbf", b"18446744073709551616", b"-1", b"\x7f\xff\xff\xff",
    b"\x80\x00\x00\x00", b"*a", b"&a ", b"!!int ", b": ", b"Infinity", b"\x1b[31m", b"%2f",
)  # fmt: skip


@pytest.mark.parametrize("name", TARGETS)
def test_changed_bytes_end_well(name):
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(changed(ALL[name]) | st.binary(max_size=200))
    def search(data):
        began = time.process_time()
        TARGETS[name](data)
        assert time.process_time() - began < LONGEST_S

    search()
