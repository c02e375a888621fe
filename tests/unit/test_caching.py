"""The keys of inputs, and answers kept within a time and a size; no clock, no gateway."""

import gc
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shipway.core.caching import KeptAnswers, compile_key, size_of
from shipway.core.endpoints import Cache
from shipway.core.signature import Field, Layout, Signature
from shipway.core.tensors import DataType
from shipway.core.validation import compile_validator
from shipway.wire.answers import decode_answer, encode_answer, name_of
from shipway.wire.open_inference import decode_request, encode_request

TABLE = Signature(
    layout=Layout.COLUMNS,
    inputs=(
        Field(name="age", dtype=DataType.FP64, nullable=True),
        Field(name="plan", dtype=DataType.STRING, nullable=True),
        Field(name="visits", dtype=DataType.INT64, nullable=True),
    ),
    outputs=(Field(name="label", dtype=DataType.INT64),),
)
TENSORS = Signature(
    layout=Layout.TENSORS,
    inputs=(
        Field(name="a", dtype=DataType.FP32, shape=(-1, -1)),
        Field(name="b", dtype=DataType.BYTES, shape=(-1,)),
    ),
    outputs=(),
)
conform, key_of = compile_validator(TABLE), compile_key("sha256:1", TABLE, Cache())
KEYS = [bytes([n]) * 32 for n in range(10)]


def objects(*items):
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


def key(**columns):
    return key_of(conform(columns))


def answer(n, floats=100):
    return {"y": np.full(floats, n, np.float64)}


def test_one_input_has_one_key_however_it_is_spelled():
    plain = {"age": np.array([41.0]), "plan": objects("basic"), "visits": np.array([3])}
    spelled = [
        b'{"inputs":[{"name":"age","shape":[1],"datatype":"FP64","data":[41]},'
        b'{"name":"plan","shape":[1],"datatype":"BYTES","data":["basic"]},'
        b'{"name":"visits","shape":[1],"datatype":"INT64","data":[3]}]}',
        b'{"id":"7","inputs":[{"name":"visits","shape":[1,1],"datatype":"INT64","data":[[3.0]]},'
        b'{"name":"plan","shape":[1],"datatype":"BYTES","data":["\\u0062asic"]},'
        b'{"name":"age","shape":[1],"datatype":"FP64","data":[4.10e1]}],'
        b'"outputs":[{"name":"label"}]}',
    ]
    body, length = encode_request(plain, binary=True)
    asked = [decode_request(text) for text in spelled]
    asked.append(decode_request(body, header_length=length))
    assert {key_of(conform(request.inputs)) for request in asked} == {key(**plain)}


def test_byte_order_and_memory_order_make_no_difference():
    plain = key(age=np.array([1.5, 2.5]), plan=objects("a", "b"), visits=np.array([1, 2]))
    strided = np.array([1.5, 0, 2.5, 0], dtype=">f8")[::2]
    visits = np.array([1, 2], dtype=np.longlong)
    assert key(age=strided, plan=objects("a", "b"), visits=visits) == plain


def test_every_nan_is_the_one_null_and_minus_zero_is_not_zero():
    odd = np.array([0x7FF8000000000123, 0xFFF8000000000001], dtype=np.uint64).view(np.float64)
    rest = {"plan": objects("a", None), "visits": np.array([1, 2])}
    nulls = key(age=np.array([np.nan, np.nan]), **rest)
    assert key(age=odd, **rest) == nulls
    assert key(age=objects(None, None), **rest) == nulls
    one = {"plan": objects("a"), "visits": np.array([1])}
    assert key(age=np.array([0.0]), **one) != key(age=np.array([-0.0]), **one)


def test_text_that_is_not_unicode_has_no_key():
    assert key(age=np.ones(1), plan=objects("\ud800"), visits=np.ones(1)) is None


@pytest.mark.parametrize(
    ("digest", "cache"), [("sha256:2", Cache()), ("sha256:1", Cache(ttl_s=1)), ("", Cache())]
)
def test_another_version_or_time_has_other_keys(digest, cache):
    inputs = conform({"age": np.ones(1), "plan": objects("a"), "visits": np.ones(1)})
    assert compile_key(digest, TABLE, cache)(inputs) != key_of(inputs)


texts = st.none() | st.text(max_size=3)
rows = st.lists(st.tuples(st.sampled_from([0.0, 1.0, None]), texts, st.sampled_from([0, 1, None])))


@given(rows.filter(bool), rows.filter(bool))
def test_keys_are_equal_exactly_when_tables_are(one, other):
    def of(table):
        columns = zip(*table, strict=True)
        return key(
            **dict(zip(("age", "plan", "visits"), (objects(*c) for c in columns), strict=True))
        )

    assert (of(one) == of(other)) == (one == other)


matrices = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=3),
    elements=st.sampled_from([0, 1]),
)
blobs = st.lists(st.sampled_from([b"", b"\x00", b"\x00\x00", b"a"]), max_size=3)


