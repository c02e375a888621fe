"""Bytes that are told apart without any framework."""

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shipway.bundles.formats.protobuf import ends_early, looks_like_onnx
from shipway.bundles.formats.ubjson import is_whole


def text(value):
    raw = value.encode()
    return b"L" + struct.pack(">q", len(raw)) + raw


def written(value):
    """The value in UBJSON, as XGBoost writes it."""
    match value:
        case bool():
            return b"T" if value else b"F"
        case int():
            return b"L" + struct.pack(">q", value)
        case float():
            return b"d" + struct.pack(">f", value)
        case str():
            return b"S" + text(value)
        case bytes():
            return b"[$U#L" + struct.pack(">q", len(value)) + value
        case list():
            items = b"".join(written(item) for item in value)
            return (
                b"[#L" + struct.pack(">q", len(value)) + items
                if len(value) % 2
                else b"[" + items + b"]"
            )
        case dict():
            return b"{" + b"".join(text(k) + written(v) for k, v in value.items()) + b"}"


SCALARS = (
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(width=32)
    | st.text(max_size=5)
    | st.binary(max_size=9)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.text(max_size=6), VALUES, max_size=5)


@given(OBJECTS)
def test_whole_ubjson_is_whole(value):
    assert is_whole(written(value))


@given(OBJECTS, st.data())
def test_shortened_ubjson_is_not_whole(value, data):
    content = written(value)
    assert not is_whole(content[: data.draw(st.integers(0, len(content) - 1))])


@given(st.binary(max_size=200))
def test_any_bytes_are_judged_without_an_error(content):
    assert is_whole(content) in (True, False)
    assert is_whole(b"{" + content) in (True, False)


@given(content=st.binary(max_size=200))
@example(content=b"\x02" + b"\x80" * 6 + b"\x04")  # a length that no file position can hold
def test_any_bytes_after_an_ir_version_are_judged_without_an_error(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "bytes.bin"
    path.write_bytes(b"\x08\x07" + content)
    assert looks_like_onnx(path) in (True, False)
    assert ends_early(path) in (True, False)


@pytest.mark.parametrize("content", [b"", b"\x08", b"\x08\x00", b"plain text", b"{}", b"\x80\x04"])
def test_other_bytes_are_no_onnx(tmp_path, content):
    path = tmp_path / "m"
    path.write_bytes(content)
    assert not looks_like_onnx(path)
