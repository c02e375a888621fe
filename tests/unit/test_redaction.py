"""What a rule is about is in nothing that is written; all else is as it was."""

from __future__ import annotations

import json
from contextlib import suppress

import msgspec
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from shipway.core.bundles import ModelConfig
from shipway.core.capturing import Capture, How, Redact, require_fields
from shipway.core.errors import InvalidInput, InvalidSpec, ModelFailed
from shipway.core.redaction import NOTHING, TOKEN_CHARACTERS, Redaction
from shipway.core.signature import Field, Layout, Signature
from shipway.core.summaries import Summary, label_output
from shipway.core.tensors import DataType
from shipway.wire.specs import spec_of

KEY = b"k" * 32
SIGNATURE = Signature(
    layout=Layout.COLUMNS,
    inputs=(
        Field(name="email", dtype=DataType.STRING),
        Field(name="age", dtype=DataType.INT64),
        Field(name="payload", dtype=DataType.STRING),
        Field(name="a.b", dtype=DataType.FP64),
    ),
    outputs=(Field(name="label", dtype=DataType.STRING),),
)
WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
LONG = st.text(st.characters(codec="utf-8"), min_size=16, max_size=30)


def redaction_of(how, field="x", keep=4, key=KEY):
    return Redaction(Capture(redact=(Redact(field=field, how=how, keep=keep),)), key)


def texts(*items):
    made = np.empty(len(items), dtype=object)
    made[:] = items
    return made


arrays = npst.arrays(
    st.one_of(
        npst.integer_dtypes(endianness="="), npst.floating_dtypes(sizes=(32, 64), endianness="=")
    ),
    npst.array_shapes(max_dims=2, max_side=4),
)


@given(arrays, st.sampled_from(How))
def test_what_has_no_rule_is_the_very_same_array(array, how):
    kept = redaction_of(how).arrays({"x": array, "y": array})
    assert kept["y"] is array
    assert ("x" in kept) == (how is not How.DROP)


@given(st.lists(st.one_of(st.none(), WORDS), min_size=1, max_size=8))
def test_hashes_are_equal_exactly_where_the_values_are_and_nulls_stay(items):
    hashed = redaction_of(How.HASH).arrays({"x": texts(*items)})["x"].tolist()
    assert [token is None for token in hashed] == [item is None for item in items]
    for one, token in zip(items, hashed, strict=True):
        assert token is None or (len(token) == TOKEN_CHARACTERS and token != one)
        for other, its in zip(items, hashed, strict=True):
            assert (one == other) == (token == its)


@given(WORDS)
def test_without_the_key_no_dictionary_finds_a_value(text):
    mine, theirs = (redaction_of(How.HASH, key=key).token(text) for key in (KEY, b"other" * 8))
    assert mine != theirs
    assert mine == redaction_of(How.HASH).arrays({"x": texts(text)})["x"][0]


@given(st.integers(-(2**53) + 1, 2**53 - 1))
def test_one_number_has_one_token_whatever_its_type(number):
    hashed = redaction_of(How.HASH)
    forms = {hashed.token(form) for form in (number, float(number), str(number), np.int64(number))}
    forms.add(hashed.arrays({"x": np.array([number], dtype=np.float64)})["x"][0])
    assert len(forms) == 1


def test_text_and_its_bytes_have_one_token():
    hashed = redaction_of(How.HASH)
    assert hashed.token("Zoë") == hashed.token("Zoë".encode())


@given(npst.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(2, 5))))
def test_a_row_of_a_tensor_is_hashed_as_a_whole(array):
    hashed = redaction_of(How.HASH).arrays({"x": array})["x"]
    assert hashed.shape == (len(array),)
    alike = [[one.tobytes() == other.tobytes() for other in array] for one in array]
    assert [[one == other for other in hashed] for one in hashed] == alike


@given(LONG, st.integers(0, 8))
def test_a_masked_text_shows_its_end_alone(text, keep):
    (shown,) = redaction_of(How.MASK, keep=keep).arrays({"x": texts(text)})["x"]
    assert shown == "****" + (text[-keep:] if keep else "")
    assert redaction_of(How.MASK, keep=keep).values({"x": text}) == {"x": shown}


@given(st.text(max_size=7))
def test_a_text_not_twice_as_long_as_what_is_kept_shows_nothing(text):
    assert redaction_of(How.MASK, keep=4).values({"x": [text]}) == {"x": ["****"]}


integers = npst.arrays(
    npst.integer_dtypes(endianness="="), npst.array_shapes(max_dims=2, max_side=4)
)


@given(integers, st.integers(0, 8))
def test_masked_numbers_keep_type_shape_and_last_digits(array, keep):
    masked = redaction_of(How.MASK, keep=keep).arrays({"x": array})["x"]
    assert (masked.dtype, masked.shape) == (array.dtype, array.shape)
    for number, shown in zip(array.ravel().tolist(), masked.ravel().tolist(), strict=True):
        size = abs(number)
        expected = size % 10**keep if len(str(size)) >= 2 * keep else 0
        assert shown == expected
        assert redaction_of(How.MASK, keep=keep).values({"x": number}) == {"x": shown}


@given(st.floats(width=32), st.integers(0, 8))
def test_masked_floats_keep_the_last_digits_of_their_whole_part(number, keep):
    array = np.array([number], dtype=np.float32)
    (shown,) = redaction_of(How.MASK, keep=keep).arrays({"x": array})["x"].tolist()
    if not np.isfinite(number):
        assert np.isnan(shown)
    else:
        size = int(abs(number))
        assert shown == np.float32(size % 10**keep if len(str(size)) >= 2 * keep else 0)