@given(matrices, blobs, matrices, blobs)
def test_values_shapes_and_the_seams_between_inputs_are_told_apart(a, b, c, d):
    of = compile_key("sha256:1", TENSORS, Cache())
    one = of({"a": a, "b": objects(*b)})
    other = of({"a": c, "b": objects(*d)})
    assert (one == other) == (a.shape == c.shape and bool((a == c).all()) and b == d)


def test_answer_is_given_for_its_time_and_not_a_moment_longer():
    kept = KeptAnswers(ttl_s=10, max_bytes=10_000)
    kept.put(KEYS[0], answer(1), now=100)
    assert kept.get(KEYS[0], now=109.9)["y"][0] == 1
    assert kept.get(KEYS[0], now=110) is None
    assert (len(kept), kept.size_bytes) == (0, 0)


def test_use_does_not_make_an_answer_younger():
    kept = KeptAnswers(ttl_s=10, max_bytes=10_000)
    kept.put(KEYS[0], answer(1), now=0)
    kept.get(KEYS[0], now=9)
    kept.put(KEYS[1], answer(2), now=9)
    kept.expire(now=10)
    assert kept.get(KEYS[0], now=10) is None
    assert kept.get(KEYS[1], now=10) is not None


def test_answer_unused_for_longest_makes_room():
    size = size_of(answer(0))
    kept = KeptAnswers(ttl_s=10, max_bytes=3 * size)
    for n in range(3):
        kept.put(KEYS[n], answer(n), now=0)
    kept.get(KEYS[0], now=1)
    kept.put(KEYS[3], answer(3), now=2)
    assert [kept.get(KEYS[n], now=3) is not None for n in range(4)] == [True, False, True, True]


def test_answer_over_the_bound_is_not_kept_and_takes_nobodys_place():
    kept = KeptAnswers(ttl_s=10, max_bytes=2 * size_of(answer(0)))
    kept.put(KEYS[0], answer(0), now=0)
    kept.put(KEYS[1], answer(1, floats=10_000), now=0)
    assert kept.get(KEYS[1], now=1) is None
    assert kept.get(KEYS[0], now=1) is not None


def test_what_is_kept_is_its_own_and_nobody_can_write_it():
    large = np.zeros((1000, 10))
    kept = KeptAnswers(ttl_s=10, max_bytes=10_000)
    kept.put(KEYS[0], {"y": large[:1]}, now=0)
    large[:] = 7
    given_out = kept.get(KEYS[0], now=1)["y"]
    assert (given_out.base, given_out.sum()) == (None, 0)
    with pytest.raises(ValueError, match="read-only"):
        given_out[:] = 1


operations = st.lists(
    st.tuples(
        st.sampled_from(["put", "get", "expire"]), st.sampled_from(KEYS), st.integers(0, 300)
    ),
    max_size=60,
)


@given(operations, st.integers(1, 8000))
def test_bound_and_count_hold_whatever_happens(done, max_bytes):
    kept, now, made = KeptAnswers(ttl_s=5, max_bytes=max_bytes), 0.0, {}
    for what, name, number in done:
        now += number % 3
        if what == "put":
            kept.put(name, answer(number, floats=number), now)
            made[name] = (number, now)
        elif what == "expire":
            kept.expire(now)
        elif (found := kept.get(name, now)) is not None:
            number_made, at = made[name]
            assert now < at + 5
            assert len(found["y"]) == number_made
        assert 0 <= kept.size_bytes <= max_bytes
        assert (kept.size_bytes == 0) == (len(kept) == 0)


@pytest.mark.parametrize(
    "make",
    [
        lambda n: {"label": np.array([n]), "probabilities": np.full((1, 3), n, np.float32)},
        lambda n: {"y": np.full(2000, n, np.float64)},
        lambda n: {"text": objects(*(f"answer {n} {i}" for i in range(20)))},
    ],
)
def test_counted_size_is_the_memory_taken(make):
    kept = KeptAnswers(ttl_s=10, max_bytes=1 << 30)
    gc.collect()
    tracemalloc.start()
    try:
        for n in range(2000):
            kept.put(n.to_bytes(32, "big"), make(n), now=0)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.8 < kept.size_bytes / taken < 1.7


def test_answers_survive_a_shared_store():
    outputs = {"label": objects("a", None, "ü"), "p": np.eye(3, dtype=np.float32)}
    back = decode_answer(KEYS[0], encode_answer(KEYS[0], outputs))
    assert list(back) == ["label", "p"]
    assert back["label"].tolist() == ["a", None, "ü"]
    np.testing.assert_array_equal(back["p"], outputs["p"])
    assert name_of(KEYS[1]).startswith("shipway:answer:1:0101")


@given(st.data())
def test_bytes_that_were_not_made_for_the_key_are_no_answer(data):
    value = encode_answer(KEYS[0], answer(1, floats=3))
    assert decode_answer(KEYS[1], value) is None
    assert decode_answer(KEYS[0], data.draw(st.binary(max_size=60))) is None
    at = data.draw(st.integers(0, len(value) - 1))
    changed = bytearray(value)
    changed[at] ^= data.draw(st.integers(1, 255))
    assert decode_answer(KEYS[0], bytes(changed)) is None
    assert decode_answer(KEYS[0], value[:at]) is None
