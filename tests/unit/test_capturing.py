"""What an endpoint declares to be kept: what is refused, and what shape predictions have then."""

import pytest

from shipway.core.captures import Shape
from shipway.core.capturing import (
    Capture,
    Durability,
    How,
    Reading,
    Redact,
    kept_shape,
    require_fields,
)
from shipway.core.errors import InvalidSpec
from shipway.core.signature import Field, Layout, Signature
from shipway.core.spooling import MB, SpoolBounds
from shipway.core.strategies import Source
from shipway.core.tensors import DataType
from shipway.wire.specs import spec_of

SIGNATURE = Signature(
    layout=Layout.COLUMNS,
    inputs=(
        Field(name="customer", dtype=DataType.INT64, minimum=0.0),
        Field(name="email", dtype=DataType.STRING, categories=("a", "b")),
    ),
    outputs=(
        Field(name="label", dtype=DataType.INT64),
        Field(name="vector", dtype=DataType.FP32, shape=(-1, 3)),
    ),
)
SHAPE = Shape.of(environment="dev", endpoint="e", version=("m", 1), signature=SIGNATURE)


def test_all_of_capture_is_declared_in_a_spec():
    capture = {
        "share_pct": 10,
        "fields": ["customer", "label"],
        "durability": "synced",
        "keep_days": 7,
        "key": {"by": "input", "name": "customer"},
        "segment": {"name": "x-country"},
    }
    made = spec_of({"name": "e", "model": "m:1", "capture": capture}).capture
    assert made == Capture(
        share_pct=10.0,
        fields=("customer", "label"),
        durability=Durability.SYNCED,
        keep_days=7,
        key=Reading(by=Source.INPUT, name="customer"),
        segment=Reading(by=Source.HEADER, name="x-country"),
    )
    require_fields(made, SIGNATURE)


def test_nothing_is_captured_by_default_and_all_of_it_by_an_empty_capture():
    assert spec_of({"name": "e", "model": "m:1"}).capture is None
    capture = spec_of({"name": "e", "model": "m:1", "capture": {}}).capture
    assert capture == Capture()
    assert kept_shape(capture, SHAPE) == SHAPE
    require_fields(capture, SIGNATURE)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"share_pct": 0}, "share_pct"),
        ({"share_pct": 101}, "share_pct"),
        ({"keep_days": 0}, "keep_days"),
        ({"durability": "maybe"}, "durability"),
        ({"sgment": {}}, r"Did you mean `capture.segment`"),
        ({"key": {"nam": "x"}}, r"Did you mean `capture.key.name`"),
    ],
)
def test_a_capture_out_of_bounds_is_refused(given, words):
    with pytest.raises(InvalidSpec, match=words):
        spec_of({"name": "e", "model": "m:1", "capture": given})


@pytest.mark.parametrize(
    ("capture", "words"),
    [
        (Capture(fields=("customr",)), r"`capture.fields`: .* Did you mean `customer`"),
        (Capture(fields=("label", "label")), "named twice"),
        (Capture(key=Reading(by=Source.INPUT, name="mail")), "Did you mean `email`"),
        (Capture(key=Reading(by=Source.INPUT, name="label")), "no input or output `label`"),
        (Capture(key=Reading()), r"`capture.key`: `name` says which header"),
        (Capture(segment=Reading(name="Authorization")), r"`capture.segment`: .*credential"),
        (
            Capture(key=Reading(by=Source.INPUT, name="email"), redact=("email",)),
            "`email` is dropped",
        ),
    ],
)
def test_what_would_keep_nothing_or_too_much_is_refused(capture, words):
    with pytest.raises(InvalidSpec, match=words) as caught:
        require_fields(capture, SIGNATURE)
    assert "The fields are: `customer`, `email`" in caught.value.next_step


def test_a_hashed_input_may_be_the_key_and_an_api_key_needs_no_name():
    redact = (Redact(field="email", how=How.HASH),)
    require_fields(
        Capture(
            key=Reading(by=Source.INPUT, name="email"),
            segment=Reading(by=Source.KEY),
            redact=redact,
        ),
        SIGNATURE,
    )
    assert Capture(redact=redact).hashes
    assert Capture(segment=Reading(by=Source.KEY)).hashes
    assert not Capture(segment=Reading(name="x")).hashes


def test_the_kept_shape_has_neither_what_is_dropped_nor_what_is_not_named():
    shape = kept_shape(Capture(fields=("email", "customer", "label"), redact=("customer",)), SHAPE)
    assert [field.name for field in shape.inputs] == ["email"]
    assert [field.name for field in shape.outputs] == ["label"]


def test_hashed_fields_are_texts_in_the_kept_shape_one_for_each_row():
    rules = (Redact(field="customer", how=How.HASH), Redact(field="vector", how=How.HASH))
    shape = kept_shape(Capture(redact=rules), SHAPE)
    hashed = {
        f.name: f for f in (*shape.inputs, *shape.outputs) if f.name in ("customer", "vector")
    }
    assert {field.dtype for field in hashed.values()} == {DataType.STRING}
    assert {field.shape for field in hashed.values()} == {(-1,)}
    assert hashed["customer"].minimum is None


def test_masked_fields_keep_their_type():
    shape = kept_shape(Capture(redact=(Redact(field="customer", how=How.MASK),)), SHAPE)
    assert shape.inputs == SHAPE.inputs


def test_a_spool_leaves_room_for_others():
    bounds = SpoolBounds(most_bytes=1000, reserve_ratio=0.05, reserve_bytes=200)
    assert bounds.room_bytes(used=400, free=10**9, total=10**10) == 600
    assert bounds.room_bytes(used=0, free=700, total=10**6) == 500
    assert bounds.room_bytes(used=0, free=700, total=2000) == 600  # 5 % of it is less
    assert bounds.room_bytes(used=2000, free=10**9, total=10**10) == 0
    assert bounds.room_bytes(used=0, free=0, total=10**10) == 0


def test_a_segment_is_full_by_age_or_by_size():
    bounds = SpoolBounds()
    assert not bounds.is_full(age_s=1.9, size_bytes=8 * MB - 1)
    assert bounds.is_full(age_s=2.0, size_bytes=30)
    assert bounds.is_full(age_s=0.0, size_bytes=8 * MB)