def test_a_masked_flag_says_nothing():
    masked = redaction_of(How.MASK)
    assert masked.arrays({"x": np.array([True, False])})["x"].tolist() == [False, False]
    assert masked.values({"x": True}) == {"x": None}


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-1000, 1000), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=12,
)
CANARY = "canary-9d1e-canary"
"""Too long to be any part of what hypothesis makes."""


@given(json_values, st.sampled_from(How), st.integers(0, 2))
def test_no_value_at_a_path_is_left_at_any_depth(other, how, depth):
    value = {"email": CANARY, "also": other}
    for _ in range(depth):
        value = {"c": [value, other]}
    field = ".".join(["payload", *["c"] * depth, "email"])
    rules = redaction_of(how, field=field, keep=0)
    as_text = json.dumps(value)
    kept = rules.values({"payload": value})
    cell = rules.arrays({"payload": texts(as_text, None)})["payload"]
    assert CANARY not in json.dumps(kept)
    assert CANARY not in cell[0]
    assert json.loads(cell[0]) == kept["payload"]
    assert cell[1] is None


@given(json_values)
def test_json_without_a_rule_about_it_is_the_same(value):
    rules = redaction_of(How.HASH, field="payload.x.y")
    assert rules.values({"payload": value, "other": value}) == {"payload": value, "other": value}


@given(st.one_of(st.text(), st.binary()))
def test_text_that_is_no_json_object_or_list_is_dropped_whole(text):
    with suppress(ValueError):
        assume(not isinstance(json.loads(text), dict | list))
    kept = redaction_of(How.HASH, field="x.email").arrays({"x": texts(text)})["x"]
    assert kept.tolist() == [None]


def test_text_nested_too_deep_to_read_is_dropped():
    kept = redaction_of(How.HASH, field="x.email").arrays({"x": texts("[" * 10**5)})["x"]
    assert kept.tolist() == [None]


@given(st.sampled_from([How.HASH, How.MASK]), st.lists(LONG, min_size=1, max_size=3))
def test_a_rule_about_a_container_is_about_all_inside(how, items):
    kept = redaction_of(how, keep=0).values({"x": {"deep": [items]}})
    assert len(kept["x"]["deep"][0]) == len(items)
    assert not set(items) & set(kept["x"]["deep"][0])


def test_an_error_quotes_no_value_where_anything_is_redacted():
    error = InvalidInput(f"Column `age`, row 0: {CANARY} breaks the rule `dtype INT64`.",
                         column="age", rule="dtype INT64", value=CANARY)  # fmt: skip
    told = redaction_of(How.HASH).error(error)
    assert type(told) is InvalidInput
    assert str(told) == "Column `age` breaks the rule `dtype INT64`."
    assert CANARY not in f"{told.details}"
    assert CANARY not in str(redaction_of(How.DROP).error(ModelFailed(f"it saw {CANARY}")))
    assert NOTHING.error(error) is error


def test_a_label_is_counted_by_its_hash_where_its_output_is_redacted():
    label_of = label_output(SIGNATURE, ModelConfig())
    assert label_of == "label"
    counted = [redaction_of(how, field="label").summary(Summary("ill", 0.5), label_of=label_of)
               for how in How]  # fmt: skip
    assert {one.label for one in counted} == {redaction_of(How.HASH).token("ill")}
    assert {one.score for one in counted} == {0.5}
    untouched = redaction_of(How.HASH, field="email").summary(Summary("ill"), label_of=label_of)
    assert untouched.label == "ill"


def test_a_name_alone_is_dropped_and_the_spec_comes_back_the_same():
    redact = ["email", {"field": "age", "how": "mask", "keep": 1}, "payload.email"]
    spec = spec_of({"name": "e", "model": "m:1", "capture": {"redact": redact}})
    assert spec.capture is not None
    assert spec.capture.rules[0] == Redact(field="email", how=How.DROP)
    assert msgspec.convert(msgspec.to_builtins(spec), type(spec)) == spec
    require_fields(spec.capture, SIGNATURE)
    require_fields(None, SIGNATURE)


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("emial", "Did you mean `email`"),
        ("nothing.like.it", "no input or output"),
        ("age.years", "`age` holds no text"),
        ("a.b.c", "`a.b` holds no text"),
    ],
)
def test_a_field_that_is_not_there_is_refused_with_the_nearest(field, words):
    with pytest.raises(InvalidSpec, match=words) as caught:
        require_fields(Capture(redact=(field,)), SIGNATURE)
    assert "`email`, `age`" in caught.value.next_step


def test_a_name_with_a_dot_is_a_name_first():
    require_fields(Capture(redact=("a.b",)), SIGNATURE)
    rules = Redaction(Capture(redact=("a.b",)), KEY)
    assert rules.arrays({"a.b": np.zeros(1), "a": texts('{"b": 1}')}).keys() == {"a"}


def test_two_rules_for_one_field_are_refused():
    with pytest.raises(InvalidSpec, match="two rules"):
        require_fields(Capture(redact=("age", Redact(field="age", how=How.HASH))), SIGNATURE)


def test_an_unknown_key_of_capture_is_refused_with_the_nearest():
    with pytest.raises(InvalidSpec, match=r"Did you mean `capture.redact`"):
        spec_of({"name": "e", "model": "m:1", "capture": {"redacted": ["x"]}})
